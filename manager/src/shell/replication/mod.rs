//! Several managers: they replicate the journal among themselves, and the one that leads runs the machine.
//!
//! ```text
//!                    ┌──────────────────── Member ────────────────────┐
//!   other members ──►│ service ─► consensus ─► log, state (store)     │
//!                 ◄──│ network ◄─    │  ▲                             │
//!                    │   └─ lease    │  └── elections, forming,       │
//!                    │               ▼      joining (vigil)           │
//!                    │            office: while it leads, a Manager ──┼──► workers, drivers, clients
//!                    └────────────────────────────────────────────────┘
//! ```
//!
//! The consensus library (openraft) knows terms, votes and logs; what is replicated are the journal's changes, and that a run
//! began. A manager that begins to lead first has it written that its run begins: so it has all that was written before, and its
//! epochs are past all others. Then it is what a manager is that was started again.
//!
//! Invariants:
//! - A change is acknowledged when a majority has it on their disks. One of an earlier run than the last that began is refused by
//!   the log itself.
//! - A manager lends nothing and answers nothing unless a majority has heard it less than [`HELD`] ago, by a clock that goes on
//!   while its process stands still. No other one is voted for before [`LEASE`].
//! - A member that lost what it kept has no vote until it has caught up.
//! - openraft is named in this folder only.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzed;
mod lease;
mod log;
mod network;
mod office;
mod peers;
mod record;
mod service;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod vigil;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use firesteel_base::{UserError, version};
use firesteel_certs::Security;
use firesteel_protocol::channel::not_leader;
use firesteel_protocol::v1::members_server::{Members, MembersServer};
use firesteel_protocol::v1::{MemberRole, MemberView};
use openraft::{BasicNode, Config, ServerState, SnapshotPolicy};
use tokio::sync::watch;
use tonic::Status;

use super::grpc::Serving;
use super::metrics::Standing;
use super::{Counts, Manager};
use crate::ManagerConfig;
use crate::config::unix_ms;
use lease::Lease;
use network::Network;
pub(super) use office::Office;
pub use peers::Peers;
use record::Raft;
use service::Rpc;
use store::Store;

/// The file in a member's folder.
pub(super) const FILE: &str = "member.redb";

/// How often the leader lets the others know that it is there.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// How long one call to another member may take; a larger one is made again.
const CALL: Duration = Duration::from_secs(1);
/// Who has heard a leader votes for no other for so long.
const LEASE: Duration = Duration::from_millis(1001);
/// A leader that a majority has not heard for so long does not act. Shorter than [`LEASE`], as clocks do not run quite alike.
const HELD: Duration = Duration::from_millis(900);
/// How much longer than the one before it in the list each member waits before it stands for election.
const RANK_WAIT: Duration = Duration::from_millis(200);
/// A follower that has not heard its leader for so long does not say that it follows one.
const LEADER_HEARD: Duration = Duration::from_secs(2);
/// How long a change may take until a majority has it; then the leader steps down. It does so at once when it has not heard a
/// majority for [`HELD`].
const WRITE_MAX: Duration = Duration::from_secs(10);
/// How long an executor from before gets nothing new from a manager that begins to lead. Drivers look for it as soon as the one
/// before is gone.
const CLAIM_WAIT: Duration = Duration::from_secs(1);
/// How long such executors wait longer than that for the drivers of jobs that the journal knows.
const RETURNING_WAIT: Duration = Duration::from_secs(2);
/// Entries of the log after which they are replaced by a snapshot, and how many of those stay for members that lag.
const SNAPSHOT_AFTER: u64 = 1000;
const LOG_KEPT: u64 = 200;
/// The pieces in which a snapshot is sent, and how long one may take; the last one includes its installation.
const SNAPSHOT_PIECE_BYTES: u64 = 1 << 20;
const SNAPSHOT_PIECE_MAX: Duration = Duration::from_secs(10);

