//! A cluster on this machine: a manager and workers as child processes, from start to end.
//!
//! The children end when this process does, however it ends: each stops when its standard input closes.

mod folder;
mod process;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use firesteel_base::{ByteSize, UserError};
use firesteel_hw::topology::Topology;
use firesteel_protocol::v1::NodeState;
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::cluster::Cluster;
use crate::context::{Client, Context};
use crate::exit::{Exit, Failure};
use crate::output::results::print;
use crate::output::text;
use crate::signals::{Stop, interrupted};
use folder::Folder;
use process::{MayLeave, Process};

/// How long the cluster may take until all workers have joined.
const READY_MAX: Duration = Duration::from_secs(90);
const READY_POLL: Duration = Duration::from_millis(50);

/// The part of this machine's memory that the executors share unless told otherwise.
const MEMORY_SHARE: u64 = 2;

/// Said where the cluster is.
const NO_CERTIFICATES: &str =
    "without certificates and TLS, on loopback alone: whoever is logged in on this machine may use it";

/// What says so to its processes, and to the command that uses it.
fn insecure() -> (&'static str, String) {
    ("FIRESTEEL_SECURITY_INSECURE", "true".to_owned())
}

/// What to start.
#[derive(Debug)]
pub struct Plan {
    /// The manager's port, 0 for any.
    pub port: u16,
    /// What each worker gets.
    pub shares: Vec<Share>,
    /// Memory of each executor.
    pub memory: ByteSize,
    /// Where logs and scratch files go; `None`: a folder that is removed at the end.
    pub folder: Option<PathBuf>,
    /// Global flags for every process.
    pub global: Vec<String>,
}

/// A worker's part of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The CPUs of its core threads.
    pub cpus: Vec<u32>,
    /// Whether no other worker uses them, so that threads can be bound to them.
    pub exclusive: bool,
}

/// Shares the cores of this machine out. Where there are too few, workers share cores and are not bound to them.
pub fn shares(topology: &Topology, workers: u32, cores_each: Option<u32>) -> Result<Vec<Share>, Failure> {
    let cpus: Vec<u32> = topology.cores.iter().filter_map(|core| core.cpus.first().copied()).collect();
    let (has, workers) = (cpus.len(), workers as usize);
    let each = cores_each.map_or((has / workers).max(1), |cores| cores as usize);
    if each > has {
        return Err(Failure::usage(
            UserError::new(format!(
                "{each} cores for each executor are asked for, but this machine has {has}"
            ))
            .hint(format!("set --cores-per-executor to at most {has}")),
        ));
    }
    let exclusive = each * workers <= has;
    let share = |worker: usize| Share {
        cpus: (0..each).map(|core| cpus[(worker * each + core) % has]).collect(),
        exclusive,
    };
    Ok((0..workers).map(share).collect())
}

/// Memory of each executor unless told otherwise.
pub fn default_memory(topology: &Topology, workers: u32) -> ByteSize {
    ByteSize(topology.usable_memory_bytes() / MEMORY_SHARE / u64::from(workers))
}

/// Starts the cluster, does `work` with the manager's address, and ends the cluster however that ended. A signal ends the work,
/// which messages call `what`, and so does the death of a process of the cluster.
pub async fn during<T>(
    plan: &Plan,
    stop: &mut Stop,
    what: &str,
    work: impl AsyncFnOnce(String) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let folder = Folder::open(plan.folder.as_deref())?;
    let mut running = Running::default();
    let lived = tokio::select! {
        lived = running.work(plan, folder.path(), work) => lived,
        signal = stop.next() => Ok(Err(interrupted(what, signal))),
    };
    running.stop().await;
    lived.unwrap_or_else(|failure| {
        // Its logs say why.
        folder.keep();
        Err(failure)
    })
}

/// Starts the cluster, says where it is, and runs it until a signal comes or `command` has ended.
pub async fn run(context: &Context, plan: Plan, command: &[String]) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let folder = Folder::open(plan.folder.as_deref())?;
    let mut running = Running::default();
    let outcome = running.live(context, &plan, folder.path(), command, &mut stop).await;
    running.stop().await;
    if outcome.as_ref().is_err_and(|failure| failure.error.is_some()) {
        folder.keep();
    }
    outcome
}

/// The processes that were started, the manager first.
#[derive(Default)]
struct Running {
    processes: Vec<Process>,
}

