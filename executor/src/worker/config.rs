//! What a worker is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use firesteel_base::config::HostPort;
use firesteel_base::service::{self, ServiceManager};
use firesteel_base::{ByteSize, UserError, WorkerId};
use firesteel_certs::Security;
use firesteel_hw::layout::LayoutRequest;

use super::groups::CgroupSettings;
use super::restart::RestartPolicy;
use super::results::ResultLimits;
use super::run_as::RunAs;
use crate::config::BlockSettings;

/// A worker's name, place and share of the host.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Its name.
    pub id: WorkerId,
    /// `host:port` of the manager.
    pub manager: String,
    /// Where its gRPC service listens; executors listen on the same address with ports of their own.
    pub listen: SocketAddr,
    /// The host that others reach it and its executors under.
    pub advertise_host: String,
    /// How its connections, and those of its executors and drivers, are secured.
    pub security: Security,
    /// The rack it stands in, empty when unknown.
    pub rack: String,
    /// Folders for shuffle blocks, spilled state and results. The first is locked: no two workers share it.
    pub scratch: Vec<PathBuf>,
    /// An hwloc XML file to read the topology from instead of the machine.
    pub topology: Option<PathBuf>,
    /// How many executors, and what each gets.
    pub layout: LayoutRequest,
    /// Whether core threads are pinned to their CPUs. Off where several workers share a host for trying things.
    pub pin: bool,
    /// How executors keep, send and fetch blocks.
    pub blocks: BlockSettings,
    /// What starts an executor: [`crate::process::run_from_stdin`] must be what it runs.
    pub executor_command: ChildCommand,
    /// What starts a cluster-mode driver. It gets `--job N --manager HOST:PORT --result FILE`, and a
    /// [`DriverRequest`](super::DriverRequest) as one line of JSON on standard input, which stays open for as long as
    /// the worker lives. It succeeded when it exits with 0; otherwise the last line of its standard error says why,
    /// as a [`UserError`] in JSON or as plain text.
    pub driver_command: ChildCommand,
    /// The user that both run as; `None`: this process's own.
    pub run_as: Option<RunAs>,
    /// Whether both get control groups of their own.
    pub cgroups: CgroupSettings,
    /// Where children's logs go, one file each; `None`: to the worker's own standard error.
    pub log_folder: Option<PathBuf>,
    /// How often an executor that died is started again.
    pub restart: RestartPolicy,
    /// How many results of cluster-mode jobs are kept.
    pub results: ResultLimits,
    /// Whether blocks of executors that died are kept and served.
    pub keep_blocks: bool,
    /// How long what runs and lies here may take to end and to move when the worker is asked to stop; zero: it ends at once.
    pub drain: Duration,
    /// How many cluster-mode drivers run at a time, and what each gets.
    pub drivers: DriverSettings,
    /// Where its metrics are served, if they are.
    pub metrics: Option<HostPort>,
    /// Who started the worker and is told how it is.
    pub service: ServiceManager,
    /// Bounds of waits and counts.
    pub limits: WorkerLimits,
}

/// How many cluster-mode drivers a worker runs at a time, and what each gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverSettings {
    /// How many; `None`: as many as fit in the host's memory beside the executors, within bounds.
    pub places: Option<usize>,
    /// Memory for what of its job runs in a driver's process.
    pub memory: ByteSize,
}

impl Default for DriverSettings {
    fn default() -> Self {
        Self { places: None, memory: ByteSize(512 << 20) }
    }
}

/// Drivers at a time when nobody has set how many: each is a process with threads of its own.
const DRIVERS_AUTO_MAX: u64 = 16;

impl DriverSettings {
    /// How many run at a time on a host with so much memory, of which its executors have so much.
    pub(crate) fn places_beside(&self, host: u64, executors: u64) -> usize {
        let fitting = host.saturating_sub(executors) / self.memory.0.max(1);
        let fitting = usize::try_from(fitting.clamp(1, DRIVERS_AUTO_MAX)).expect("it is small");
        self.places.unwrap_or(fitting)
    }
}

/// A program and its first arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// What it is called, when it is not that.
    pub name: Option<PathBuf>,
    /// Its first arguments.
    pub args: Vec<String>,
}

/// The program that runs, whatever has become of its file: one that is replaced in an upgrade starts no children of another release, and
/// who may not look into its folder can run it all the same.
const THIS_PROGRAM: &str = "/proc/self/exe";

impl ChildCommand {
    /// This very program with these arguments.
    ///
    /// # Errors
    /// When the system does not tell what this program is.
    pub fn this_program(args: &[&str]) -> Result<Self, UserError> {
        let name = std::env::current_exe().map_err(|fault| {
            UserError::new("cannot find out where this program lies").detail(fault.to_string())
        })?;
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Ok(Self { program: THIS_PROGRAM.into(), name: Some(name), args })
    }

    /// As that user, if one is given, and then with no group of this process's.
    pub(crate) fn to_command(&self, user: Option<RunAs>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args);
        // What the worker tells whoever started it is not theirs to tell.
        command.env_remove(service::SOCKET_VARIABLE);
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        if let Some(RunAs { uid, gid }) = user {
            // The standard library clears supplementary groups when root becomes another user.
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// Bounds of a worker's waits and counts.
#[derive(Debug, Clone)]
pub struct WorkerLimits {
    /// How long an executor may take from its start until it is ready.
    pub ready_timeout: Duration,
    /// How often executors are asked how they are.
    pub status_interval: Duration,
    /// Silence after which an executor is killed and started again.
    pub silence_max: Duration,
    /// How long a child may take to end after SIGTERM before it is killed.
    pub stop_timeout: Duration,
    /// How long a worker whose id is in use asks again before it ends: longer than a manager believes, by default, in one that it
    /// hears nothing of, as when its host lost power and is back before that.
    pub in_use_max: Duration,
    /// Cluster-mode drivers that wait for the end of others; more are refused. The manager launches no more than there are
    /// places, but one whose job has ended may take a moment to end.
    pub drivers_waiting_max: usize,
}

/// How long ending takes beside the wait for children: the farewell to the manager, and the kernel's part of killing.
const END_SLACK: Duration = Duration::from_secs(20);

impl WorkerLimits {
    /// How long a worker takes at most to end, once it does not wait for what runs any more.
    pub(crate) fn end_max(&self) -> Duration {
        self.stop_timeout + END_SLACK
    }
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self {
            ready_timeout: Duration::from_secs(60),
            status_interval: Duration::from_secs(1),
            silence_max: Duration::from_secs(20),
            stop_timeout: Duration::from_secs(10),
            in_use_max: Duration::from_secs(20),
            drivers_waiting_max: 1024,
        }
    }
}
