//! The manager's process: its machine, and the coding of what it hears and says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use firesteel_base::{Timestamp, version};
use firesteel_manager::ManagerConfig;
use firesteel_manager::machine::Machine;
use firesteel_manager::machine::message::{
    DriverEvent, Effect, Event, SessionId, ToDriver, ToWorker, WorkerEvent,
};
use firesteel_manager::shell::wire;
use firesteel_protocol::v1::{self, driver_to_manager, worker_to_manager};
use prost::Message;

use super::{Allocated, Scale, Tally};

/// Where the epochs of this manager begin.
const EPOCH_SEED: u64 = 1_700_000_000_000;

/// A message on its way to the manager.
pub struct Inbound {
    pub session: SessionId,
    pub is_worker: bool,
    /// None at the end of the session.
    pub bytes: Option<Vec<u8>>,
}

/// A message on its way from the manager.
pub struct Outbound {
    pub session: SessionId,
    pub bytes: Vec<u8>,
}

pub struct Manager {
    machine: Machine,
    heartbeat: Duration,
    /// How many events its shell takes in at a time.
    batch: usize,
    allocated: Allocated,
    /// Bytes that it has allocated now.
    bytes: i64,
}

impl Manager {
    pub fn new(scale: &Scale, allocated: Allocated) -> Self {
        let mut config = ManagerConfig { epoch_seed: EPOCH_SEED, lease_seed: 0, ..ManagerConfig::default() };
        config.limits.nodes = config.limits.nodes.max(scale.nodes as usize);
        config.limits.drivers = config.limits.drivers.max(scale.jobs as usize);
        config.limits.live_jobs = config.limits.live_jobs.max(scale.jobs as usize);
        config.limits.open_jobs = config.limits.open_jobs.max(scale.jobs as usize);
        let (heartbeat, batch) = (config.heartbeat, config.limits.batch);
        let before = allocated();
        let machine = Machine::new(config);
        Self { machine, heartbeat, batch, allocated, bytes: grown(before, allocated()) }
    }

    /// Bytes that it has allocated now.
    pub fn bytes(&self) -> i64 {
        self.bytes
    }

    /// Takes in all that has come, and returns what it says.
    pub fn turn(
        &mut self,
        now: Timestamp,
        inbox: Vec<Inbound>,
        is_tick: bool,
        tally: &mut Tally,
    ) -> Vec<Outbound> {
        tally.inbox_max = tally.inbox_max.max(inbox.len() as u64);
        let before = (self.allocated)().saturating_sub(tally.memory_bytes());
        let came: usize = inbox.iter().filter_map(|inbound| inbound.bytes.as_ref()).map(Vec::capacity).sum();
        let mut said = Vec::new();
        if is_tick {
            self.step(now, vec![Event::Tick], &mut said, tally);
        }
        let mut inbox = inbox.into_iter();
        while inbox.len() > 0 {
            let began = Instant::now();
            let events = inbox.by_ref().take(self.batch).map(|inbound| heard(inbound, tally)).collect();
            tally.coding += began.elapsed();
            self.step(now, events, &mut said, tally);
        }
        let goes: usize = said.iter().map(|outbound| outbound.bytes.capacity()).sum();
        let list = said.capacity() * size_of::<Outbound>();
        let after = (self.allocated)().saturating_sub(tally.memory_bytes());
        self.bytes += grown(before, after) + signed(came) - signed(goes + list);
        note_session_max(&said, tally);
        said
    }

    fn step(&mut self, now: Timestamp, events: Vec<Event>, said: &mut Vec<Outbound>, tally: &mut Tally) {
        let mut effects = Vec::new();
        for event in events {
            let is_beat = matches!(event, Event::Worker(_, WorkerEvent::Heartbeat(_)));
            let began = Instant::now();
            self.machine.hear(now, event, &mut effects);
            let took = began.elapsed();
            tally.taking.note(took);
            if is_beat {
                tally.beats.note(took);
            }
        }
        let began = Instant::now();
        self.machine.settle(now, &mut effects);
        let took = began.elapsed();
        if effects.iter().any(is_grant) {
            tally.lending.note(took)
        } else {
            tally.idling.note(took)
        }
        tally.work = self.machine.work();
        let began = Instant::now();
        said.extend(effects.into_iter().filter_map(|effect| self.say(effect, tally)));
        tally.coding += began.elapsed();
    }