/// One of several managers.
pub struct Member {
    peers: Peers,
    security: Security,
    raft: Raft,
    store: Store,
    lease: Arc<Lease>,
    /// The manager that runs here while this member leads.
    leading: watch::Sender<Option<(Arc<Manager>, Office)>>,
    failure: watch::Sender<Option<UserError>>,
    /// When the leader was heard last, or one who may become it; at first, when this member was started.
    heard: Mutex<Instant>,
    /// Whether it may vote: it has all that it ever acknowledged.
    has_vote: AtomicBool,
    /// The folders of all members when the cluster was formed.
    founders: Mutex<Vec<String>>,
    /// Whether others have something that this one has not kept.
    is_behind: AtomicBool,
    /// What the managers that have led here have counted.
    counts: Arc<Counts>,
    started: Instant,
    started_unix_ms: u64,
}

/// The service of a manager about itself and the others.
pub(super) fn service(serving: Serving) -> MembersServer<impl Members> {
    MembersServer::new(Rpc(serving))
        .max_decoding_message_size(service::CALL_BYTES_MAX)
        .max_encoding_message_size(service::CALL_BYTES_MAX)
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl Member {
    /// Starts a member on the current tokio runtime; its state is in `folder`, which is made when there is none.
    ///
    /// # Errors
    /// When the folder is in use, cannot be read or written, or is that of another member or another list of them.
    pub async fn start(
        config: ManagerConfig,
        peers: Peers,
        security: Security,
        folder: &Path,
    ) -> Result<Arc<Self>, UserError> {
        let store = Store::open(folder, &peers)?;
        let lease = Arc::new(Lease::new(peers.count()));
        let network = Network::new(peers.clone(), security.clone(), Arc::clone(&lease));
        let (log, state) = (log::Log(store.clone()), state::State(store.clone()));
        let raft = Raft::new(peers.me(), Arc::new(consensus_config()), network, log, state).await;
        let raft = raft.map_err(|fault| store.cannot("read", &fault))?;
        let has_vote = AtomicBool::new(store.has_vote().map_err(|fault| store.cannot("read", &fault))?);
        let founders = store.founders().map_err(|fault| store.cannot("read", &fault))?;
        let member = Arc::new(Self {
            peers,
            security,
            raft,
            store,
            lease,
            leading: watch::Sender::new(None),
            failure: watch::Sender::new(None),
            heard: Mutex::new(Instant::now()),
            has_vote,
            founders: Mutex::new(founders),
            is_behind: AtomicBool::new(false),
            counts: Arc::clone(&config.counts),
            started: Instant::now(),
            started_unix_ms: unix_ms(),
        });
        tokio::spawn(vigil::keep(Arc::downgrade(&member)));
        tokio::spawn(office::keep(Arc::downgrade(&member), config));
        Ok(member)
    }

    /// The manager that runs here.
    ///
    /// # Errors
    /// When this member does not lead, with who does.
    pub(super) fn manager(&self) -> Result<Arc<Manager>, Status> {
        match &*self.leading.borrow() {
            Some((manager, office)) if office.is_held() => Ok(Arc::clone(manager)),
            Some(_) | None => Err(not_leader(self.leader().as_deref())),
        }
    }

    /// The address of the leader that this member knows of, itself excepted.
    fn leader(&self) -> Option<String> {
        let leader = self.raft.metrics().borrow().current_leader?;
        (leader != self.peers.me()).then(|| self.peers.address(leader)).flatten()
    }

    /// Completes when the member cannot go on, with the reason.
    pub(super) async fn failed(&self) -> UserError {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            // It was stopped.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Ends every session, tells it so, and stops.
    pub(super) async fn stop(&self) {
        let leading = self.leading.send_replace(None);
        if let Some((manager, _)) = leading {
            manager.stop().await;
        }
        if let Err(fault) = self.raft.shutdown().await {
            tracing::warn!(%fault, "the consensus did not end well");
        }
    }

    fn heard(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn hears_leader(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn has_vote(&self) -> bool {
        self.has_vote.load(Ordering::Acquire)
    }

    /// Has a vote from now on, and after a restart too.
    async fn gain_vote(&self, founders: Vec<String>) -> Result<(), UserError> {
        self.store.gain_vote(founders.clone()).await.map_err(|fault| self.store.cannot("write", &fault))?;
        *self.founders.lock().unwrap_or_else(PoisonError::into_inner) = founders;
        self.has_vote.store(true, Ordering::Release);
        Ok(())
    }

    /// What this member tells of itself.
    pub(super) fn view(&self) -> MemberView {
        let metrics = self.raft.metrics().borrow().clone();
        let leads = metrics.state == ServerState::Leader;
        let serves = self.leading.borrow().as_ref().is_some_and(|(_, office)| office.is_held());
        let role = match (self.has_vote(), self.is_behind.load(Ordering::Acquire)) {
            (true, _) if leads => MemberRole::Leader,
            (true, _) => MemberRole::Follower,
            (false, true) => MemberRole::Joining,
            (false, false) => MemberRole::Forming,
        };
        let heard = if leads { self.lease.age(&metrics.vote) } else { Some(self.heard()) };
        let leader = metrics.current_leader.and_then(|leader| self.peers.address(leader));
        MemberView {
            address: self.peers.my_address().to_owned(),
            role: role.into(),
            release: version::build().to_owned(),
            started_unix_ms: self.started_unix_ms,
            leader: leader.unwrap_or_default(),
            term: metrics.current_term,
            last_record: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            blank: metrics.last_log_index.unwrap_or(0) == 0,
            heard_ms: heard.map(|heard| u64::try_from(heard.as_millis()).unwrap_or(u64::MAX)),
            serves,
            members: self.peers.to_string(),
            folder: self.store.folder().to_owned(),
            founders: self.founders.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// What the managers that have led here have counted.
    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// How it stands to the others, for its metrics. A leader that was not heard for [`LEADER_HEARD`] is taken for gone.
    pub(super) fn standing(&self) -> Standing {
        let leads = self.leading.borrow().as_ref().is_some_and(|(_, office)| office.is_held());
        let heard = self.has_vote() && self.heard() < LEADER_HEARD;
        let leader = if leads { Some(String::new()) } else { self.leader().filter(|_| heard) };
        let metrics = self.raft.metrics().borrow().clone();
        let applied = metrics.last_applied.map_or(0, |applied| applied.index);
        let behind = metrics.last_log_index.unwrap_or(0).saturating_sub(applied);
        Standing { leads, leader, term: metrics.current_term, behind }
    }

    fn nodes(&self) -> BTreeMap<u64, BasicNode> {
        self.peers.all().map(|(id, address)| (id, BasicNode::new(address))).collect()
    }
}

/// Heartbeats and elections are not left to the library: a member asks the others before it stands, so that one which was cut
/// off or stood still does not unseat a leader that all others hear ([`vigil`]).
fn consensus_config() -> Config {
    let millis = |span: Duration| u64::try_from(span.as_millis()).expect("it is short");
    Config {
        cluster_name: "firesteel-managers".to_owned(),
        heartbeat_interval: millis(CALL),
        // The most of it is how long a vote is not given to another.
        election_timeout_min: millis(LEASE),
        election_timeout_max: millis(LEASE) + 1,
        enable_heartbeat: false,
        enable_elect: false,
        install_snapshot_timeout: millis(SNAPSHOT_PIECE_MAX),
        snapshot_max_chunk_size: SNAPSHOT_PIECE_BYTES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_AFTER),
        max_in_snapshot_log_to_keep: LOG_KEPT,
        replication_lag_threshold: 2 * SNAPSHOT_AFTER,
        max_payload_entries: 64,
        ..Config::default()
    }
}
