//! The manager's process: the real machine, and its shell's part of sessions.
//!
//! What the shell does is modelled: a session begins with the greeting on a connection, ends with it or when the machine says
//! so, and no message of one that has ended reaches the machine. There is no journal: a manager that is started again knows
//! nothing but an epoch above all that were given out.

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_base::{JobId, Timestamp};
use firesteel_driver::machine::Life;
use firesteel_manager::ManagerConfig;
use firesteel_manager::machine::Machine;
use firesteel_manager::machine::message::{
    ClientRequest, DriverEvent, Effect, Event, Note, SessionId, Ticket, WorkerEvent,
};

use super::{Scene, Timer};
use crate::channel::{Conn, Message, Proc};
use crate::mutation;

/// How often it looks at its time-outs: as its shell does, for the default ones.
const TICK: Duration = Duration::from_secs(1);

/// A running manager.
#[derive(Debug)]
pub struct Manager {
    /// Its process.
    pub proc: Proc,
    machine: Machine,
    sessions: BTreeMap<Conn, (SessionId, Kind)>,
    opened: u64,
    tickets: u64,
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
        let config = ManagerConfig { epoch_seed, ..ManagerConfig::default() };
        scene.wake(proc, TICK, Timer::ManagerTick);
        scene.check.manager_started();
        scene.tell(proc, || "starts, knowing nothing".to_owned());
        Self {
            proc,
            machine: Machine::new(config),
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
        scene.wake(self.proc, TICK, Timer::ManagerTick);
        self.step(Event::Tick, scene);
    }

    /// A client asks for something.
    pub fn ask(&mut self, request: ClientRequest, scene: &mut Scene) {
        self.tickets += 1;
        self.step(Event::Client(Ticket(self.tickets), request), scene);
    }

    fn step(&mut self, event: Event, scene: &mut Scene) {
        let now = scene.clock(self.proc);
        scene.check.manager_hears(&event);
        let mut effects = Vec::new();
        self.machine.step(now, event, &mut effects);
        mutation::of_manager(scene.mutation.as_mut(), &mut effects);
        self.machine.check();
        for effect in effects {
            scene.check.manager_says(&effect, &self.machine);
            self.perform(effect, scene);
        }
    }

    fn perform(&mut self, effect: Effect, scene: &mut Scene) {
        match effect {
            Effect::ToWorker(session, message) => self.say(session, Message::ToWorker(message), scene),
            Effect::ToDriver(session, message) => self.say(session, Message::ToDriver(message), scene),
            Effect::Refuse(session, refusal) => {
                scene.tell(self.proc, || format!("refuses a session: {refusal}"));
                self.end(session, scene);
            }
            Effect::EndSession(session, reason) => {
                scene.tell(self.proc, || format!("ends a session: {reason}"));
                self.end(session, scene);
            }
            Effect::Answer(_, answer) => scene.tell(self.proc, || format!("answers a client: {answer:?}")),
            Effect::JobEnded(job) => {
                self.ended.insert(job, scene.now());
                scene.tell(self.proc, || format!("{job} has ended"));
            }
            Effect::Note(note) => self.note(&note, scene),
        }
    }

    fn note(&mut self, note: &Note, scene: &mut Scene) {
        if let Note::ExecutorGone { executor, epoch, .. } = note {
            self.gone.insert(Life { executor: executor.clone(), epoch: *epoch }, scene.now());
        }
        scene.tell(self.proc, || noted(note));
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
