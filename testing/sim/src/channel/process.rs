//! Processes: who is there, on which host, and whether it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use firesteel_base::{ExecutorId, Timestamp, WorkerId};

/// A machine of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(pub u32);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host{}", self.0)
    }
}

/// A role that some process plays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A manager, by its number; the only one is 0.
    Manager(u32),
    /// A worker.
    Worker(WorkerId),
    /// An executor.
    Executor(ExecutorId),
    /// A driver, by its number.
    Driver(u32),
    /// A client that submits a job, by its number.
    Client(u32),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager(0) => f.write_str("manager"),
            Self::Manager(number) => write!(f, "manager m{number}"),
            Self::Worker(id) => write!(f, "worker {id}"),
            Self::Executor(id) => write!(f, "executor {id}"),
            Self::Driver(number) => write!(f, "driver d{number}"),
            Self::Client(number) => write!(f, "client c{number}"),
        }
    }
}

/// A process in its one life; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proc(pub u32);

#[derive(Debug)]
struct Process {
    party: Party,
    host: Host,
    /// How many stops are on it: it neither hears nor does anything until all are lifted.
    frozen: u32,
    /// How far its clock has jumped ahead.
    ahead: Duration,
}

/// The processes that live.
#[derive(Debug, Default)]
pub struct Processes {
    started: u32,
    all: BTreeMap<Proc, Process>,
}

impl Processes {
    /// Starts a process.
    pub fn start(&mut self, party: Party, host: Host) -> Proc {
        self.started += 1;
        let proc = Proc(self.started);
        self.all.insert(proc, Process { party, host, frozen: 0, ahead: Duration::ZERO });
        proc
    }

    /// Ends a process.
    pub fn end(&mut self, proc: Proc) {
        self.all.remove(&proc);
    }

    /// Whether it lives.
    #[must_use]
    pub fn lives(&self, proc: Proc) -> bool {
        self.all.contains_key(&proc)
    }

    /// Whose it is, while it lives.
    #[must_use]
    pub fn party(&self, proc: Proc) -> Option<&Party> {
        self.all.get(&proc).map(|process| &process.party)
    }

    /// Where it runs, while it lives.
    #[must_use]
    pub fn host(&self, proc: Proc) -> Option<Host> {
        self.all.get(&proc).map(|process| process.host)
    }

    /// The process of a party that lives.
    #[must_use]
    pub fn of(&self, party: &Party) -> Option<Proc> {
        self.all.iter().find(|(_, process)| process.party == *party).map(|(proc, _)| *proc)
    }

    /// All that live.
    pub fn all(&self) -> impl Iterator<Item = (Proc, &Party)> {
        self.all.iter().map(|(proc, process)| (*proc, &process.party))
    }

    /// Whether it is stopped.
    #[must_use]
    pub fn is_frozen(&self, proc: Proc) -> bool {
        self.all.get(&proc).is_some_and(|process| process.frozen > 0)
    }

    /// Stops a process as SIGSTOP does.
    pub fn freeze(&mut self, proc: Proc) {
        if let Some(process) = self.all.get_mut(&proc) {
            process.frozen += 1;
        }
    }

    /// Lets it go on, unless it was stopped more often.
    pub fn thaw(&mut self, proc: Proc) {
        if let Some(process) = self.all.get_mut(&proc) {
            process.frozen -= 1;
        }
    }

    /// Moves its clock ahead.
    pub fn jump(&mut self, proc: Proc, span: Duration) {
        if let Some(process) = self.all.get_mut(&proc) {
            process.ahead += span;
        }
    }

    /// What its clock shows at `now`.
    #[must_use]
    pub fn clock(&self, proc: Proc, now: Timestamp) -> Timestamp {
        now + self.all.get(&proc).map_or(Duration::ZERO, |process| process.ahead)
    }
}
