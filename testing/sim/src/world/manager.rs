//! The manager's process: the real machine, and its shell's part of sessions.
//!
//! What the shell does is modelled: a session begins with the greeting on a connection, ends with it or when the machine says
//! so, and no message of one that has ended reaches the machine. What changes of jobs is written at each tick, and how a job
//! ended is acknowledged when it is written. While the journal is written nothing else is done, and nobody hears of what is not
//! written. A manager that is started again, or begins to lead, begins with what was.

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_base::{JobId, Timestamp};
use firesteel_driver::machine::Life;
use firesteel_manager::ManagerConfig;
use firesteel_manager::machine::Machine;
use firesteel_manager::machine::message::{
    Answer, ClientRequest, DriverEvent, Effect, Event, Note, SessionId, Submission, Ticket, ToDriver,
    WorkerEvent,
};
use firesteel_manager::machine::rights::Rights;

use super::{Scene, Timer};
use crate::channel::{Asked, Conn, Message, Proc, Told};
use crate::known;
use crate::mutation::{self, Kind as Mutant};

/// How often it looks at its time-outs: as its shell does, for the default ones.
const TICK: Duration = Duration::from_secs(1);
/// A tick may come so much late before it is said to have stood still.
const STARVED: Duration = Duration::from_millis(500);

/// A running manager.
#[derive(Debug)]
pub struct Manager {
    /// Its process.
    pub proc: Proc,
    /// Which run it is; later ones have larger numbers.
    pub run: u64,
    machine: Machine,
    sessions: BTreeMap<Conn, (SessionId, Kind)>,
    opened: u64,
    tickets: u64,
    /// Clients that wait for an answer.
    asked: BTreeMap<Ticket, Conn>,
    /// What is done once the journal has what it writes.
    writing: Option<Vec<Effect>>,
    /// When it looked at its time-outs last.
    ticked: Timestamp,
    /// Ends of jobs that are not written yet.
    unwritten_ends: Vec<(SessionId, JobId)>,
    /// When it ended each job.
    pub ended: BTreeMap<JobId, Timestamp>,
    /// When it heard of the end of each executor's life.
    pub gone: BTreeMap<Life, Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Worker,
    Driver,
}

impl Manager {
    /// A manager that was just started, and gives out epochs above `epoch_seed`.
    pub fn start(proc: Proc, epoch_seed: u64, scene: &mut Scene) -> Self {
        Self::begin(proc, ManagerConfig::default(), epoch_seed, scene)
    }

    /// One of several that begins to lead, as `replication/office.rs` has it.
    pub fn lead(proc: Proc, epoch_seed: u64, scene: &mut Scene) -> Self {
        let (claim_wait, returning_wait) = (Duration::from_secs(1), Duration::from_secs(2));
        Self::begin(
            proc,
            ManagerConfig { claim_wait, returning_wait, ..ManagerConfig::default() },
            epoch_seed,
            scene,
        )
    }

    fn begin(proc: Proc, config: ManagerConfig, epoch_seed: u64, scene: &mut Scene) -> Self {
        let config = ManagerConfig { epoch_seed, lease_seed: epoch_seed << 20, ..config };
        let now = scene.clock(proc);
        let jobs = scene.journal.reopen(&mut scene.chance);
        let (jobs, numbered) = match known::keeps_nothing(scene.shows_known) {
            true => (Vec::new(), 0),
            false => (jobs, scene.journal.numbered()),
        };
        scene.wake(proc, TICK, Timer::ManagerTick(epoch_seed));
        // Numbers are reserved before the first is given.
        scene.journal.begin_write(numbered, &mut scene.chance);
        scene.journal.commit();
        scene.check.manager_started(epoch_seed);
        scene.tell(proc, || format!("starts, knowing of {} jobs", jobs.len()));
        Self {
            proc,
            run: epoch_seed,
            asked: BTreeMap::new(),
            writing: None,
            machine: Machine::restore(config, jobs, numbered, now),
            ticked: now,
            unwritten_ends: Vec::new(),
            sessions: BTreeMap::new(),
            opened: 0,
            tickets: 0,
            ended: BTreeMap::new(),
            gone: BTreeMap::new(),
        }
    }

