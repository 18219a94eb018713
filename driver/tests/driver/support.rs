//! Sessions and clusters to test with, and results as text.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::DataFusionError;
use firesteel_base::{ByteSize, Class, ExecutorId, UserError};
use firesteel_certs::Security;
use firesteel_driver::{ConnectOptions, InProcessWorker, JobProgress, LocalOptions, Session};
use firesteel_engine::datafusion;
use firesteel_engine::session::classify;
use firesteel_executor::{BlockSettings, Executor, ExecutorConfig, Limits};
use firesteel_hw::core_loop::LoopKind;
use firesteel_manager::{Manager, ManagerConfig};
use tempfile::TempDir;

pub const SHORT: Duration = Duration::from_secs(10);
pub const LONG: Duration = Duration::from_secs(120);

pub fn local_options(cores: u32, scratch: &Path) -> LocalOptions {
    LocalOptions {
        cores: Some(cores),
        unpinned: true,
        memory: Some(ByteSize(256 << 20)),
        scratch: Some(scratch.to_owned()),
        ..LocalOptions::default()
    }
}

pub async fn local(cores: u32) -> (Session, TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    (Session::local(local_options(cores, scratch.path())).await.unwrap(), scratch)
}

/// The rows of a query, sorted, as lines of text.
pub async fn rows(session: &Session, sql: &str) -> Vec<String> {
    let frame = session.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let batches = frame.collect().await.unwrap_or_else(|fault| panic!("{sql}: {}", told(&fault).1));
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The one number that a query comes to.
pub async fn number(session: &Session, sql: &str) -> i64 {
    let lines = rows(session, sql).await;
    let digits = |line: &String| line.trim_matches(['|', ' ']).parse().ok();
    lines.iter().find_map(digits).unwrap_or_else(|| panic!("{sql}: {lines:?}"))
}

pub fn told(fault: &DataFusionError) -> (Class, UserError) {
    classify(fault)
}

/// What a query fails with.
pub async fn failure(session: &Session, sql: &str) -> (Class, UserError) {
    match session.sql(sql).await {
        Err(error) => (Class::User, error),
        Ok(frame) => told(&frame.collect().await.expect_err(sql)),
    }
}

/// Waits until the session's latest query is as wanted.
pub async fn until(session: &Session, wanted: impl FnMut(&JobProgress) -> bool) -> JobProgress {
    let mut progress = session.progress();
    let found = tokio::time::timeout(LONG, progress.wait_for(wanted)).await;
    found.expect("in time").expect("the session is open").clone()
}

/// Tables of numbers: `t(k, g, v)` with `rows` rows in several Parquet files, and `names(g, name)` as CSV.
pub struct Tables {
    folder: TempDir,
}

impl Tables {
    pub async fn make(rows: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (session, _scratch) = local(2).await;
        let path = folder.path().display();
        for part in 0..4 {
            let (first, last) = (part * rows / 4, (part + 1) * rows / 4 - 1);
            let select = format!(
                "select value as k, value % 17 as g, value * 7 % 1001 as v from generate_series({first}, {last})"
            );
            let copy = format!("copy ({select}) to '{path}/t/{part}.parquet' stored as parquet");
            number(&session, &copy).await;
        }
        let names: String = (0..17).map(|g| format!("{g},group {g}\n")).collect();
        std::fs::write(folder.path().join("names.csv"), format!("g,name\n{names}")).unwrap();
        session.close().await;
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub async fn register(&self, session: &Session) {
        let path = self.folder.path().display();
        for sql in [
            format!("create external table t stored as parquet location '{path}/t/'"),
            format!(
                "create external table names (g bigint, name varchar) stored as csv location '{path}/names.csv' \
                 options ('format.has_header' 'true')"
            ),
        ] {
            session.sql(&sql).await.unwrap().collect().await.unwrap();
        }
    }
}

/// Queries over [`Tables`] with one and several stages.
pub const QUERIES: [&str; 7] = [
    "select count(*), sum(v), min(k), max(k) from t",
    "select g, count(*) as n, sum(v) as s from t group by g",
    "select name, sum(v) as s from t join names on t.g = names.g group by name having sum(v) > 0",
    "select a.k, a.v, b.v from t a join t b on a.k = b.k + 1 where a.g = 3 and a.v < 40",
    "select k, v from t order by v desc, k limit 25",
    "select g, v, row_number() over (partition by g order by v, k) as n from t where v < 20",
    "select count(distinct v) from (select v from t union all select g from names)",
];

/// A manager and executors in this process, whose blocks are served over TCP.
pub struct Cluster {
    pub manager: Arc<Manager>,
    pub executors: Vec<Arc<Executor>>,
    pub workers: Vec<InProcessWorker>,
    _scratch: TempDir,
}

impl Cluster {
    pub async fn start(executors: u32, cores: usize) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let manager = Manager::start(ManagerConfig::default());
        let mut cluster = Self { manager, executors: Vec::new(), workers: Vec::new(), _scratch: scratch };
        for number in 0..executors {
            cluster.add(number, cores, String::new()).await;
        }
        cluster
    }

    /// Adds a worker with one executor.
    pub async fn add(&mut self, number: u32, cores: usize, control_address: String) {
        let worker = format!("w{number}").parse().unwrap();
        let scratch = self._scratch.path().join(format!("w{number}"));
        std::fs::create_dir_all(&scratch).unwrap();
        let executor = Executor::start(ExecutorConfig {
            id: ExecutorId { worker, index: 0 },
            cores: vec![None; cores],
            numa_node: None,
            memory: ByteSize(256 << 20),
            scratch: vec![scratch],
            loop_kind: LoopKind::Tokio,
            block_listener: Some(TcpListener::bind("127.0.0.1:0").unwrap()),
            advertise_host: "127.0.0.1".to_owned(),
            control_address,
            keeper: None,
            blocks: BlockSettings { memory_fraction: 0.5, ..BlockSettings::default() },
            security: Security::default(),
            limits: Limits::default(),
        })
        .unwrap();
        let worker = &executor.id().worker.clone();
        let member =
            InProcessWorker::join(&self.manager, worker, vec![Arc::clone(&executor)], None).await.unwrap();
        self.executors.push(executor);
        self.workers.push(member);
    }

    pub async fn session(&self, options: ConnectOptions) -> Session {
        let session =
            Session::in_process(Arc::clone(&self.manager), self.executors.clone(), options).await.unwrap();
        if !self.executors.is_empty() {
            session.await_executors(self.executors.len(), SHORT).await.unwrap();
        }
        session
    }

    /// Asserts that nothing of any job is left on any executor. To be asked when sessions are closed.
    pub fn assert_empty(&self) {
        for executor in &self.executors {
            let status = executor.status();
            assert_eq!(status.running_attempts, 0, "{executor:?} runs attempts");
            assert_eq!(status.blocks.blocks, 0, "{executor:?} holds blocks: {:?}", status.blocks);
        }
    }

    pub async fn stop(self) {
        for executor in &self.executors {
            executor.shutdown(SHORT).await;
        }
        self.manager.stop().await;
    }
}

pub fn partitions(count: usize) -> ConnectOptions {
    ConnectOptions {
        conf: [("firesteel.partitions".to_owned(), count.to_string())].into(),
        ..ConnectOptions::default()
    }
}
