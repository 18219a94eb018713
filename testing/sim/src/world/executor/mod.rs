//! An executor's process: a model of its sessions, registry and attempts, around the real pool of cores.
//!
//! ```text
//!   driver ══ stream ══► Attach ─ waits for the epoch ─► attached ─► PutStage, Launch, Cancel, Free..
//!                                                                         │
//!                             reports, to whoever owns the job ◄── runs ──┴─► blocks, once committed
//! ```
//!
//! The executor's own control logic is written with tasks and cancellation tokens, so it cannot be stepped. This follows it
//! closely: who owns a job, what a launch says of an attempt that is known, what a later epoch ends, how long a driver whose
//! stream broke may take to come back.

mod registry;
mod run;
mod running;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firesteel_base::{AttemptKey, Class, Epoch, ExecutorId, JobId, StageKey, UserError};
use firesteel_driver::machine::{AttemptFailure, Launch, Life};
use firesteel_executor::cores::CorePool;

use super::store::Store;
use super::{Scene, Timer};
use crate::channel::{Conn, Host, Located, Message, Proc, Speaker, Stated};
use registry::{Begun, Claim, Registry, Session, Voice};
pub use run::{Phase, Run};
use take::Take;

const EPOCH_WAIT: Duration = Duration::from_secs(5);
const SESSION_GRACE: Duration = Duration::from_secs(3);
const ATTEMPTS_WAITING_MAX: usize = 1024;

/// A running executor.
#[derive(Debug)]
pub struct Executor {
    /// Its process.
    pub proc: Proc,
    /// Which it is.
    pub id: ExecutorId,
    /// Its host.
    pub host: Host,
    /// Its epoch, once it was told.
    pub epoch: Option<Epoch>,
    /// What it holds.
    pub store: Store,
    /// Its memory.
    pub memory: u64,
    past: BTreeSet<Epoch>,
    pool: CorePool,
    registry: Registry,
    /// Streams of drivers by their connection.
    sessions: BTreeMap<Conn, Voice>,
    /// Drivers that wait for an epoch, and what they have said meanwhile.
    waiting: BTreeMap<Conn, (Epoch, Speaker, Vec<Message>)>,
    runs: BTreeMap<u64, Run>,
    /// Outputs that are taken over.
    takes: BTreeMap<u64, Take>,
    /// Where outputs are that have moved.
    moved: BTreeMap<AttemptKey, Life>,
    /// Who is gone for good.
    gone: BTreeSet<Life>,
    numbered: u64,
}

impl Executor {
    /// An executor that was just started.
    pub fn start(proc: Proc, id: ExecutorId, host: Host, cores: u32, memory: u64) -> Self {
        Self {
            proc,
            id,
            host,
            epoch: None,
            store: Store::default(),
            memory,
            past: BTreeSet::new(),
            pool: CorePool::new(cores as usize, ATTEMPTS_WAITING_MAX),
            registry: Registry::default(),
            sessions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            runs: BTreeMap::new(),
            takes: BTreeMap::new(),
            moved: BTreeMap::new(),
            gone: BTreeSet::new(),
            numbered: 0,
        }
    }

    /// Whether this process was in that epoch before.
    #[must_use]
    pub fn was_in(&self, epoch: Epoch) -> bool {
        self.past.contains(&epoch)
    }

    /// Attempts that run or wait, and outputs that are taken over.
    #[must_use]
    pub fn running(&self) -> usize {
        self.runs.len() + self.takes.len()
    }

    /// Whether it has nothing of any job.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobId> {
        let held = self.store.keys().into_iter().map(|key| key.job());
        let run = self.runs.values().map(|run| run.key.job());
        self.registry.jobs().into_iter().chain(held).chain(run).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Its worker tells it the epoch of its life.
    pub fn set_epoch(&mut self, epoch: Epoch, scene: &mut Scene) {
        if self.epoch.is_some_and(|known| known >= epoch) {
            return;
        }
        scene.tell(self.proc, || format!("is in {epoch}"));
        self.past.extend(self.epoch);
        self.epoch = Some(epoch);
        for job in self.jobs() {
            self.free_job(job, scene);
        }
        for (conn, voice) in std::mem::take(&mut self.sessions) {
            scene.close(conn, 1);
            self.grace(voice.session, scene);
        }
        for (conn, (wanted, speaker, said)) in std::mem::take(&mut self.waiting) {
            match wanted.cmp(&epoch) {
                std::cmp::Ordering::Less => scene.close(conn, 1),
                std::cmp::Ordering::Equal => self.attach(conn, speaker, said, scene),
                std::cmp::Ordering::Greater => {
                    self.waiting.insert(conn, (wanted, speaker, said));
                }
            }
        }
    }

