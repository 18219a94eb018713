//! The session: what a user's program holds.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::prelude::{DataFrame, SessionContext};
use firesteel_base::{ExecutorId, UserError};
use firesteel_certs::Security;
use firesteel_engine::{ClusterShape, EngineSession, SessionOptions, datafusion};
use firesteel_executor::Executor;
use firesteel_manager::Manager;
use firesteel_protocol::managers::Managers;
use firesteel_shuffle::{FetchConfig, Fetcher};
use tokio::sync::watch;

use crate::in_process::HomeCluster;
use crate::machine::Policy;
use crate::options::{ConnectOptions, LocalOptions};
use crate::progress::JobProgress;
use crate::runner::{Home, Runner};
use crate::shell::{Command, Control, LoopConfig, ManagerAt, Member, Meter, Peers, start};

/// SQL and DataFrames over a cluster, or over this machine alone. Clones are the same session; it ends when it is closed,
/// or when the last clone, frame and result stream of it is dropped.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    engine: EngineSession,
    control: Arc<Control>,
    place: Place,
    /// How executors elsewhere are talked to.
    security: Security,
    /// Executors that live in this process.
    here: BTreeSet<ExecutorId>,
}

enum Place {
    /// All of it is in this process.
    Local(Arc<HomeCluster>),
    /// The executors are elsewhere; some plans run in this process nevertheless.
    Cluster(Arc<Home>),
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.inner.place {
            Place::Local(_) => "local",
            Place::Cluster(_) => "cluster",
        };
        write!(f, "Session({place})")
    }
}

impl Session {
    /// A session on this machine: nothing has to be set up, and nothing is left behind.
    ///
    /// # Errors
    /// When the machine has less than the options ask for, or a setting is unknown.
    pub async fn local(options: LocalOptions) -> Result<Self, UserError> {
        let cluster = HomeCluster::start(&options).await?;
        let engine = EngineSession::new(
            Arc::new(cluster.runner()),
            SessionOptions { conf: options.conf, ..SessionOptions::default() },
        )?;
        let control = Arc::clone(&cluster.control);
        let (place, here) = (Place::Local(cluster), BTreeSet::new());
        let security = Security::default();
        Ok(Self { inner: Arc::new(Inner { engine, control, place, security, here }) })
    }

    /// A session on the cluster of the manager at `manager`: `host:port`, or all of several managers, separated by commas.
    ///
    /// # Errors
    /// When no manager of this release answers there, or a setting is unknown.
    pub async fn connect(manager: &str, options: ConnectOptions) -> Result<Self, UserError> {
        let managers = Managers::of(manager, options.security.clone());
        let at = ManagerAt::At(managers, options.credential.clone());
        Self::open(Peers::new(at, []), options).await
    }

    /// A session on a cluster whose manager, and some of whose executors, are in this process: they are reached by
    /// function call, all others at the addresses that the manager tells.
    ///
    /// # Errors
    /// When the manager does not take the session, or a setting is unknown.
    pub async fn in_process(
        manager: Arc<Manager>,
        executors: Vec<Arc<Executor>>,
        options: ConnectOptions,
    ) -> Result<Self, UserError> {
        Self::open(Peers::new(ManagerAt::Here(manager), executors), options).await
    }

    async fn open(peers: Peers, options: ConnectOptions) -> Result<Self, UserError> {
        let (submitted_job, launch) = options.submitted_job.unzip();
        let security = options.security;
        let peers = peers.launched(launch.unwrap_or(0)).secured(security.clone());
        let config = LoopConfig {
            name: options.name,
            queue: options.queue,
            weight: options.weight,
            submitted_job,
            manager_away_max: options.manager_away_max,
            policy: Policy { first_attempt: peers.first_attempt(), ..Policy::default() },
            fetcher: Fetcher::new(FetchConfig {
                tls: security.tls().map(|tls| tls.block_client()),
                ..FetchConfig::default()
            }),
        };
        let fetcher = Arc::clone(&config.fetcher);
        let here = peers.executors.keys().cloned().collect();
        let control = Arc::new(start(peers, config).await?);
        let home = Arc::new(Home::new(options.memory));
        let runner = Runner {
            control: Arc::clone(&control),
            fetcher,
            is_local: false,
            executors_wait_max: options.executors_wait_max,
            home: Some(Arc::clone(&home)),
            keeps: None,
        };
        let options = SessionOptions { conf: options.conf, ..SessionOptions::default() };
        let engine = EngineSession::new(Arc::new(runner), options)?;
        Ok(Self { inner: Arc::new(Inner { engine, control, place: Place::Cluster(home), security, here }) })
    }

