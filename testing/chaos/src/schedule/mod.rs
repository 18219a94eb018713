//! Which fault comes when and to whom: drawn from a seed alone, or read from the log of an earlier run. It does not depend on what
//! the cluster does, so the same seed is the same schedule.

mod draw;
mod log;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use firesteel_base::units::display_duration;
use serde::{Deserialize, Serialize};

pub use draw::{Draw, Limits};
pub use log::{Header, read_log, write_log};

/// A kind of fault as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// SIGKILL to an executor, to a worker with its executors, or to the driver of a submitted job
    Kill,
    /// SIGSTOP to an executor or a worker, and SIGCONT later
    Stop,
    /// No packet passes between a worker and all others, or between two workers
    Cut,
    /// A part of a worker's packets is lost, or its link becomes slow
    Loss,
    /// A worker's scratch disk is full
    DiskFull,
    /// Bytes of a block file change
    Corrupt,
    /// The manager is killed, stopped or, with `cut`, cut off
    Manager,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Kill, Self::Stop, Self::Cut, Self::Loss, Self::DiskFull, Self::Corrupt, Self::Manager];
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SIGKILL. A worker or manager is started again when the fault ends, an executor by its worker.
    Kill,
    /// SIGSTOP, and SIGCONT when the fault ends.
    Stop,
    /// No packet passes.
    Cut,
    /// So many percent of all packets are lost, each way.
    Loss {
        /// Of a hundred packets.
        percent: u32,
    },
    /// The link carries no more than this, each way.
    Slow {
        /// Kilobits per second.
        kbit: u32,
    },
    /// Nothing more can be written to scratch.
    DiskFull,
    /// Bytes of a block file change.
    Corrupt,
}

/// Whom it hits, by role and place: the process that has this role when the fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The manager.
    Manager,
    /// A worker; with its executors when it is killed.
    Worker(u32),
    /// The executor of a worker.
    Executor(u32),
    /// One of the drivers that run for submitted jobs: the number modulo how many there are.
    Driver(u32),
    /// The way between two workers.
    Between(u32, u32),
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When it begins, in milliseconds from when the cluster was up.
    pub at_ms: u64,
    /// What is done.
    pub kind: Kind,
    /// To whom.
    pub target: Target,
    /// When it ends, in milliseconds from its begin; 0 when nothing has to be ended.
    pub for_ms: u64,
}

impl Fault {
    /// When it begins, from when the cluster was up.
    #[must_use]
    pub fn at(&self) -> Duration {
        Duration::from_millis(self.at_ms)
    }

    /// How long it lasts.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        Duration::from_millis(self.for_ms)
    }
}

impl Target {
    /// The workers that it is about.
    #[must_use]
    pub fn workers(self) -> Vec<u32> {
        match self {
            Self::Manager | Self::Driver(_) => Vec::new(),
            Self::Worker(worker) | Self::Executor(worker) => vec![worker],
            Self::Between(one, other) => vec![one, other],
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager => f.write_str("the manager"),
            Self::Worker(worker) => write!(f, "worker w{worker}"),
            Self::Executor(worker) => write!(f, "executor w{worker}/e0"),
            Self::Driver(number) => write!(f, "driver {number}"),
            Self::Between(one, other) => write!(f, "the way w{one}-w{other}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Kill => f.write_str("kill")?,
            Kind::Stop => f.write_str("stop")?,
            Kind::Cut => f.write_str("cut")?,
            Kind::Loss { percent } => write!(f, "lose {percent}% at")?,
            Kind::Slow { kbit } => write!(f, "slow to {kbit} kbit/s")?,
            Kind::DiskFull => f.write_str("fill the disk of")?,
            Kind::Corrupt => f.write_str("corrupt a block of")?,
        }
        write!(f, " {}", self.target)?;
        if self.for_ms > 0 { write!(f, " for {}", display_duration(self.lasts())) } else { Ok(()) }
    }
}