    /// A message of a driver.
    pub fn hear(&mut self, conn: Conn, message: Message, scene: &mut Scene) {
        if let Message::Attach(epoch, speaker) = message {
            return self.greet(conn, epoch, speaker, scene);
        }
        if let Some((.., said)) = self.waiting.get_mut(&conn) {
            return said.push(message);
        }
        if let Some(voice) = self.sessions.get(&conn).copied() {
            self.obey(conn, voice, message, scene);
        }
    }

    fn greet(&mut self, conn: Conn, epoch: Epoch, speaker: Speaker, scene: &mut Scene) {
        match self.epoch {
            Some(known) if known == epoch => self.attach(conn, speaker, Vec::new(), scene),
            Some(known) if known > epoch => {
                scene.tell(self.proc, || format!("refuses a driver that means {epoch}: it is in {known}"));
                scene.close(conn, 1);
            }
            _ => {
                self.waiting.insert(conn, (epoch, speaker, Vec::new()));
                scene.wake(self.proc, EPOCH_WAIT, Timer::EpochWaited(conn));
            }
        }
    }

    /// The epoch that a driver named has not come in time.
    pub fn epoch_waited(&mut self, conn: Conn, scene: &mut Scene) {
        if self.waiting.remove(&conn).is_some() {
            scene.tell(self.proc, || "refuses a driver: the epoch that it means has not come".to_owned());
            scene.close(conn, 1);
        }
    }

    fn attach(&mut self, conn: Conn, speaker: Speaker, said: Vec<Message>, scene: &mut Scene) {
        self.numbered += 1;
        let voice = Voice { session: self.numbered, speaker };
        self.sessions.insert(conn, voice);
        scene.send(conn, 1, Message::Attached);
        for message in said {
            self.obey(conn, voice, message, scene);
        }
    }

    /// A connection is broken.
    pub fn lose(&mut self, conn: Conn, scene: &mut Scene) {
        self.waiting.remove(&conn);
        if let Some(voice) = self.sessions.remove(&conn) {
            self.grace(voice.session, scene);
        }
    }

    fn grace(&mut self, session: Session, scene: &mut Scene) {
        if !self.registry.owned_by(session).is_empty() {
            scene.wake(self.proc, SESSION_GRACE, Timer::GraceOver(session));
        }
    }

    /// A driver has not come back: what is still that stream's is freed.
    pub fn grace_over(&mut self, session: Session, scene: &mut Scene) {
        for job in self.registry.owned_by(session) {
            scene.tell(self.proc, || format!("frees {job}, whose driver is gone"));
            self.free_job(job, scene);
        }
    }

    fn obey(&mut self, conn: Conn, voice: Voice, message: Message, scene: &mut Scene) {
        match message {
            Message::PutStage(key, work) => {
                if self.claim(key.job, voice, scene) {
                    self.registry.put_stage(key, work);
                }
            }
            Message::Launch(launch) => self.launch(conn, voice, launch, scene),
            Message::MoreInputs(key, more) => {
                if let Some(run) = self.registry.run_of(&key).and_then(|run| self.runs.get_mut(&run)) {
                    run.add(&more);
                    let number = self.registry.run_of(&key).expect("it was just seen");
                    self.go_on(number, scene);
                }
            }
            Message::TakeOutput(output) => self.take_output(conn, voice, output, scene),
            Message::OutputMoved(producer, life) => self.output_moved(producer, life),
            Message::HolderGone(life) => self.holder_gone(life, scene),
            Message::Cancel(key, reason) => {
                let run = self.registry.run_of(&key);
                self.end_early(run, Class::Cancelled, &reason, scene);
            }
            Message::FreeAttempt(key) => self.free_attempt(key, scene),
            Message::FreeStage(key) if self.registry.is_of(key.job, voice.speaker) => {
                self.free_stage(key, scene);
            }
            Message::FreeJob(job) if self.registry.is_of(job, voice.speaker) => self.free_job(job, scene),
            // A later driver has the job.
            Message::FreeStage(_) | Message::FreeJob(_) => {}
            Message::Ping => scene.send(conn, 1, Message::Pong),
            other => unreachable!("no driver says {other:?}"),
        }
    }

