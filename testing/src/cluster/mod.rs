//! Clusters of real processes: a manager and workers of a built `firesteel`, on ports that the system chooses.
//!
//! Nothing outlives a [`ProcessCluster`]: it ends its processes when dropped, and they end by themselves when the test process is
//! killed, because each watches its standard input.

mod certificates;
mod command;
mod daemon;
mod managers;
mod pids;
pub mod proc;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use firesteel_base::ByteSize;
use serde_json::Value;
use tempfile::TempDir;

pub use certificates::Certificates;
pub use command::{Finished, Running};
use daemon::Daemon;
pub use daemon::{Signal, send};
use managers::Managers;

/// How long a cluster may take until all its executors are up, and how long anything else may be waited for.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a process may take to end when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// How many managers.
    pub managers: usize,
    /// How many workers, each with one executor.
    pub workers: u32,
    /// Core threads of each executor.
    pub cores_per_executor: u32,
    /// Memory of each executor.
    pub memory: ByteSize,
    /// What its processes and clients show each other; without, nothing is secured.
    pub certificates: Option<Certificates>,
    /// Settings of all processes, by key of the configuration.
    pub conf: BTreeMap<String, String>,
    /// What clients show to the manager.
    pub token: Option<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            managers: 1,
            workers: 2,
            cores_per_executor: 1,
            memory: ByteSize(2 << 30),
            certificates: None,
            conf: BTreeMap::new(),
            token: None,
        }
    }
}

impl ClusterOptions {
    /// With a setting more.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.conf.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With failures noticed within a few seconds, for tests that cause them.
    #[must_use]
    pub fn alert(self) -> Self {
        self.set("manager.heartbeat", "200ms")
            .set("manager.node_suspect_after", "1s")
            .set("manager.node_timeout", "3s")
            .set("manager.driver_timeout", "3s")
    }
}

/// A manager and its workers.
pub struct ProcessCluster {
    binary: PathBuf,
    folder: TempDir,
    options: ClusterOptions,
    /// Those of all managers, separated by commas.
    address: String,
    managers: Managers,
    workers: Vec<Daemon>,
}

impl ProcessCluster {
    /// Starts a cluster of the program at `binary` and waits until every executor is up.
    ///
    /// # Errors
    /// When a process ends or the executors are not up in time, with the ends of their logs.
    pub fn start(binary: impl Into<PathBuf>, options: ClusterOptions) -> anyhow::Result<Self> {
        let binary = binary.into();
        let folder = tempfile::Builder::new().prefix("firesteel-cluster-").tempdir()?;
        if options.conf.contains_key("worker.run_as") {
            // That user has folders of its own in it.
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        }
        let managers = Managers::start(&binary, folder.path(), &options)?;
        let address = managers.addresses().join(",");
        let mut cluster = Self { binary, folder, options, address, managers, workers: Vec::new() };
        if cluster.options.managers > 1 {
            cluster.leader()?;
        }
        for index in 0..cluster.options.workers {
            cluster.add_worker(&format!("w{index}"))?;
        }
        let workers = cluster.workers.len();
        cluster.wait_for("all executors to be up", |cluster| Ok(cluster.executors_up()? == workers))?;
        Ok(cluster)
    }