    /// Its machine.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A message comes in.
    pub fn hear(&mut self, conn: Conn, message: Message, scene: &mut Scene) {
        if let Message::Asked(asked) = message {
            return self.answer(conn, asked, scene);
        }
        let kind = match &message {
            Message::OfWorker(_) => Kind::Worker,
            _ => Kind::Driver,
        };
        let session = self.session(conn, kind);
        match message {
            Message::OfWorker(event) => self.step(Event::Worker(session, event), scene),
            Message::OfDriver(event) => self.step(Event::Driver(session, event), scene),
            other => unreachable!("nobody says {other:?} to the manager"),
        }
    }

    fn answer(&mut self, conn: Conn, asked: Asked, scene: &mut Scene) {
        match asked {
            Asked::Submit(sql) => {
                let (name, user) = (sql.clone(), "client".to_owned());
                let request = ClientRequest::Submit(Submission { name, sql, user, ..Submission::default() });
                self.asked.insert(Ticket(self.tickets + 1), conn);
                self.ask(request, scene);
            }
            Asked::State(job) => {
                let job = self.machine.job(job).cloned().map(Box::new);
                scene.send(conn, 1, Message::Told(Told::State(job)));
            }
            Asked::Result(_) => unreachable!("workers keep results"),
        }
    }

    fn session(&mut self, conn: Conn, kind: Kind) -> SessionId {
        if let Some((session, _)) = self.sessions.get(&conn) {
            return *session;
        }
        self.opened += 1;
        let session = SessionId(self.opened);
        self.sessions.insert(conn, (session, kind));
        session
    }

    /// A connection is broken.
    pub fn lose(&mut self, conn: Conn, scene: &mut Scene) {
        self.asked.retain(|_, asked| *asked != conn);
        match self.sessions.remove(&conn) {
            Some((session, Kind::Worker)) => {
                self.step(Event::Worker(session, WorkerEvent::StreamLost), scene);
            }
            Some((session, Kind::Driver)) => {
                self.step(Event::Driver(session, DriverEvent::StreamLost), scene);
            }
            None => {}
        }
    }

    /// It looks at its time-outs.
    pub fn tick(&mut self, scene: &mut Scene) {
        scene.wake(self.proc, TICK, Timer::ManagerTick(self.run));
        let now = scene.clock(self.proc);
        let gap = now - self.ticked;
        if gap > 2 * TICK + STARVED {
            scene.tell(self.proc, || format!("has stood still for {gap:?}"));
            self.step(Event::Absence(gap - TICK), scene);
        }
        self.ticked = now;
        self.step(Event::Tick, scene);
        if self.writing.is_none() {
            self.write(Vec::new(), scene);
        }
    }