    /// Takes a job for a driver, and frees what an earlier one has of it; false when a later one has it.
    fn claim(&mut self, job: JobId, voice: Voice, scene: &mut Scene) -> bool {
        match self.registry.claim(job, voice) {
            Claim::Had => true,
            Claim::Taken(runs) => {
                scene.tell(self.proc, || format!("another driver has {job}: frees what the one before had"));
                for run in runs {
                    self.end_early(Some(run), Class::Cancelled, "another driver runs its job now", scene);
                }
                self.moved.retain(|producer, _| producer.job() != job);
                self.store.free_job(job);
                true
            }
            Claim::Refused => {
                scene.tell(self.proc, || format!("a driver speaks of {job}, which a later one has"));
                false
            }
        }
    }

    fn belongs_to_another(&self, conn: Conn, key: AttemptKey, scene: &mut Scene) {
        let error = UserError::new("a later driver has the job");
        let failure = AttemptFailure { class: Class::Transient, error, lost: None };
        scene.send(conn, 1, Message::Report(key, Stated::Failed(failure)));
    }

    fn launch(&mut self, conn: Conn, voice: Voice, launch: Located<Launch>, scene: &mut Scene) {
        let key = launch.what.attempt;
        if !self.claim(key.job(), voice, scene) {
            return self.belongs_to_another(conn, key, scene);
        }
        let former = self.store.keys().into_iter().filter(|held| held.job() == key.job());
        scene.check.driver_has_job(voice.speaker.driver, former);
        self.numbered += 1;
        match self.registry.begin(key, self.numbered) {
            Begun::Running(run) => {
                scene.send(conn, 1, Message::Report(key, Stated::Started));
                self.hear_again(run, &launch, scene);
            }
            Begun::Ended(report) => scene.send(conn, 1, Message::Report(key, report)),
            Begun::New(work) => self.admit(self.numbered, launch, work, scene),
        }
    }

    /// What came while the driver's stream was cut.
    fn hear_again(&mut self, number: u64, launch: &Located<Launch>, scene: &mut Scene) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        for input in &launch.what.inputs {
            run.add(&Located { what: input.clone(), unknown: launch.unknown.clone() });
        }
        self.go_on(number, scene);
    }

    fn free_attempt(&mut self, key: AttemptKey, scene: &mut Scene) {
        scene.tell(self.proc, || format!("frees {key}"));
        match self.registry.free_attempt(&key) {
            // It discards what it wrote when it ends.
            Some(run) => self.end_early(Some(run), Class::Cancelled, "it was freed", scene),
            None => self.store.free_attempt(&key),
        }
    }

    fn free_stage(&mut self, key: StageKey, scene: &mut Scene) {
        scene.tell(self.proc, || format!("frees {key}"));
        for run in self.registry.free_stage(key) {
            self.end_early(Some(run), Class::Cancelled, "its stage was freed", scene);
        }
        self.store.free_stage(key);
    }

    fn free_job(&mut self, job: JobId, scene: &mut Scene) {
        self.moved.retain(|producer, _| producer.job() != job);
        for run in self.registry.free_job(job) {
            self.end_early(Some(run), Class::Cancelled, "its job was freed", scene);
        }
        self.store.free_job(job);
    }

    fn report(&mut self, key: AttemptKey, report: Stated, scene: &mut Scene) {
        let owner = self.registry.owner(key.job());
        let conn =
            self.sessions.iter().find(|(_, voice)| Some(voice.session) == owner).map(|(conn, _)| *conn);
        if let Some(conn) = conn {
            scene.send(conn, 1, Message::Report(key, report));
        }
    }
}
