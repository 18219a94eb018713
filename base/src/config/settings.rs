//! The resolved form.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::resolve::Entry;
use crate::ByteSize;

/// A configuration in which every key has its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The manager daemon.
    pub manager: ManagerSettings,
    /// The worker daemon.
    pub worker: WorkerSettings,
    /// Executors.
    pub executor: ExecutorSettings,
    /// Local mode.
    pub local: LocalSettings,
    /// Commands that talk to a cluster.
    pub client: ClientSettings,
    /// Certificates.
    pub security: SecuritySettings,
    /// Logging.
    pub log: LogSettings,
    /// Every key with its value and where that was written, in the order of the table.
    pub entries: Vec<Entry>,
}

/// `[manager]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerSettings {
    /// Where to listen.
    pub bind: HostPort,
    /// How often workers and drivers report. At most a third of either time-out.
    pub heartbeat: Duration,
    /// After how long a silent worker gets no new work. Longer than two heartbeats, shorter than `node_timeout`.
    pub node_suspect_after: Duration,
    /// After how long a silent worker is lost.
    pub node_timeout: Duration,
    /// After how long a silent driver is lost.
    pub driver_timeout: Duration,
    /// The folder for what must outlive the manager.
    pub state: Auto<String>,
    /// All managers of the cluster, this one included: three or more, no two alike.
    pub peers: Auto<Vec<HostPort>>,
    /// Which of `peers` this one is.
    pub advertise: Auto<HostPort>,
    /// Jobs at a time that have not ended.
    pub jobs: u32,
    /// Bytes of their names, texts and settings.
    pub jobs_size: ByteSize,
    /// Submitted jobs that wait for a driver.
    pub queued_jobs: u32,
    /// The file of tokens.
    pub tokens: Auto<String>,
    /// Jobs at a time whose driver is in a client.
    pub open_jobs: u32,
    /// Workers at a time.
    pub workers: u32,
    /// Where its metrics are served, if they are.
    pub metrics: Option<HostPort>,
}

/// `[worker]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    /// The worker's name.
    pub id: Auto<String>,
    /// Where the managers are: at least one.
    pub manager: Vec<HostPort>,
    /// Where to listen.
    pub bind: HostPort,
    /// The host's name or address for others.
    pub advertise: Auto<String>,
    /// The rack it stands in, or empty.
    pub rack: String,
    /// How many executors to start.
    pub executors: Auto<u32>,
    /// Core threads of all executors.
    pub cores: Auto<u32>,
    /// Cores kept free of tasks.
    pub control_cores: Auto<u32>,
    /// Whether both hardware threads of a core are used.
    pub smt: bool,
    /// The CPUs to use, ascending.
    pub cpus: Auto<Vec<u32>>,
    /// Whether core threads are bound to their CPUs.
    pub pin: bool,
    /// Memory of each executor.
    pub memory: Auto<ByteSize>,
    /// Drivers of submitted jobs at a time.
    pub drivers: Auto<u32>,
    /// Memory of each.
    pub driver_memory: ByteSize,
    /// Folders for what does not fit in memory; at least one.
    pub scratch: Vec<PathBuf>,
    /// Folder for the logs of child processes.
    pub log_folder: Auto<String>,
    /// Results kept.
    pub results: u32,
    /// Bytes of kept results.
    pub results_size: ByteSize,
    /// Whether blocks of executors that died are kept and served.
    pub keep_blocks: bool,
    /// How long a worker that is asked to stop waits for what is there to end and to move.
    pub drain: Duration,
    /// The user that executors and drivers run as.
    pub run_as: Auto<String>,
    /// Whether they get control groups of their own: `auto`, `on` or `off`.
    pub cgroups: &'static str,
    /// How often an executor is started again within the window.
    pub executor_restarts: u32,
    /// The time over which those are counted.
    pub executor_restart_window: Duration,
    /// Where its metrics are served, if they are.
    pub metrics: Option<HostPort>,
}

/// `[executor]`
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutorSettings {
    /// The part of its memory that blocks may fill.
    pub block_memory_fraction: f64,
    /// The ways to other executors: `auto`, `tcp` or `shared`.
    pub transport: &'static str,
    /// What writes and reads files of blocks.
    pub scratch_engine: &'static str,
    /// Whether they bypass the page cache.
    pub scratch_direct: bool,
    /// Whether blocks are packed on links: `auto`, `none`, `lz4` or `zstd`.
    pub link_compression: &'static str,
    /// The same of files.
    pub scratch_compression: &'static str,
}

/// `[local]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSettings {
    /// Core threads.
    pub cores: Auto<u32>,
    /// Memory.
    pub memory: Auto<ByteSize>,
    /// Folder for what does not fit.
    pub scratch: Auto<String>,
}

/// `[client]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// The managers to talk to.
    pub manager: Auto<Vec<HostPort>>,
    /// The queue of their jobs, or empty.
    pub queue: String,
    /// The file with their token.
    pub token_file: Auto<String>,
}

/// `[security]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecuritySettings {
    /// The folder of the three files, whichever are not named one by one.
    pub folder: Auto<String>,
    /// The authority's certificate.
    pub ca: Auto<String>,
    /// The process's certificate.
    pub certificate: Auto<String>,
    /// Its key.
    pub key: Auto<String>,
    /// Whether nothing is secured.
    pub insecure: bool,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Directives for what is logged.
    pub level: Auto<String>,
    /// How it is logged.
    pub format: LogFormat,
}

/// A value that the program finds out by itself unless it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto<T> {
    /// The program finds it out.
    Auto,
    /// It is set.
    Set(T),
}

impl<T> Auto<T> {
    /// The value, when it is set.
    pub fn set(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "text" => Self::Text,
            "json" => Self::Json,
            _ => return None,
        })
    }
}

/// A host name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A text that is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an address of the form host:port")]
pub struct ParseHostPortError(String);

impl FromStr for HostPort {
    type Err = ParseHostPortError;

    fn from_str(text: &str) -> Result<Self, ParseHostPortError> {
        let fault = || ParseHostPortError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
        let port = port.parse().map_err(|_| fault())?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = !host.is_empty() && host.chars().all(allowed);
        let is_v6 = bracketed.is_some() && host.parse::<std::net::Ipv6Addr>().is_ok();
        if is_name || is_v6 { Ok(Self { host: host.to_owned(), port }) } else { Err(fault()) }
    }
}

/// Addresses as they are written in one value: `a:7400,b:7400`.
#[must_use]
pub fn address_list(addresses: &[HostPort]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