    /// Whether it waits for the journal, and for nothing else.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    fn write(&mut self, after: Vec<Effect>, scene: &mut Scene) {
        let takes = scene.journal.begin_write(self.machine.numbered(), &mut scene.chance);
        self.writing = Some(after);
        match takes {
            Some(takes) => scene.wake(self.proc, takes, Timer::JournalWritten(self.run)),
            None => self.written(scene),
        }
    }

    /// The journal has what it was given: all that waits for it is done.
    pub fn written(&mut self, scene: &mut Scene) {
        let Some(effects) = self.writing.take() else { return };
        if scene.mutation.as_mut().is_some_and(|mutation| mutation.kind == Mutant::LoseWrite) {
            scene.journal.pretend();
        } else {
            scene.journal.commit();
        }
        for (session, job) in std::mem::take(&mut self.unwritten_ends) {
            self.say_to_driver(session, ToDriver::JobClosed(job), scene);
        }
        self.perform_all(effects, scene);
    }

    /// It does not lead any more: every session ends.
    pub fn leave(self, scene: &mut Scene) {
        for conn in self.sessions.keys().chain(self.asked.values()) {
            scene.close(*conn, 1);
        }
    }

    /// A client asks for something.
    pub fn ask(&mut self, request: ClientRequest, scene: &mut Scene) {
        self.tickets += 1;
        self.step(Event::Client(Ticket(self.tickets), Rights::All, request), scene);
    }

    fn step(&mut self, event: Event, scene: &mut Scene) {
        let now = scene.clock(self.proc);
        scene.check.manager_hears(&event);
        let mut effects = Vec::new();
        self.machine.step(now, event, &mut effects);
        mutation::of_manager(scene.mutation.as_mut(), &mut effects);
        self.machine.check();
        if self.keep(&effects, scene) {
            self.write(effects, scene);
        } else {
            self.perform_all(effects, scene);
        }
    }

    fn perform_all(&mut self, effects: Vec<Effect>, scene: &mut Scene) {
        for effect in effects {
            scene.check.manager_says(self.run, &effect, &self.machine);
            self.perform(effect, scene);
        }
    }

    /// Notes which jobs changed. Whether they are to be written before anybody hears of it.
    fn keep(&mut self, effects: &[Effect], scene: &mut Scene) -> bool {
        for effect in effects {
            match effect {
                Effect::Keep { job, .. } | Effect::Forget(job) => {
                    scene.journal.note(*job, self.machine.job(*job).cloned());
                }
                _ => {}
            }
        }
        effects.iter().any(|effect| matches!(effect, Effect::Keep { at_once: true, .. }))
    }

    fn perform(&mut self, effect: Effect, scene: &mut Scene) {
        match effect {
            Effect::ToDriver(session, ToDriver::JobClosed(job)) if scene.journal.has_unwritten() => {
                self.unwritten_ends.push((session, job));
            }
            Effect::ToWorker(session, message) => {
                self.say(session, Message::ToWorker(self.run, message), scene)
            }
            Effect::ToDriver(session, message) => self.say_to_driver(session, message, scene),
            Effect::Refuse(session, refusal) => {
                scene.tell(self.proc, || format!("refuses a session: {refusal}"));
                self.end(session, scene);
            }
            Effect::EndSession(session, reason) => {
                scene.tell(self.proc, || format!("ends a session: {reason}"));
                self.end(session, scene);
            }
            Effect::Answer(ticket, answer) => {
                scene.tell(self.proc, || format!("answers a client: {answer:?}"));
                if let Some(conn) = self.asked.remove(&ticket) {
                    let told = match answer {
                        Ok(Answer::Job(job)) => Ok(job),
                        Ok(Answer::Worker(worker)) => unreachable!("{worker} is no job"),
                        Err(refusal) => Err(refusal.to_string()),
                    };
                    scene.send(conn, 1, Message::Told(Told::Submitted(told)));
                }
            }
            Effect::JobEnded(job) => {
                self.ended.insert(job, scene.now());
                scene.tell(self.proc, || format!("{job} has ended"));
            }
            Effect::Note(note) => self.note(&note, scene),
            // It was done before all others.
            Effect::Keep { .. } | Effect::Forget(_) => {}
        }
    }

    fn note(&mut self, note: &Note, scene: &mut Scene) {
        if let Note::ExecutorGone { executor, epoch, .. } = note {
            self.gone.insert(Life { executor: executor.clone(), epoch: *epoch }, scene.now());
        }
        scene.tell(self.proc, || noted(note));
    }

    fn say_to_driver(&mut self, session: SessionId, message: ToDriver, scene: &mut Scene) {
        self.say(session, Message::ToDriver(self.run, message), scene);
    }

    fn say(&mut self, session: SessionId, message: Message, scene: &mut Scene) {
        if let Some(conn) = self.conn(session) {
            scene.send(conn, 1, message);
        }
    }

    fn end(&mut self, session: SessionId, scene: &mut Scene) {
        if let Some(conn) = self.conn(session) {
            self.sessions.remove(&conn);
            scene.close(conn, 1);
        }
    }

    fn conn(&self, session: SessionId) -> Option<Conn> {
        self.sessions.iter().find(|(_, (known, _))| *known == session).map(|(conn, _)| *conn)
    }
}

fn noted(note: &Note) -> String {
    match note {
        Note::WorkerChanged { worker, state, reason } => format!("worker {worker} is {state}: {reason}"),
        Note::ExecutorUp { executor, epoch } => format!("{executor} is up, {epoch}"),
        Note::ExecutorGone { executor, epoch, reason } => format!("{executor} ({epoch}) is gone: {reason}"),
        Note::JobAdded { job, name } => format!("{job} is opened: {name}"),
    }
}