    fn say(&self, effect: Effect, tally: &mut Tally) -> Option<Outbound> {
        let (kind, session, bytes) = match effect {
            Effect::ToWorker(session, message) => {
                let kind = kind_to_worker(&message);
                let message = wire::to_worker(message, self.heartbeat, (version::WIRE, EPOCH_SEED), false);
                (kind, session, message.encode_to_vec())
            }
            Effect::ToDriver(session, message) => {
                if let ToDriver::Grant(grant) = &message {
                    tally.grants += 1;
                    tally.slots_lent += u64::from(grant.tasks);
                }
                let kind = kind_to_driver(&message);
                let message = wire::to_driver(message, self.heartbeat, EPOCH_SEED, version::WIRE);
                (kind, session, message.encode_to_vec())
            }
            Effect::Refuse(_, refusal) => panic!("the manager refuses a session: {refusal}"),
            // Of drivers that have hung up.
            Effect::EndSession(..)
            | Effect::Answer(..)
            | Effect::JobEnded(_)
            | Effect::Keep { .. }
            | Effect::Forget(_)
            | Effect::Note(_) => return None,
        };
        tally.from_manager.note(kind, bytes.len());
        Some(Outbound { session, bytes })
    }
}

fn is_grant(effect: &Effect) -> bool {
    matches!(effect, Effect::ToDriver(_, ToDriver::Grant(_)))
}

fn note_session_max(said: &[Outbound], tally: &mut Tally) {
    let mut sessions: BTreeMap<SessionId, u64> = BTreeMap::new();
    for outbound in said {
        *sessions.entry(outbound.session).or_default() += 1;
    }
    tally.session_max = tally.session_max.max(sessions.into_values().max().unwrap_or(0));
}

fn heard(inbound: Inbound, tally: &mut Tally) -> Event {
    let Inbound { session, is_worker, bytes } = inbound;
    let Some(bytes) = bytes else { return Event::Driver(session, DriverEvent::StreamLost) };
    if is_worker {
        let message = v1::WorkerToManager::decode(&bytes[..]).expect("it was encoded here");
        tally.to_manager.note(kind_of_worker(&message), bytes.len());
        let event = match message.message {
            Some(worker_to_manager::Message::Register(register)) => {
                wire::registration(register, version::WIRE).map(WorkerEvent::Register)
            }
            _ => wire::worker_event(message),
        };
        return Event::Worker(session, event.expect("what the cluster's model says makes sense"));
    }
    let message = v1::DriverToManager::decode(&bytes[..]).expect("it was encoded here");
    tally.to_manager.note(kind_of_driver(&message), bytes.len());
    let event: DriverEvent = wire::driver_event(message).expect("what the cluster's model says makes sense");
    Event::Driver(session, event)
}

fn kind_of_worker(message: &v1::WorkerToManager) -> &'static str {
    use worker_to_manager::Message;
    match &message.message {
        Some(Message::Register(_)) => "register",
        Some(Message::Heartbeat(_)) => "worker heartbeat",
        Some(Message::ExecutorUp(_)) => "executor up",
        Some(
            Message::ExecutorDown(_) | Message::DriverEnded(_) | Message::Leaving(_) | Message::Drain(_),
        )
        | None => "other",
    }
}

fn kind_of_driver(message: &v1::DriverToManager) -> &'static str {
    use driver_to_manager::Message;
    match &message.message {
        Some(Message::Hello(_)) => "hello",
        Some(Message::OpenJob(_)) => "open job",
        Some(Message::Demand(_)) => "demand",
        Some(Message::LessDemand(_)) => "less demand",
        Some(Message::Release(_)) => "release",
        Some(Message::CloseJob(_)) => "close job",
        Some(Message::Heartbeat(_)) => "driver heartbeat",
        Some(Message::DrainProgress(_)) | None => "other",
    }
}

fn kind_to_worker(message: &ToWorker) -> &'static str {
    match message {
        ToWorker::Registered => "registered",
        ToWorker::ExecutorEpoch { .. } => "executor epoch",
        _ => "other",
    }
}

fn kind_to_driver(message: &ToDriver) -> &'static str {
    match message {
        ToDriver::Welcome(_) => "welcome",
        ToDriver::JobOpened { .. } => "job opened",
        ToDriver::JobClosed(_) => "job closed",
        ToDriver::Grant(_) => "grant",
        ToDriver::Revoke { .. } => "revoke",
        ToDriver::ClusterChanged(_) => "cluster changed",
        ToDriver::ExecutorGone { .. } | ToDriver::CancelJob { .. } | ToDriver::DemandRefused { .. } => {
            "other"
        }
    }
}

/// By how much memory has grown.
pub fn grown(before: usize, after: usize) -> i64 {
    signed(after) - signed(before)
}

pub fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
