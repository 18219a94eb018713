//! What an operator may set, and the limits of everything that could grow.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::shell::{Counts, Guard};

/// How the manager judges silence, and how much it keeps.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// How often workers and drivers are asked to report.
    pub heartbeat: Duration,
    /// Silence after which a worker gets no new slots.
    pub node_suspect_after: Duration,
    /// Silence after which a worker and its executors are given up.
    pub node_timeout: Duration,
    /// Silence after which a driver is given up: its leases end and its jobs fail. A cancelled job whose driver does
    /// not close it ends after the same time. So long, too, the jobs of an earlier manager wait for their drivers.
    pub driver_timeout: Duration,
    /// How long the jobs of a driver whose connection ended, and what they hold, wait for it to come back.
    pub driver_return: Duration,
    /// How long an executor that was up before this manager gets nothing new: meanwhile drivers claim what they hold there.
    pub claim_wait: Duration,
    /// How long such an executor waits longer than that for the drivers of jobs that an earlier manager has left; at most for as long
    /// as these jobs wait.
    pub returning_wait: Duration,
    /// How long a driver in cluster deploy mode may take from its launch until it opens its job.
    pub launch_timeout: Duration,
    /// Epochs of executors start here. It must be larger than any epoch that an earlier run of this manager gave
    /// out; milliseconds of the unix clock are, as no run gives out a thousand a second.
    pub epoch_seed: u64,
    /// Numbers of leases start here; larger than all that an earlier run gave out.
    pub lease_seed: u64,
    /// Who asks callers who they are; `None`: nobody does, and everybody may do everything.
    pub tokens: Option<Arc<Guard>>,
    /// What has happened, counted over all runs that are started with this.
    pub counts: Arc<Counts>,
    /// How much is kept of everything.
    pub limits: Limits,
}

impl Default for ManagerConfig {
    fn default() -> Self {
        let epoch_seed = unix_ms();
        Self {
            heartbeat: Duration::from_secs(2),
            node_suspect_after: Duration::from_secs(6),
            node_timeout: Duration::from_secs(15),
            driver_timeout: Duration::from_secs(15),
            driver_return: Duration::from_secs(5),
            claim_wait: Duration::from_secs(3),
            returning_wait: Duration::MAX,
            launch_timeout: Duration::from_secs(60),
            epoch_seed,
            lease_seed: lease_seed(epoch_seed),
            tokens: None,
            counts: Arc::default(),
            limits: Limits::default(),
        }
    }
}

/// The most of each thing that is kept. What would exceed a limit is refused by its name, or the oldest goes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Jobs that have not ended; more are refused.
    pub live_jobs: usize,
    /// Of these, submitted ones that wait for a driver; more are refused.
    pub queued_jobs: usize,
    /// Of these, those whose driver is in a client; more are refused.
    pub open_jobs: usize,
    /// Bytes of names, SQL texts and settings of jobs that have not ended; what is more is refused.
    pub live_bytes: usize,
    /// Ended jobs kept for showing; the oldest go.
    pub ended_jobs: usize,
    /// Workers alive or suspect; more are refused.
    pub nodes: usize,
    /// Lost and left workers kept for showing; the oldest go.
    pub gone_nodes: usize,
    /// Executors of one worker; a worker with more is refused.
    pub executors_per_node: usize,
    /// Drivers in cluster deploy mode that one worker runs at a time, whatever it says that it may; further jobs wait.
    pub drivers_per_node: usize,
    /// Drivers connected; more are refused.
    pub drivers: usize,
    /// Stages of one job with a demand, and with progress kept; what is beyond is refused or not kept.
    pub stages_per_job: usize,
    /// Bytes of a job's SQL text; longer ones are refused.
    pub sql_bytes: usize,
    /// Bytes of a job's settings; longer ones are refused.
    pub conf_bytes: usize,
    /// Bytes of the name of a job, of its user or of its queue; longer ones are refused.
    pub name_bytes: usize,
    /// Bytes of a job's SQL text, and of each text of how it ended, that are kept once it has.
    pub ended_text_bytes: usize,
    /// Messages waiting for one worker or driver; one that lets more pile up is dropped as dead.
    pub session_queue: usize,
    /// Bytes of those messages; the same.
    pub session_queue_bytes: usize,
    /// Messages waiting for the machine; senders wait.
    pub event_queue: usize,
    /// Questions waiting for their answer that change nothing; who asks more waits.
    pub look_queue: usize,
    /// Messages that the machine takes at a time, before what it says to them is written and sent.
    pub batch: usize,
    /// Callers waiting for jobs to end; more are refused.
    pub waiters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            live_jobs: 10_000,
            queued_jobs: 5_000,
            open_jobs: 2_000,
            live_bytes: 256 << 20,
            ended_jobs: 1_000,
            nodes: 10_000,
            gone_nodes: 100,
            executors_per_node: 64,
            drivers_per_node: 1_024,
            drivers: 10_000,
            stages_per_job: 10_000,
            sql_bytes: 16 << 20,
            conf_bytes: 1 << 20,
            name_bytes: 1 << 10,
            ended_text_bytes: 64 << 10,
            session_queue: 65_536,
            session_queue_bytes: 64 << 20,
            event_queue: 4_096,
            look_queue: 1_024,
            batch: 256,
            waiters: 10_000,
        }
    }
}

/// Where a run that gives out epochs from `epoch_seed` on begins to count leases: room for a million a millisecond.
pub(crate) fn lease_seed(epoch_seed: u64) -> u64 {
    epoch_seed.saturating_mul(1 << 20)
}

/// The unix clock in milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
