//! Opening a session: on this machine or on a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use firesteel_base::UserError;
use firesteel_base::config::LocalSettings;
use firesteel_driver::{ConnectOptions, LocalOptions, Session};

use crate::context::Client;
use crate::exit::Failure;
use crate::output::progress::{Snapshot, StageSnapshot};

/// Where queries run.
#[derive(Debug, Clone)]
pub enum Place {
    /// In this process.
    Local(LocalSettings),
    /// On the cluster of the manager at this address.
    Cluster(Client),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(_) => f.write_str("running in this process"),
            Self::Cluster(client) => write!(f, "running on the cluster of {}", client.manager),
        }
    }
}

/// Opens a session there. `name` is how its jobs are listed.
pub async fn open(place: &Place, name: &str, conf: BTreeMap<String, String>) -> Result<Session, Failure> {
    match place {
        Place::Local(local) => Ok(Session::local(local_options(local, conf)).await?),
        Place::Cluster(client) => {
            let (name, queue) = (name.to_owned(), client.queue.clone());
            let (security, credential) = (client.security.clone(), client.credential.clone());
            let options =
                ConnectOptions { name, security, conf, queue, credential, ..ConnectOptions::default() };
            Session::connect(&client.manager, options).await.map_err(Failure::cluster)
        }
    }
}

fn local_options(local: &LocalSettings, conf: BTreeMap<String, String>) -> LocalOptions {
    LocalOptions {
        cores: local.cores.set(),
        unpinned: false,
        memory: local.memory.set(),
        scratch: local.scratch.clone().set().map(PathBuf::from),
        conf,
    }
}

/// How far the session's latest query has come. Before it has stages it may wait for the first executor to come up.
pub fn snapshot(session: &Session) -> Snapshot {
    let progress = session.progress();
    let progress = progress.borrow();
    let waiting_for = if session.executors_up() == 0 { "an executor: none is up" } else { "" };
    let stage = |stage: &firesteel_driver::StageProgress| StageSnapshot {
        stage: stage.stage.0,
        tasks: stage.tasks,
        running: stage.running,
        done: stage.done,
        failed: stage.failed_attempts,
        rows: stage.rows,
        bytes: stage.bytes,
    };
    Snapshot {
        job: progress.job.map(|job| job.to_string()).unwrap_or_default(),
        waiting: progress.waiting_for_slots,
        waiting_for: waiting_for.to_owned(),
        stages: progress.stages.iter().map(stage).collect(),
    }
}

/// Session settings given as `KEY=VALUE`.
pub fn conf(pairs: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    pairs.iter().map(|pair| conf_pair(pair)).collect()
}

fn conf_pair(pair: &str) -> Result<(String, String), Failure> {
    match pair.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(Failure::usage(
            UserError::new(format!("--conf {pair}: not of the form KEY=VALUE"))
                .hint("for example --conf datafusion.execution.batch_size=4096"),
        )),
    }
}
