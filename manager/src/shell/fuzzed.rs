//! What this crate reads of bytes from outside, for the fuzzer (`fuzz/`), and for the tests below, which run what it kept.

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_base::version::{self, Spoken};
use firesteel_base::{JobId, Timestamp};
use firesteel_protocol::channel::check_version;
use firesteel_protocol::{MalformedMessage, v1};
use prost::Message;

use super::journal::KeptJob;
use super::{inbound, outbound, replication};
use crate::ManagerConfig;
use crate::config::lease_seed;
use crate::machine::Machine;
use crate::machine::message::{DriverEvent, Effect, Event, SessionId, ToDriver, WorkerEvent};
use crate::machine::rights::Rights;

/// A manager that hears workers and drivers, as bytes.
#[derive(Debug)]
pub struct Conversation {
    machine: Machine,
    now: Timestamp,
    sessions: u64,
    workers: BTreeMap<u8, SessionId>,
    drivers: BTreeMap<u8, SessionId>,
    has_lent: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            machine: Machine::new(config()),
            now: Timestamp::default(),
            sessions: 0,
            workers: BTreeMap::new(),
            drivers: BTreeMap::new(),
            has_lent: false,
        }
    }
}

/// The same at each run.
fn config() -> ManagerConfig {
    let epoch_seed = 1 << 40;
    ManagerConfig { epoch_seed, lease_seed: lease_seed(epoch_seed), ..ManagerConfig::default() }
}

impl Conversation {
    /// So many seconds pass.
    pub fn time(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.step(Event::Tick);
    }

    /// A worker of that number says something; nothing when its stream ends.
    pub fn worker(&mut self, number: u8, bytes: &[u8]) {
        let open = self.workers.get(&number).copied();
        let said = Some(bytes).filter(|bytes| !bytes.is_empty());
        let said = said.and_then(|bytes| v1::WorkerToManager::decode(bytes).ok());
        let event = match (open, said) {
            (Some(_), Some(said)) => inbound::worker_event(said).ok(),
            (None, Some(said)) => worker_greets(said),
            (_, None) => None,
        };
        match (open, event) {
            (Some(id), Some(event)) => self.step(Event::Worker(id, event)),
            (Some(id), None) => {
                self.workers.remove(&number);
                self.step(Event::Worker(id, WorkerEvent::StreamLost));
            }
            (None, Some(event)) => {
                let id = self.next_session();
                self.workers.insert(number, id);
                self.step(Event::Worker(id, event));
            }
            (None, None) => {}
        }
    }

    /// The same of a driver.
    pub fn driver(&mut self, number: u8, bytes: &[u8]) {
        let open = self.drivers.get(&number).copied();
        let said = Some(bytes).filter(|bytes| !bytes.is_empty());
        let said = said.and_then(|bytes| v1::DriverToManager::decode(bytes).ok());
        let event = match (open, said) {
            (Some(_), Some(said)) => inbound::driver_event(said).ok(),
            (None, Some(said)) => driver_greets(said),
            (_, None) => None,
        };
        match (open, event) {
            (Some(id), Some(event)) => self.step(Event::Driver(id, event)),
            (Some(id), None) => {
                self.drivers.remove(&number);
                self.step(Event::Driver(id, DriverEvent::StreamLost));
            }
            (None, Some(event)) => {
                let id = self.next_session();
                self.drivers.insert(number, id);
                self.step(Event::Driver(id, event));
            }
            (None, None) => {}
        }
    }

    /// Whether a driver was lent something.
    #[must_use]
    pub fn has_lent(&self) -> bool {
        self.has_lent
    }

    fn next_session(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId(self.sessions)
    }

    fn step(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.machine.step(self.now, event, &mut effects);
        self.machine.check();
        for effect in effects {
            self.tell(effect);
        }
        show_all(&self.machine, self.now);
    }

    fn tell(&mut self, effect: Effect) {
        let heartbeat = Duration::from_secs(2);
        match effect {
            Effect::ToWorker(_, told) => {
                drop(outbound::to_worker(told, heartbeat, (version::WIRE_OLDEST, 1), false).encode_to_vec());
            }
            Effect::ToDriver(_, told) => {
                self.has_lent |= matches!(told, ToDriver::Grant(_));
                drop(outbound::to_driver(told, heartbeat, 1, version::WIRE_OLDEST).encode_to_vec());
            }
            Effect::EndSession(ended, _) | Effect::Refuse(ended, _) => {
                self.workers.retain(|_, id| *id != ended);
                self.drivers.retain(|_, id| *id != ended);
            }
            Effect::Answer(..)
            | Effect::JobEnded(_)
            | Effect::Keep { .. }
            | Effect::Forget(_)
            | Effect::Note(_) => {}
        }
    }
}