impl Running {
    async fn live(
        &mut self,
        context: &Context,
        plan: &Plan,
        folder: &Path,
        command: &[String],
        stop: &mut Stop,
    ) -> Result<Exit, Failure> {
        let manager = tokio::select! {
            started = self.start(plan, folder) => started?,
            _ = stop.next() => return Ok(Exit::Done),
        };
        let shape = shape(plan);
        if command.is_empty() {
            print(&format!(
                "cluster ready: manager at {manager}, {shape}\n  {NO_CERTIFICATES}\n  logs in {}\n\nTry, in another terminal:\n  \
                 firesteel sql --manager {manager} -c 'select 1'\n  firesteel nodes --manager {manager}\n\n\
                 Ctrl-C stops it.\n",
                folder.display()
            ))?;
            tokio::select! {
                died = self.death() => Err(died),
                _ = stop.next() => Ok(Exit::Done),
            }
        } else {
            context.note(&format!("cluster ready: manager at {manager}, {shape}; {NO_CERTIFICATES}"));
            self.run_command(command, &manager, stop).await
        }
    }

    /// What came of `work`; an error when the cluster did not come up, or did not live as long.
    async fn work<T>(
        &mut self,
        plan: &Plan,
        folder: &Path,
        work: impl AsyncFnOnce(String) -> Result<T, Failure>,
    ) -> Result<Result<T, Failure>, Failure> {
        let manager = self.start(plan, folder).await?;
        tokio::select! {
            outcome = work(manager) => Ok(outcome),
            died = self.death() => Err(died),
        }
    }

    /// Starts all processes and waits until every executor is up. Returns the manager's address.
    async fn start(&mut self, plan: &Plan, folder: &Path) -> Result<String, Failure> {
        // It is for trying things, and only this host reaches it.
        let settings = [
            ("FIRESTEEL_MANAGER_TOKENS", "auto".to_owned()),
            // A cluster that the configuration of this host is meant for may have the port.
            ("FIRESTEEL_MANAGER_METRICS", "off".to_owned()),
            insecure(),
        ];
        let mut manager = Process::start("manager", &manager_args(plan), folder, &settings)?;
        let ready = tokio::time::timeout(READY_MAX, manager.first_line()).await;
        self.processes.push(manager);
        let ready = ready.map_err(|_| not_ready("the manager is not ready", folder))?;
        let Some(address) = ready.as_deref().and_then(|line| line.rsplit(' ').next()) else {
            return Err(self.processes[0].death(MayLeave::No).await);
        };
        for (i, share) in plan.shares.iter().enumerate() {
            let args = worker_args(plan, share, i, address, folder);
            // All of them end together: there is nobody to wait for.
            let settings = [
                ("FIRESTEEL_WORKER_PIN", share.exclusive.to_string()),
                ("FIRESTEEL_WORKER_DRAIN", "0s".to_owned()),
                ("FIRESTEEL_WORKER_METRICS", "off".to_owned()),
                insecure(),
            ];
            self.processes.push(Process::start(&format!("worker-{i}"), &args, folder, &settings)?);
        }
        let cluster = Cluster::connect(&Client::of(address)).await?;
        tokio::select! {
            died = self.death() => Err(died),
            joined = tokio::time::timeout(READY_MAX, all_joined(&cluster, plan.shares.len())) => {
                joined.map_err(|_| not_ready("the workers have not joined", folder))?.map(|()| address.to_owned())
            }
        }
    }

    async fn run_command(
        &mut self,
        command: &[String],
        manager: &str,
        stop: &mut Stop,
    ) -> Result<Exit, Failure> {
        let mut child = tokio::process::Command::new(&command[0])
            .args(&command[1..])
            .env("FIRESTEEL_MANAGER", manager)
            .envs([insecure()])
            .spawn()
            .map_err(|fault| {
                UserError::new(format!("cannot run '{}'", command[0]))
                    .detail(fault.to_string())
                    .hint("what follows -- is a program and its arguments")
            })?;
        let died = tokio::select! {
            ended = child.wait() => return ended_as(ended),
            _ = stop.next() => None,
            died = self.death() => Some(died),
        };
        // A Ctrl-C reaches the command by itself; SIGTERM came to us alone.
        process::terminate(&mut child).await;
        died.map_or_else(|| ended_as(child.try_wait().map(Option::unwrap_or_default)), Err)
    }

