//! The kinds of faults, whom they hit, and which lines of the logs tell of them.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use rustix::process::Signal;

use super::logs::Line;
use super::of_worker;
use crate::cluster::Cluster;
use crate::network::Broken;
use crate::proc;
use crate::schedule::Kind;

/// How long the manager is away.
const MANAGER_AWAY: Duration = Duration::from_millis(500);
/// Who is hit.
const HIT: u32 = 0;
/// How long a submitted job's driver is waited for.
const DRIVER_MAX: Duration = Duration::from_secs(20);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Case {
    /// SIGKILL to an executor.
    ExecutorKilled,
    /// SIGSTOP to an executor, until the answer is there.
    ExecutorStopped,
    /// SIGKILL to a worker and all that it runs, as when its host fails.
    WorkerKilled,
    /// SIGSTOP to a worker and all that it runs, until the answer is there.
    WorkerStopped,
    /// No packet passes between a worker and all others, until the answer is there.
    WorkerCut,
    /// SIGKILL to the driver of a submitted job.
    DriverKilled,
    /// SIGKILL to the manager, which is started again half a second later.
    ManagerKilled,
}

/// What ends a fault.
#[derive(Debug)]
pub enum Undo {
    /// Nothing.
    Nothing,
    /// These processes go on.
    Continue(Vec<u32>),
    /// The worker is started again.
    StartWorker,
    /// The link works again.
    Mend(Broken),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Case {
    /// Whether a submitted job is hit; else one whose driver is the client.
    #[must_use]
    pub fn is_of_submitted(self) -> bool {
        self == Self::DriverKilled
    }

    /// Has it begin.
    ///
    /// # Errors
    /// When there is nobody to hit.
    pub fn begin(self, cluster: &Cluster) -> anyhow::Result<Undo> {
        let executor = || cluster.executor(HIT).context("there is no executor to hit");
        Ok(match self {
            Self::ExecutorKilled => {
                proc::send(executor()?, Signal::KILL);
                Undo::Nothing
            }
            Self::ExecutorStopped => stop(vec![executor()?]),
            Self::WorkerKilled => {
                cluster.kill_worker(HIT);
                Undo::StartWorker
            }
            Self::WorkerStopped => stop(of_worker(cluster, HIT)),
            Self::WorkerCut => {
                let network = cluster.network().context("the daemons have no hosts of their own")?;
                let broken = Broken { kind: Kind::Cut, host: HIT + 1, towards: None, number: 1 };
                network.harm(broken)?;
                Undo::Mend(broken)
            }
            Self::DriverKilled => {
                proc::send(driver(cluster)?, Signal::KILL);
                Undo::Nothing
            }
            Self::ManagerKilled => {
                cluster.kill_manager();
                Undo::Nothing
            }
        })
    }

    /// What somebody who supervises the daemons does while it lasts.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn supervise(self, cluster: &Cluster) -> anyhow::Result<()> {
        if self != Self::ManagerKilled {
            return Ok(());
        }
        thread::sleep(MANAGER_AWAY);
        cluster.start_manager()
    }

    /// Has it end.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn end(self, cluster: &Cluster, undo: Undo) -> anyhow::Result<()> {
        match undo {
            Undo::Nothing => Ok(()),
            Undo::Continue(pids) => {
                // One that was killed meanwhile for its silence needs it no more.
                for pid in pids {
                    proc::send(pid, Signal::CONT);
                }
                Ok(())
            }
            Undo::StartWorker => cluster.start_worker(HIT),
            Undo::Mend(broken) => {
                cluster.network().context("the daemons have no hosts of their own")?.mend(broken)
            }
        }
    }

    /// Whether a line of a log is the first to tell of it.
    #[must_use]
    pub fn is_noticed_by(self, line: &Line) -> bool {
        match self {
            Self::ExecutorKilled => line.is("w0", "executor down") || line.is("manager", "executor gone"),
            Self::ExecutorStopped => line.is("w0", "did not answer"),
            Self::WorkerKilled | Self::WorkerStopped | Self::WorkerCut => {
                line.is("manager", "suspect") || line.is("manager", "lost")
            }
            Self::DriverKilled => line.is("w", "a driver ended"),
            Self::ManagerKilled => line.is("w", "no manager"),
        }
    }

    /// Whether a line of a log tells that something was done about it.
    #[must_use]
    pub fn is_acted_upon_by(self, line: &Line) -> bool {
        match self {
            Self::ExecutorKilled
            | Self::ExecutorStopped
            | Self::WorkerKilled
            | Self::WorkerStopped
            | Self::WorkerCut => line.is("manager", "executor gone"),
            Self::DriverKilled => line.is("w", "starting a driver"),
            Self::ManagerKilled => line.is("w", "registered"),
        }
    }
}

fn stop(pids: Vec<u32>) -> Undo {
    for &pid in &pids {
        proc::send(pid, Signal::STOP);
    }
    Undo::Continue(pids)
}

fn driver(cluster: &Cluster) -> anyhow::Result<u32> {
    let deadline = std::time::Instant::now() + DRIVER_MAX;
    loop {
        match cluster.drivers().first() {
            Some(&pid) => return Ok(pid),
            None if std::time::Instant::now() >= deadline => {
                anyhow::bail!("no driver of a submitted job runs")
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}
