//! The worker's end: hears what its executors tell, and serves what they left behind.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firesteel_base::{ExecutorId, JobId};
use parking_lot::Mutex;
use rustix::process::Pid;
use tokio::sync::watch;

use super::estate::Estate;
use super::inbox::Inbox;
use crate::serve::{BlockServer, ServeConfig, Served};
use crate::store::BlockStore;
use crate::transport::SocketName;

/// How often to look whether a process has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// Limits of a keeper.
#[derive(Debug, Clone)]
pub struct KeeperConfig {
    /// How blocks are served.
    pub serve: ServeConfig,
    /// How long a process may take to end after it has closed its connection. One that lives on is in charge of its blocks
    /// itself.
    pub death_wait: Duration,
    /// Blocks that nobody has asked for, for so long, are not kept: their job's end was missed.
    pub idle_max: Duration,
}

impl Default for KeeperConfig {
    fn default() -> Self {
        Self {
            serve: ServeConfig::default(),
            death_wait: Duration::from_secs(2),
            idle_max: Duration::from_secs(3600),
        }
    }
}

/// What a keeper holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeeperUsage {
    /// Lives of executors that are over and whose blocks it serves.
    pub lives: usize,
    /// Their blocks that hold rows.
    pub blocks: u64,
    /// Bytes of frames in memory.
    pub memory_bytes: u64,
    /// Bytes of frames in files.
    pub disk_bytes: u64,
}

/// Keeps the blocks of executors of this host that are gone. Dropped, it stops.
#[derive(Debug)]
pub struct Keeper {
    name: String,
    shared: Arc<Shared>,
    server: BlockServer,
}

#[derive(Debug)]
struct Shared {
    config: KeeperConfig,
    served: Served,
    /// Connections of executors, by whom they are of; changed when one ends.
    living: watch::Sender<BTreeMap<ExecutorId, usize>>,
    /// The connections by number, to be ended with the keeper; none once it has.
    streams: Mutex<Option<BTreeMap<u64, UnixStream>>>,
}

impl Keeper {
    /// Hears executors on a socket of its own, and serves blocks on `listener`, on the current tokio runtime.
    ///
    /// # Errors
    /// When a socket cannot be made, or memory must be shared and cannot be.
    pub fn start(listener: TcpListener, config: KeeperConfig) -> io::Result<Self> {
        let socket = SocketName::random().map_err(io::Error::other)?;
        let name = socket.text();
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
        let executors = UnixListener::bind_addr(&address)?;
        let server = BlockServer::for_others(listener, config.serve.clone())?;
        let shared = Arc::new(Shared {
            config,
            served: server.served(),
            living: watch::Sender::default(),
            streams: Mutex::new(Some(BTreeMap::new())),
        });
        let heard = Arc::clone(&shared);
        std::thread::Builder::new().name("keeper".to_owned()).spawn(move || accept(&executors, &heard))?;
        Ok(Self { name, shared, server })
    }

    /// The name by which executors find it: [`Reporter::connect`](super::Reporter::connect).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it serves blocks.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Completes when no process of that executor is connected any more, and what the last one left is served.
    pub async fn taken_over(&self, executor: &ExecutorId) {
        let mut living = self.shared.living.subscribe();
        // The sender lives as long as this.
        let _ = living.wait_for(|living| !living.contains_key(executor)).await;
    }

    /// Lets go of a job's blocks, and of those that nobody has asked for in a long time.
    pub fn free_job(&self, job: JobId) {
        self.shared.served.retain(|store| {
            store.free_job(job);
            store.usage().blocks > 0
        });
        self.shared.served.forget_idle(self.shared.config.idle_max);
    }

    /// Bytes of memory that the blocks of an executor's lives before take.
    #[must_use]
    pub fn memory_of(&self, executor: &ExecutorId) -> u64 {
        self.shared.served.stores(Some(executor)).iter().map(|store| store.usage().memory_bytes).sum()
    }