    /// Waits for the first process that ends by itself.
    async fn death(&mut self) -> Failure {
        let first = 1.min(self.processes.len());
        let (managers, workers) = self.processes.split_at_mut(first);
        let workers = workers.iter_mut().map(|worker| worker.death(MayLeave::Yes).boxed());
        let managers = managers.iter_mut().map(|manager| manager.death(MayLeave::No).boxed());
        let mut deaths: FuturesUnordered<_> = managers.chain(workers).collect();
        match deaths.next().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Ends all processes: the workers, then the manager, so that it hears that they leave.
    async fn stop(&mut self) {
        if self.processes.is_empty() {
            return;
        }
        let mut workers = self.processes.split_off(1);
        futures::future::join_all(workers.iter_mut().map(Process::stop)).await;
        futures::future::join_all(self.processes.iter_mut().map(Process::stop)).await;
    }
}

fn shape(plan: &Plan) -> String {
    let cores = plan.shares.first().map_or(0, |share| share.cpus.len() as u64);
    let shared = match plan.shares.first() {
        Some(share) if !share.exclusive => ", which share this machine's cores",
        _ => "",
    };
    let workers = text::count(plan.shares.len() as u64, "worker");
    format!("{workers} with {} and {} of memory each{shared}", text::count(cores, "core"), plan.memory)
}

fn manager_args(plan: &Plan) -> Vec<String> {
    let mut args = plan.global.clone();
    args.extend(["manager", "--stop-with-input", "--bind"].map(str::to_owned));
    args.push(format!("127.0.0.1:{}", plan.port));
    args
}

fn worker_args(plan: &Plan, share: &Share, index: usize, manager: &str, folder: &Path) -> Vec<String> {
    let cpus: Vec<_> = share.cpus.iter().map(u32::to_string).collect();
    let scratch = folder.join(format!("scratch-{index}"));
    let mut args = plan.global.clone();
    args.extend(["worker".to_owned(), "--stop-with-input".to_owned()]);
    let values = [
        ("--manager", manager.to_owned()),
        ("--id", format!("local-{index}")),
        ("--bind", "127.0.0.1:0".to_owned()),
        ("--advertise", "127.0.0.1".to_owned()),
        ("--executors", "1".to_owned()),
        ("--cores", cpus.len().to_string()),
        ("--cpus", cpus.join(",")),
        ("--memory", plan.memory.0.to_string()),
        ("--scratch", scratch.to_string_lossy().into_owned()),
    ];
    args.extend(values.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    args
}

/// Completes when so many workers are there and all their executors are up.
async fn all_joined(cluster: &Cluster, workers: usize) -> Result<(), Failure> {
    loop {
        let nodes = cluster.nodes().await?.nodes;
        let ready = nodes.iter().filter(|node| {
            node.state() == NodeState::Alive && node.executors.iter().any(|executor| executor.up)
        });
        if ready.count() >= workers {
            return Ok(());
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

fn not_ready(what: &str, folder: &Path) -> Failure {
    UserError::new(format!("{what} within {} s", READY_MAX.as_secs()))
        .hint(format!("the logs in {} say why", folder.display()))
        .into()
}

fn ended_as(ended: std::io::Result<ExitStatus>) -> Result<Exit, Failure> {
    use std::os::unix::process::ExitStatusExt;

    let status = ended
        .map_err(|fault| UserError::new("cannot tell how the command ended").detail(fault.to_string()))?;
    // As shells say it: 128 and the number of the signal.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(Exit::OfCommand(u8::try_from(code).unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        Topology::from_synthetic("pack:1 [numa(memory=8589934592)] core:4 pu:2").unwrap()
    }

    #[test]
    fn workers_get_cores_of_their_own_while_there_are_enough() {
        let shares = shares(&topology(), 2, None).unwrap();
        assert_eq!(shares.iter().map(|share| share.cpus.len()).collect::<Vec<_>>(), [2, 2]);
        assert!(shares.iter().all(|share| share.exclusive));
        assert!(shares[0].cpus.iter().all(|cpu| !shares[1].cpus.contains(cpu)));
    }

    #[test]
    fn more_workers_than_cores_share_them() {
        let shares = shares(&topology(), 8, None).unwrap();
        assert!(shares.iter().all(|share| share.cpus.len() == 1 && !share.exclusive));
        assert_eq!(shares[0], shares[4]);
    }

    #[test]
    fn more_cores_than_the_machine_has_are_refused() {
        let failure = shares(&topology(), 2, Some(5)).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.error.unwrap().message.contains("this machine has 4"));
    }
}