fn worker_greets(said: v1::WorkerToManager) -> Option<WorkerEvent> {
    let Some(v1::worker_to_manager::Message::Register(register)) = said.message else { return None };
    let wire = check_version("worker", Spoken::said(register.wire_version, register.wire_newest), "").ok()?;
    inbound::registration(register, wire).ok().map(WorkerEvent::Register)
}

fn driver_greets(said: v1::DriverToManager) -> Option<DriverEvent> {
    let Some(v1::driver_to_manager::Message::Hello(hello)) = &said.message else { return None };
    check_version("driver", Spoken::said(hello.wire_version, hello.wire_newest), "").ok()?;
    let greeting: Result<_, MalformedMessage> = inbound::greeting(said, Rights::All);
    greeting.ok()
}

/// What clients are shown.
fn show_all(machine: &Machine, now: Timestamp) {
    let unix_ms = 1_700_000_000_000;
    for job in machine.jobs(true) {
        drop(outbound::job_info(machine, job, unix_ms, false).encode_to_vec());
    }
    for node in machine.nodes().iter() {
        drop(outbound::node_info(machine, node, now).encode_to_vec());
    }
}

/// Reads what managers keep, and what they tell each other: a byte that chooses what it is, and JSON. Tells whether it is that.
///
/// # Panics
/// When a reader is at fault.
#[must_use]
pub fn journal(input: &[u8]) -> bool {
    match input.split_first() {
        Some((0, json)) => kept_job(json),
        Some((&kind, json)) => replication::fuzzed::read(kind, json),
        None => false,
    }
}

/// A job that another manager goes on with.
fn kept_job(json: &[u8]) -> bool {
    let Ok(kept) = KeptJob::from_json(json) else { return false };
    assert_eq!(KeptJob::from_json(&kept.to_json()).as_ref(), Ok(&kept), "it is kept as it was read");
    let Ok(job) = kept.into_job(JobId(7)) else { return false };
    let again = KeptJob::of(&job).into_job(JobId(7)).expect("what was a job is one");
    assert_eq!(KeptJob::of(&again), KeptJob::of(&job));
    let mut now = Timestamp(1_000_000);
    let mut machine = Machine::restore(config(), vec![job], 7, now);
    for _ in 0..3 {
        machine.check();
        show_all(&machine, now);
        now = now + Duration::from_secs(20);
        machine.step(now, Event::Tick, &mut Vec::new());
    }
    true
}

#[cfg(test)]
#[path = "../../../fuzz/src"]
mod tests {
    #[path = "change.rs"]
    mod change;
    #[path = "journal.rs"]
    mod journal;
    #[path = "../../shuffle/tests/kept/mod.rs"]
    mod kept;
    #[path = "sessions.rs"]
    mod sessions;

    use std::path::Path;

    use super::Conversation;
    use kept::{changed_all, corpus_in, hold};
    use sessions::Said;

    /// Changes of each kept input.
    const CHANGES: u64 = 40;
    /// The largest corpus, in bytes.
    const BYTES_MAX: usize = 200 << 10;

    fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        corpus_in(&folder, 20, BYTES_MAX, 1)
    }

    fn run_sessions(input: &[u8]) -> bool {
        let mut conversation = Conversation::default();
        for said in sessions::parse(input) {
            match said {
                Said::Time(seconds) => conversation.time(seconds),
                Said::Worker(number, bytes) => conversation.worker(number, &bytes),
                Said::Driver(number, bytes) => conversation.driver(number, &bytes),
            }
        }
        conversation.has_lent()
    }

    #[test]
    fn a_manager_survives_what_workers_and_drivers_say() {
        let lent = (0..200).filter(|seed| run_sessions(&sessions::valid(*seed))).count();
        assert!(lent > 100, "{lent} of 200 conversations that make sense");
        let kept = corpus("sessions");
        assert!(hold(&kept, run_sessions) > 0, "nothing was lent");
        assert!(changed_all(&kept, CHANGES, sessions::change, run_sessions) > 0, "nothing was lent");
    }

    #[test]
    fn journals_and_what_managers_tell_each_other_are_read_or_refused() {
        for seed in 0..400 {
            let valid = journal::valid(seed);
            let text = String::from_utf8_lossy(&valid);
            assert!(super::journal(&valid), "{seed}: {text}");
        }
        let kept = corpus("journal");
        assert!(hold(&kept, super::journal) > 0, "nothing was read");
        assert!(changed_all(&kept, 10 * CHANGES, journal::change, super::journal) > 0, "nothing was read");
    }
}
