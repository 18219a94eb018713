//! A cluster of real processes: one manager and some workers of a built `firesteel`, each of which can be hit and started again.

mod daemon;
mod nodes;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use firesteel_base::ByteSize;
use rustix::process::Signal;

use daemon::Daemon;
pub use daemon::wait_within;
pub use nodes::Node;

use crate::command::{Ended, run_within};
use crate::host::Disk;
use crate::network::Network;
use crate::proc;

/// How long a cluster may take until all its executors are up.
const READY_MAX: Duration = Duration::from_secs(90);
/// How long a daemon may take to end when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(40);
/// How long the manager may take to tell of its nodes.
const NODES_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
const PORT: u16 = 7400;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program.
    pub binary: PathBuf,
    /// For logs, state and scratch files.
    pub folder: PathBuf,
    /// What all its processes are marked with.
    pub mark: String,
    /// How many workers, each with one executor.
    pub workers: u32,
    /// Core threads of each executor.
    pub cores: u32,
    /// Memory of each executor.
    pub memory: ByteSize,
    /// The size of each worker's disk for scratch files; none: a plain folder.
    pub disk: Option<ByteSize>,
    /// Whether each daemon gets a host of its own.
    pub network: bool,
    /// Whether the manager keeps a journal.
    pub journal: bool,
    /// Settings, by the names of their variables.
    pub conf: Vec<(String, String)>,
}

/// A running cluster; it ends when dropped.
#[derive(Debug)]
pub struct Cluster {
    setup: Setup,
    address: String,
    daemons: Mutex<Daemons>,
    network: Option<Network>,
    _disks: Vec<Disk>,
}

#[derive(Debug)]
struct Daemons {
    manager: Daemon,
    workers: Vec<Daemon>,
}

impl Cluster {
    /// Starts one and waits until every executor is up.
    ///
    /// # Errors
    /// When the processes cannot be started, or are not ready in time.
    pub fn start(setup: Setup) -> anyhow::Result<Self> {
        let network = setup.network.then(|| Network::lay(setup.workers + 1)).transpose()?;
        let disk = |worker: u32| setup.disk.map(|size| Disk::mount(&scratch(&setup, worker), size.0));
        let disks = (0..setup.workers).filter_map(disk).collect::<anyhow::Result<Vec<_>>>()?;
        let address = match &network {
            Some(_) => format!("{}:{PORT}", Network::address(0)),
            None => format!("127.0.0.1:{}", free_port()?),
        };
        fs::create_dir_all(logs(&setup))?;
        let on = network.as_ref();
        let manager = start_manager(&setup, on, &address)?;
        let start = |worker| start_worker(&setup, on, &address, worker);
        let workers = (0..setup.workers).map(start).collect::<anyhow::Result<Vec<_>>>()?;
        let daemons = Mutex::new(Daemons { manager, workers });
        let cluster = Self { setup, address, daemons, network, _disks: disks };
        cluster.wait_until_whole(READY_MAX)?;
        Ok(cluster)
    }

    fn daemons(&self) -> MutexGuard<'_, Daemons> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is made of.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// `host:port` of the manager.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The hosts, where each daemon has one of its own.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Where a worker keeps what does not fit in memory.
    #[must_use]
    pub fn scratch(&self, worker: u32) -> PathBuf {
        scratch(&self.setup, worker)
    }