    /// Plans one statement. Statements about tables and settings are carried out at once; a query runs when the rows of
    /// the frame are asked for: by `collect`, `execute_stream`, `show`, `write_parquet` and the like.
    ///
    /// # Errors
    /// When the text is not one statement that makes sense here.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame, UserError> {
        self.inner.engine.sql(sql).await
    }

    /// DataFusion's session: its DataFrame interface, its catalog. What it plans runs as this session's jobs.
    #[must_use]
    pub fn context(&self) -> &SessionContext {
        self.inner.engine.context()
    }

    /// The engine's session.
    #[must_use]
    pub fn engine(&self) -> &EngineSession {
        &self.inner.engine
    }

    /// How far the latest query is; changes a few times a second.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<JobProgress> {
        self.inner.control.progress.clone()
    }

    /// Stops all queries of the session; whoever reads their results gets an error with the reason.
    pub fn cancel(&self, reason: &str) {
        self.inner.control.send(Command::CancelAll(reason.to_owned()));
        if let Place::Cluster(home) = &self.inner.place {
            home.cancel(reason);
        }
    }

    /// Says how the submitted job of this session ends, whatever its queries came to: with so many rows, or with an
    /// error. It is told to the manager when the session is closed. Without a submitted job it has no meaning.
    pub fn conclude(&self, end: Result<u64, UserError>) {
        self.inner.control.send(Command::Conclude(end));
    }

    /// Ends the session: queries are stopped, and everything it has on the cluster is given back. Takes a few seconds
    /// at most.
    pub async fn close(self) {
        match &self.inner.place {
            Place::Local(cluster) => cluster.close().await,
            Place::Cluster(home) => {
                home.close().await;
                self.inner.control.close().await;
            }
        }
    }

    /// The executors and cores that queries run on now. Waits a while for the first executor.
    ///
    /// # Errors
    /// When there is no executor in that time.
    pub async fn shape(&self) -> Result<ClusterShape, UserError> {
        self.inner.engine.shape().await
    }

    /// Reads what this process and all executors that are up now use of their machines.
    ///
    /// # Errors
    /// When the address of an executor makes no sense.
    pub async fn meter(&self) -> Result<Meter, UserError> {
        match &self.inner.place {
            Place::Local(_) => Ok(Meter::of_this_process()),
            Place::Cluster(_) => {
                let members = self.inner.control.members.borrow().clone();
                let elsewhere = |member: &Member| !self.inner.here.contains(&member.life.executor);
                Meter::connect(members.into_iter().filter(elsewhere).collect(), &self.inner.security).await
            }
        }
    }

    /// How many executors are up, as far as this session knows.
    #[must_use]
    pub fn executors_up(&self) -> usize {
        self.inner.control.members.borrow().len()
    }

    /// Waits until at least so many executors are up.
    ///
    /// # Errors
    /// When they are not within `limit`; says how many there are.
    pub async fn await_executors(&self, count: usize, limit: Duration) -> Result<(), UserError> {
        let control = &self.inner.control;
        if control.await_members(limit, move |members| members.len() >= count).await.is_some() {
            return Ok(());
        }
        let now = self.executors_up();
        Err(UserError::new(format!("the cluster has {now} executors, not {count}"))
            .detail(format!("waited for {:.1} s", limit.as_secs_f64()))
            .hint("are workers running and connected to this manager? `firesteel nodes` lists them"))
    }
}