    /// `host:port` of the manager; of several all, separated by commas.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The folder of logs, scratch files and whatever a test puts there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts one worker more, without waiting for it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn add_worker(&mut self, id: &str) -> anyhow::Result<()> {
        let index = self.workers.len();
        let command = self.worker_command(id, index)?;
        self.workers.push(Daemon::start(&format!("worker-{index}"), command, self.folder.path())?);
        Ok(())
    }

    /// The command that starts a worker of this cluster.
    ///
    /// # Errors
    /// When the CPUs of this process cannot be told.
    pub fn worker_command(&self, id: &str, index: usize) -> anyhow::Result<Command> {
        let cpus = proc::cpus_allowed()?;
        let cores = self.options.cores_per_executor as usize;
        let mine: Vec<_> =
            (0..cores).map(|core| cpus[(index * cores + core) % cpus.len()].to_string()).collect();
        let scratch = self.scratch().join(format!("{index}"));
        let mut command = program(&self.binary, &self.options, "worker");
        // Tests run side by side: cores are chosen, so that workers share them out, but not bound.
        command.env("FIRESTEEL_WORKER_PIN", "false");
        command.args(["worker", "--stop-with-input", "--executors", "1", "--bind", "127.0.0.1:0"]);
        command.args(["--manager", &self.address, "--id", id, "--advertise", "127.0.0.1"]);
        command.args(["--cores", &cores.to_string(), "--cpus", &mine.join(",")]);
        command.args(["--memory", &self.options.memory.to_string()]).arg("--scratch").arg(scratch);
        Ok(command)
    }

    /// Where the workers keep what does not fit in memory.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    /// The program with these arguments, as a client of this cluster.
    #[must_use]
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = program(
            &self.binary,
            &ClusterOptions { conf: BTreeMap::new(), ..self.options.clone() },
            "client",
        );
        command.args(arguments).env("FIRESTEEL_MANAGER", &self.address);
        if let Some(token) = &self.options.token {
            command.env("FIRESTEEL_TOKEN", token);
        }
        command
    }

    /// Runs the program with these arguments as a client, to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        Running::start(self.client(arguments))?.finish()
    }

    /// The result of a query as CSV with a header.
    ///
    /// # Errors
    /// When the query fails, with what it said.
    pub fn sql(&self, sql: &str) -> anyhow::Result<String> {
        self.run(&["sql", "--manager", &self.address, "--format", "csv", "-q", "-c", sql])?.succeeded()
    }

    /// What `firesteel nodes --json` says.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub fn nodes(&self) -> anyhow::Result<Vec<Value>> {
        let text = self.run(&["nodes", "--json"])?.succeeded()?;
        let mut answer: Value = serde_json::from_str(&text)?;
        match answer["nodes"].take() {
            Value::Array(nodes) => Ok(nodes),
            other => bail!("nodes are {other}"),
        }
    }

    /// The executors of all nodes, as `firesteel nodes --json` tells of them.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub fn executors(&self) -> anyhow::Result<Vec<Value>> {
        let nodes = self.nodes()?;
        Ok(nodes.iter().filter_map(|node| node["executors"].as_array()).flatten().cloned().collect())
    }

    fn executors_up(&self) -> anyhow::Result<usize> {
        Ok(self.executors()?.iter().filter(|executor| executor["up"] == true).count())
    }

    /// Whether no executor has a slot on loan, an attempt running or a block kept.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub fn is_idle(&self) -> anyhow::Result<bool> {
        let none = |executor: &Value, key: &str| executor[key].as_u64() == Some(0);
        let keys = ["slots_leased", "running_attempts", "block_bytes"];
        Ok(self.executors()?.iter().all(|executor| keys.iter().all(|key| none(executor, key))))
    }

    /// Waits until `holds`, checking that all daemons live.
    ///
    /// # Errors
    /// When a daemon ends, or it does not come to hold in time.
    pub fn wait_for(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            if holds(self)? {
                return Ok(());
            }
            if let Some(dead) = self.dead() {
                bail!("{dead} ended while waiting for {what}\n{}", self.logs());
            }
            ensure!(Instant::now() < deadline, "waited too long for {what}\n{}", self.logs());
            thread::sleep(POLL);
        }
    }

    fn dead(&mut self) -> Option<String> {
        let mut all = self.managers.daemons().chain(&mut self.workers);
        all.find_map(|daemon| daemon.has_ended().then(|| daemon.name().to_owned()))
    }

    /// How many workers are expected to live.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Sends a signal to a worker, which is then no longer expected to live.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal_worker(&mut self, worker: usize, signal: Signal) -> anyhow::Result<()> {
        self.workers.remove(worker).signal_and_wait(signal, STOP_MAX).map(drop)
    }

    /// Asks a worker to end, without waiting for it.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate_worker(&self, worker: usize) -> anyhow::Result<()> {
        self.workers[worker].signal(Signal::Terminate)
    }

    /// Whether a worker's process runs.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn worker_runs(&self, worker: usize) -> bool {
        proc::is_alive(self.workers[worker].pid())
    }

    /// Waits until a worker has ended by itself, and well. It is then no longer expected to live.
    ///
    /// # Errors
    /// When it goes on, or ends badly.
    pub fn worker_has_left(&mut self, worker: usize) -> anyhow::Result<()> {
        let mut daemon = self.workers.remove(worker);
        Self::check_left(&mut daemon).with_context(|| self.logs())
    }

    /// The same, and starts another process in its place.
    ///
    /// # Errors
    /// When the worker goes on or ends badly, or the program cannot be started.
    pub fn replace_worker(&mut self, worker: usize) -> anyhow::Result<()> {
        let checked = Self::check_left(&mut self.workers[worker]);
        checked.with_context(|| self.logs())?;
        let command = self.worker_command(&format!("w{worker}"), worker)?;
        self.workers[worker] = Daemon::start(&format!("worker-{worker}"), command, self.folder.path())?;
        let workers = self.workers.len();
        self.wait_for("all executors to be up", |cluster| Ok(cluster.executors_up()? == workers))
    }

    fn check_left(daemon: &mut Daemon) -> anyhow::Result<()> {
        let status = daemon.wait(STOP_MAX)?;
        ensure!(status.success(), "{} ended with {status}", daemon.name());
        Ok(())
    }

    /// Asks all processes to end, the workers first, and checks that they did, that nothing they started is left, and that
    /// their scratch folders are empty.
    ///
    /// # Errors
    /// When something is left, or a process did not end well.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let mut all: Vec<u32> = self.managers.daemons().map(|manager| manager.pid()).collect();
        for worker in &self.workers {
            all.push(worker.pid());
            all.extend(proc::children(worker.pid())?);
        }
        let mut daemons: Vec<Daemon> = self.workers.drain(..).collect();
        for daemon in &daemons {
            daemon.signal(Signal::Terminate)?;
        }
        let mut ends = Vec::new();
        for daemon in daemons.iter_mut() {
            ends.push((daemon.name().to_owned(), daemon.wait(STOP_MAX)?));
        }
        for manager in self.managers.daemons() {
            manager.signal(Signal::Terminate)?;
            ends.push((manager.name().to_owned(), manager.wait(STOP_MAX)?));
        }
        for (name, status) in ends {
            ensure!(status.success(), "{name} ended with {status}\n{}", self.logs());
        }
        let left: Vec<_> = all.into_iter().filter(|&pid| proc::is_alive(pid)).collect();
        ensure!(left.is_empty(), "processes {left:?} are left\n{}", self.logs());
        let files = files_below(&self.scratch())?;
        ensure!(files.is_empty(), "files are left on scratch: {files:?}");
        Ok(())
    }

    /// All that the processes have logged.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn all_logs(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        for path in files_below(self.folder.path())? {
            if path.extension().is_some_and(|extension| extension == "log") {
                text.push_str(&fs::read_to_string(&path)?);
            }
        }
        Ok(text)
    }

    /// The ends of all logs.
    #[must_use]
    pub fn logs(&self) -> String {
        daemon::log_tails(self.folder.path())
    }
}

impl Drop for ProcessCluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// The program, with the settings in its environment and none of this process's.
/// The program in a role, with its settings and none of this process's.
fn program(binary: &Path, options: &ClusterOptions, role: &str) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIRESTEEL_") {
            command.env_remove(name);
        }
    }
    match &options.certificates {
        Some(certificates) => command.env("FIRESTEEL_SECURITY_FOLDER", certificates.folder(role)),
        // Clients need not be told: all addresses are of this host.
        None => command.env("FIRESTEEL_SECURITY_INSECURE", (role != "client").to_string()),
    };
    for (key, value) in &options.conf {
        command.env(format!("FIRESTEEL_{}", key.replace('.', "_").to_ascii_uppercase()), value);
    }
    command
}

/// The files below `folder`, at any depth; none when it is not there. The lock that keeps two workers from one scratch folder
/// is not counted: it stays, so that nobody locks a file that another has just removed.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_none_or(|name| name != "worker.lock") {
                files.push(path);
            }
        }
    }
    Ok(files)
}
