//! What an executor is started with.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use firesteel_base::{ByteSize, ExecutorId, MemoryBudget, UserError};
use firesteel_certs::Security;
use firesteel_hw::core_loop::LoopKind;
use firesteel_hw::scratch::EngineKind;
use firesteel_shuffle::store::FileConfig;
use firesteel_shuffle::{Compression, FetchConfig, ServeConfig, Transport};
use serde::{Deserialize, Serialize};

/// An executor's place and share of the machine.
#[derive(Debug)]
pub struct ExecutorConfig {
    /// Who it is.
    pub id: ExecutorId,
    /// One entry a core thread: the CPU it is pinned to, or `None` to let it move.
    pub cores: Vec<Option<u32>>,
    /// The NUMA node that core threads take their memory from.
    pub numa_node: Option<u32>,
    /// All the memory it may use: operators, shuffle blocks, fetch buffers.
    pub memory: ByteSize,
    /// Folders for spilled state and shuffle blocks; it makes a folder of its own in each and removes it at its end.
    pub scratch: Vec<PathBuf>,
    /// What drives a core thread.
    pub loop_kind: LoopKind,
    /// Where other executors and drivers fetch blocks; `None` when all of them are in this process.
    pub block_listener: Option<TcpListener>,
    /// The host that others reach the listeners under.
    pub advertise_host: String,
    /// `host:port` of its gRPC service, empty when it has none.
    pub control_address: String,
    /// The name of the socket of the keeper that serves its blocks when it is gone; `None` when nobody does.
    pub keeper: Option<String>,
    /// How it keeps, sends and fetches blocks.
    pub blocks: BlockSettings,
    /// Who it is to others, and who they must be.
    pub security: Security,
    /// Bounds of queues and waits.
    pub limits: Limits,
}

/// How an executor keeps, sends and fetches blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockSettings {
    /// The part of its memory that blocks may fill before the coldest go to files, above 0 and at most 1.
    pub memory_fraction: f64,
    /// The ways to other executors that it takes.
    pub transport: Transport,
    /// What writes and reads files of blocks.
    pub scratch_engine: EngineKind,
    /// Whether they bypass the page cache.
    pub scratch_direct: bool,
    /// Whether what goes over TCP is packed.
    pub link_compression: Compression,
    /// Whether what goes into files is packed.
    pub scratch_compression: Compression,
}

impl Default for BlockSettings {
    fn default() -> Self {
        let files = FileConfig::default();
        Self {
            memory_fraction: 0.4,
            transport: Transport::Auto,
            scratch_engine: files.engine,
            scratch_direct: files.direct,
            link_compression: Compression::Auto,
            scratch_compression: files.compression,
        }
    }
}

impl BlockSettings {
    pub(crate) fn files(&self) -> FileConfig {
        let (engine, direct) = (self.scratch_engine, self.scratch_direct);
        FileConfig { engine, direct, compression: self.scratch_compression, ..FileConfig::default() }
    }

    pub(crate) fn fetches(&self, budget: MemoryBudget, security: &Security) -> FetchConfig {
        let (transport, compression) = (self.transport, self.link_compression);
        let tls = security.tls().map(|tls| tls.block_client());
        FetchConfig { budget: Some(budget), transport, compression, tls, ..FetchConfig::default() }
    }

    pub(crate) fn serves(&self, security: &Security) -> ServeConfig {
        let (transport, compression) = (self.transport, self.link_compression);
        let tls = security.tls().map(|tls| tls.block_server());
        ServeConfig { transport, compression, tls, ..ServeConfig::default() }
    }
}

/// Bounds of an executor's queues and waits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Attempts that may wait for free cores; more are refused.
    pub attempts_waiting_max: usize,
    /// Reports to a driver that may be under way before its stream is no longer read ahead.
    pub reports_buffered: usize,
    /// How often a running attempt reports its progress.
    pub progress_interval: Duration,
    /// How long a driver may take to say who it is.
    pub greeting_timeout: Duration,
    /// How long an attaching driver waits for this executor to learn an epoch that the driver knows already.
    pub epoch_wait: Duration,
    /// How long a driver whose stream was cut may take to come back before its jobs are cancelled and freed.
    pub session_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts_waiting_max: 1024,
            reports_buffered: 256,
            progress_interval: Duration::from_secs(1),
            greeting_timeout: Duration::from_secs(10),
            epoch_wait: Duration::from_secs(5),
            session_grace: Duration::from_secs(3),
        }
    }
}

impl ExecutorConfig {
    /// Finds all that is wrong with it.
    ///
    /// # Errors
    /// When it could not work; the detail lists every fault.
    pub fn check(&self) -> Result<(), UserError> {
        let fraction = self.blocks.memory_fraction;
        let faults: Vec<String> = [
            (self.cores.is_empty(), "it has no cores".to_owned()),
            (self.memory.0 < MEMORY_MIN.0, format!("{} of memory is less than {MEMORY_MIN}", self.memory)),
            (
                !(fraction > 0.0 && fraction <= 1.0),
                format!("the block memory fraction {fraction} is not above 0 and at most 1"),
            ),
            (self.scratch.is_empty(), "it has no scratch folder".to_owned()),
            (
                self.block_listener.is_some() && self.advertise_host.is_empty(),
                "it has no host to be reached under".to_owned(),
            ),
        ]
        .into_iter()
        .filter_map(|(wrong, fault)| wrong.then_some(fault))
        .collect();
        if faults.is_empty() {
            return Ok(());
        }
        Err(UserError::new(format!("executor {} cannot be started", self.id)).detail(faults.join("; ")))
    }
}

/// Less than this holds not even the buffers of one attempt.
const MEMORY_MIN: ByteSize = ByteSize(16 << 20);

#[cfg(test)]
mod tests {
    use firesteel_base::config::{Auto, SecuritySettings};
    use firesteel_certs::{Authority, Lifetime, Request, Role};

    use super::*;

    #[test]
    fn blocks_go_over_tls_where_there_are_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let [authority, worker] = ["authority", "worker"].map(|name| folder.path().join(name));
        let lifetime = Lifetime::of_days(2);
        Authority::create(&authority, "test", lifetime).unwrap();
        let request =
            Request { role: Role::Worker, user: None, hosts: vec!["127.0.0.1".to_owned()], lifetime };
        Authority::open(&authority).unwrap().issue(&request).unwrap().write(&worker).unwrap();
        let settings = SecuritySettings {
            folder: Auto::Set(worker.to_str().unwrap().to_owned()),
            ca: Auto::Auto,
            certificate: Auto::Auto,
            key: Auto::Auto,
            insecure: false,
        };
        let (blocks, budget) = (BlockSettings::default(), || MemoryBudget::new(MEMORY_MIN));
        let security = Security::of_daemon(&settings, Role::Worker).unwrap();
        assert!(blocks.serves(&security).tls.is_some() && blocks.fetches(budget(), &security).tls.is_some());
        let none = Security::default();
        assert!(blocks.serves(&none).tls.is_none() && blocks.fetches(budget(), &none).tls.is_none());
    }
}