    /// The folder of the logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        logs(&self.setup)
    }

    /// The program with these arguments, as a client.
    #[must_use]
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = program(&self.setup, self.network.as_ref(), None);
        command.args(arguments).env("FIRESTEEL_MANAGER", &self.address);
        command
    }

    /// The manager's process.
    #[must_use]
    pub fn manager(&self) -> u32 {
        self.daemons().manager.pid()
    }

    /// A worker's process.
    #[must_use]
    pub fn worker(&self, worker: u32) -> Option<u32> {
        self.daemons().workers.get(worker as usize).map(Daemon::pid)
    }

    /// The executor of a worker.
    #[must_use]
    pub fn executor(&self, worker: u32) -> Option<u32> {
        let children = proc::children(self.worker(worker)?);
        children.into_iter().find(|&pid| proc::arguments(pid).get(1).is_some_and(|word| word == "executor"))
    }

    /// The drivers of submitted jobs, in the order of their workers.
    #[must_use]
    pub fn drivers(&self) -> Vec<u32> {
        let workers = (0..self.setup.workers).filter_map(|worker| self.worker(worker));
        let is_driver = |pid: &u32| proc::arguments(*pid).get(1).is_some_and(|word| word == "driver");
        workers.flat_map(proc::children).filter(is_driver).collect()
    }

    /// Kills the manager, as by a crash.
    pub fn kill_manager(&self) {
        self.daemons().manager.kill(&[]);
    }

    /// Starts another one in its place.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_manager(&self) -> anyhow::Result<()> {
        self.daemons().manager = start_manager(&self.setup, self.network.as_ref(), &self.address)?;
        Ok(())
    }

    /// Kills a worker with all that it started, as by the crash of a host.
    pub fn kill_worker(&self, worker: u32) {
        if let Some(daemon) = self.daemons().workers.get_mut(worker as usize) {
            let children = proc::children(daemon.pid());
            daemon.kill(&children);
        }
    }

    /// Starts another one in its place.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_worker(&self, worker: u32) -> anyhow::Result<()> {
        let started = start_worker(&self.setup, self.network.as_ref(), &self.address, worker)?;
        *self.daemons().workers.get_mut(worker as usize).context("there is no such worker")? = started;
        Ok(())
    }

    /// How daemons ended although nobody had them end. Each is started again, as a supervisor would.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_those_that_ended(&self) -> anyhow::Result<Vec<String>> {
        let mut told = Vec::new();
        let manager = self.daemons().manager.ended_by_itself();
        if let Some(how) = manager {
            told.push(how);
            self.start_manager()?;
        }
        for worker in 0..self.setup.workers {
            let ended = self.daemons().workers.get_mut(worker as usize).and_then(Daemon::ended_by_itself);
            if let Some(how) = ended {
                told.push(how);
                self.start_worker(worker)?;
            }
        }
        Ok(told)
    }

    /// What the manager says of its nodes.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        match run_within(self.client(&["nodes", "--json"]), NODES_MAX)? {
            Ended::WithCode(0, said) => nodes::parse(&said.stdout),
            other => bail!("`firesteel nodes` {other}"),
        }
    }

    /// Waits until every worker is there with an executor that runs.
    ///
    /// # Errors
    /// When that takes longer, with what was seen last.
    pub fn wait_until_whole(&self, wait_max: Duration) -> anyhow::Result<()> {
        self.wait_for(wait_max, |nodes| {
            let whole = nodes.iter().filter(|node| node.is_whole()).count();
            (whole != self.setup.workers as usize)
                .then(|| format!("only {whole} workers are there with their executors"))
        })
    }

    /// Waits until no slot is on loan, no attempt runs and no block is kept.
    ///
    /// # Errors
    /// When that takes longer, with what was seen last.
    pub fn wait_until_idle(&self, wait_max: Duration) -> anyhow::Result<()> {
        self.wait_for(wait_max, |nodes| nodes.iter().find_map(Node::in_use))
    }

    fn wait_for(&self, wait_max: Duration, lacks: impl Fn(&[Node]) -> Option<String>) -> anyhow::Result<()> {
        let deadline = Instant::now() + wait_max;
        loop {
            let lack = match self.nodes() {
                Ok(nodes) => lacks(&nodes),
                Err(error) => Some(format!("{error:#}")),
            };
            let Some(lack) = lack else { return Ok(()) };
            ensure!(Instant::now() < deadline, "after {wait_max:?} {lack}");
            thread::sleep(POLL);
        }
    }

    /// Kills every process of the run, clients too.
    pub fn kill_all(&self) {
        let daemons = &mut *self.daemons();
        daemons.manager.kill(&[]);
        daemons.workers.iter_mut().for_each(|worker| worker.kill(&[]));
        for pid in proc::marked(&self.setup.mark) {
            proc::send(pid, Signal::KILL);
        }
    }

    /// Asks all processes to end, the workers first.
    ///
    /// # Errors
    /// When one does not end in time, or not well.
    pub fn stop(&self) -> anyhow::Result<()> {
        let daemons = &mut *self.daemons();
        daemons.workers.iter_mut().for_each(Daemon::terminate);
        for worker in &mut daemons.workers {
            let status = worker.wait(STOP_MAX)?;
            ensure!(status.success(), "a worker that was asked to end did so with {status}");
        }
        daemons.manager.terminate();
        let status = daemons.manager.wait(STOP_MAX)?;
        ensure!(status.success(), "the manager, asked to end, did so with {status}");
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Whoever still has the mark of this run was not ended by its parent.
        self.kill_all();
    }
}

