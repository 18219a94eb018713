//! How a session is opened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use firesteel_base::{ByteSize, JobId};
use firesteel_certs::Security;
use firesteel_protocol::token::Credential;

/// How a session on this machine is opened. What is not set follows the machine.
#[derive(Debug, Clone, Default)]
pub struct LocalOptions {
    /// Core threads; all cores but those that the control plane is left, when unset.
    pub cores: Option<u32>,
    /// Leaves core threads where the system puts them. There may then be more of them than the machine has cores.
    pub unpinned: bool,
    /// Memory for operators and shuffle blocks; three quarters of the machine's, when unset.
    pub memory: Option<ByteSize>,
    /// The folder for spilled state and shuffle blocks; the system's temporary folder, when unset.
    pub scratch: Option<PathBuf>,
    /// Settings of the session by key: `datafusion.*` and `firesteel.*`.
    pub conf: BTreeMap<String, String>,
}

/// How a session on a cluster is opened.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// How the session's jobs are listed.
    pub name: String,
    /// How the cluster is talked to; by default plainly, and on this host alone.
    pub security: Security,
    /// Settings of the session by key: `datafusion.*` and `firesteel.*`.
    pub conf: BTreeMap<String, String>,
    /// The job that this process was launched for as its driver: all queries of the session run under it, and it ends
    /// with the session; and the how manyth launch of its driver that is. Without it every query is a job of its own.
    pub submitted_job: Option<(JobId, u32)>,
    /// The queue that its jobs wait in for slots; the default one when empty.
    pub queue: String,
    /// Share of slots relative to other jobs.
    pub weight: u32,
    /// Memory for what of its queries runs in this process; a share of the machine's, when unset.
    pub memory: Option<ByteSize>,
    /// What the manager is shown when it asks who calls; nothing when unset.
    pub credential: Credential,
    /// How long a query waits on a cluster without executors for a first one.
    pub executors_wait_max: Duration,
    /// How long jobs go on without the manager before they fail.
    pub manager_away_max: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            name: "session".to_owned(),
            security: Security::default(),
            conf: BTreeMap::new(),
            submitted_job: None,
            queue: String::new(),
            weight: 1,
            memory: None,
            credential: Credential::default(),
            executors_wait_max: Duration::from_secs(60),
            manager_away_max: Duration::from_secs(60),
        }
    }
}