    /// What it holds.
    #[must_use]
    pub fn usage(&self) -> KeeperUsage {
        let stores = self.shared.served.stores(None);
        stores.iter().map(|store| store.usage()).fold(KeeperUsage::default(), |sum, usage| KeeperUsage {
            lives: sum.lives + 1,
            blocks: sum.blocks + usage.blocks,
            memory_bytes: sum.memory_bytes + usage.memory_bytes,
            disk_bytes: sum.disk_bytes + usage.disk_bytes,
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let streams = self.shared.streams.lock().take();
        for stream in streams.into_iter().flatten().map(|(_, stream)| stream) {
            // One that its executor has closed is closed.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // Wakes the thread that waits for executors.
        if let Ok(address) = std::os::unix::net::SocketAddr::from_abstract_name(&self.name) {
            drop(UnixStream::connect_addr(&address));
        }
    }
}

/// Takes executors in until the keeper stops.
fn accept(executors: &UnixListener, shared: &Arc<Shared>) {
    for (number, stream) in (0..).zip(executors.incoming()) {
        let admitted = stream.and_then(|stream| admit(number, stream, shared));
        match admitted {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::warn!(%error, "an executor could not tell of its blocks"),
        }
    }
}

/// False when the keeper has stopped.
fn admit(number: u64, stream: UnixStream, shared: &Arc<Shared>) -> io::Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(&stream)?;
    let mut streams = shared.streams.lock();
    let Some(open) = streams.as_mut() else { return Ok(false) };
    let own = rustix::process::geteuid();
    if peer.uid != own && !peer.uid.is_root() && shared.config.serve.also_user != Some(peer.uid.as_raw()) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it is of user {}", peer.uid.as_raw()),
        ));
    }
    open.insert(number, stream.try_clone()?);
    drop(streams);
    let process = peer.pid;
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name("keeper executor".to_owned()).spawn(move || {
        hear(stream, process, &shared);
        if let Some(open) = shared.streams.lock().as_mut() {
            open.remove(&number);
        }
    })?;
    Ok(true)
}

/// Hears one executor until its connection ends; what it leaves behind when it is gone is served from then on.
fn hear(stream: UnixStream, process: Pid, shared: &Shared) {
    let mut living = Living { shared, executor: None };
    let mut estate = Estate::default();
    let mut inbox = Inbox::new(stream);
    let fault = loop {
        match inbox.next() {
            Ok(Some((message, descriptor))) => match estate.hear(message, descriptor) {
                Ok(()) => living.name(estate.owner.as_ref().map(|(executor, _)| executor)),
                Err(fault) => break Some(fault.to_owned()),
            },
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    let Some((executor, epoch)) = estate.owner.take() else { return };
    if let Some(fault) = fault {
        tracing::warn!(%executor, fault, "an executor told nonsense of its blocks: they are not kept");
        return;
    }
    if estate.attempts.is_empty() || shared.streams.lock().is_none() {
        return;
    }
    if !ends(process, shared.config.death_wait) {
        tracing::warn!(%executor, "an executor that lives tells of its blocks no more: they are not kept");
        return;
    }
    let store = BlockStore::adopt(estate);
    let usage = store.usage();
    tracing::info!(
        %executor, %epoch, blocks = usage.blocks, memory_bytes = usage.memory_bytes, disk_bytes = usage.disk_bytes,
        "keeping the blocks of an executor that is gone"
    );
    shared.served.add(executor, epoch, store);
}

/// Counts an executor among the living as long as it is heard.
struct Living<'a> {
    shared: &'a Shared,
    executor: Option<ExecutorId>,
}

impl Living<'_> {
    fn name(&mut self, executor: Option<&ExecutorId>) {
        let Some(executor) = executor.filter(|executor| self.executor.as_ref() != Some(executor)) else {
            return;
        };
        self.end();
        self.shared.living.send_modify(|living| *living.entry(executor.clone()).or_default() += 1);
        self.executor = Some(executor.clone());
    }

    fn end(&mut self) {
        let Some(executor) = self.executor.take() else { return };
        self.shared.living.send_modify(|living| {
            let count = living.get_mut(&executor).expect("it was counted");
            *count -= 1;
            if *count == 0 {
                living.remove(&executor);
            }
        });
    }
}

impl Drop for Living<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a process ends within `limit`.
fn ends(process: Pid, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if has_ended(process) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether a process is gone, or dead and not yet waited for.
fn has_ended(process: Pid) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())) else {
        return true;
    };
    // The second field, the program's name, is in parentheses and may hold anything; the state follows.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}