fn scratch(setup: &Setup, worker: u32) -> PathBuf {
    setup.folder.join("scratch").join(worker.to_string())
}

fn logs(setup: &Setup) -> PathBuf {
    setup.folder.join("logs")
}

/// A port that nobody uses now. The manager is started on it again and again, so the system cannot choose one each time.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The program on a host, with the settings in its environment and none of this process's.
fn program(setup: &Setup, network: Option<&Network>, host: Option<u32>) -> Command {
    let mut command = match network {
        Some(network) => network.command(host, &setup.binary),
        None => Command::new(&setup.binary),
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIRESTEEL_") {
            command.env_remove(name);
        }
    }
    // What is tried are faults of processes and networks; certificates have tests of their own.
    command.env("FIRESTEEL_SECURITY_INSECURE", "true");
    command.env(proc::MARK, &setup.mark);
    command
}

fn start_manager(setup: &Setup, network: Option<&Network>, address: &str) -> anyhow::Result<Daemon> {
    let mut command = program(setup, network, Some(0));
    command.envs(setup.conf.iter().cloned());
    command.args(["manager", "--stop-with-input", "--bind", address]);
    if setup.journal {
        command.arg("--state").arg(setup.folder.join("state"));
    }
    Daemon::start("manager", command, &logs(setup))
}

fn start_worker(
    setup: &Setup,
    network: Option<&Network>,
    manager: &str,
    worker: u32,
) -> anyhow::Result<Daemon> {
    let name = format!("w{worker}");
    let address = network.map_or_else(|| "127.0.0.1".to_owned(), |_| Network::address(worker + 1));
    let cpus = thread::available_parallelism()?.get();
    let cores = setup.cores as usize;
    let own: Vec<String> =
        (0..cores).map(|core| ((worker as usize * cores + core) % cpus).to_string()).collect();
    let mut command = program(setup, network, Some(worker + 1));
    command.envs(setup.conf.iter().cloned());
    // Other workers have the same cores.
    command.env("FIRESTEEL_WORKER_PIN", "false");
    command.env("FIRESTEEL_WORKER_LOG_FOLDER", logs(setup).join(&name));
    command.args(["worker", "--stop-with-input", "--manager", manager, "--id", &name, "--executors", "1"]);
    command.args(["--bind", &format!("{address}:0"), "--advertise", &address]);
    command.args([
        "--cores",
        &cores.to_string(),
        "--cpus",
        &own.join(","),
        "--memory",
        &setup.memory.to_string(),
    ]);
    command.arg("--scratch").arg(scratch(setup, worker));
    Daemon::start(&name, command, &logs(setup))
}

/// The files below `folder`, at any depth; none when it is not there.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// Whether a file of a worker's scratch stays when the worker ends: the lock, so that nobody locks a file that another has just
/// removed, and the results of submitted jobs, which the worker removes when it begins again.
#[must_use]
pub fn stays(path: &Path) -> bool {
    let named = |path: &Path, name: &str| path.file_name().is_some_and(|of| of == name);
    named(path, "worker.lock") || path.parent().is_some_and(|folder| named(folder, "results"))
}
