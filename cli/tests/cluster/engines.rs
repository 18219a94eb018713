//! The two places where queries run, for tests that ask the same of both.

use std::collections::BTreeMap;
use std::path::Path;

use firesteel_base::{ByteSize, UserError};
use firesteel_certs::Security;
use firesteel_driver::{ConnectOptions, LocalOptions, Session};
use firesteel_engine::datafusion::arrow::array::RecordBatch;
use firesteel_engine::datafusion::arrow::datatypes::SchemaRef;
use firesteel_engine::datafusion::physical_plan::common::collect;
use firesteel_engine::session::errors::classify;
use firesteel_testing::cluster::{ClusterOptions, ProcessCluster};
use firesteel_testing::slt;

/// The program under test.
pub const FIRESTEEL: &str = env!("CARGO_BIN_EXE_firesteel");

/// A cluster of it.
pub fn cluster(options: ClusterOptions) -> ProcessCluster {
    ProcessCluster::start(FIRESTEEL, options).unwrap()
}

/// A session, and nothing more than that.
pub struct Engine(pub Session);

impl Engine {
    /// In this process, on so many core threads.
    pub async fn local(cores: u32) -> Result<Self, UserError> {
        Self::local_with(LocalOptions { cores: Some(cores), unpinned: true, ..LocalOptions::default() }).await
    }

    /// In this process, with so little memory.
    pub async fn local_within(cores: u32, memory: ByteSize, scratch: &Path) -> Result<Self, UserError> {
        let scratch = Some(scratch.to_owned());
        Self::local_with(LocalOptions {
            cores: Some(cores),
            unpinned: true,
            memory: Some(memory),
            scratch,
            ..LocalOptions::default()
        })
        .await
    }

    async fn local_with(options: LocalOptions) -> Result<Self, UserError> {
        Session::local(options).await.map(Self)
    }

    /// On a cluster.
    pub async fn connect(manager: &str) -> Result<Self, UserError> {
        Self::connect_secured(manager, Security::default()).await
    }

    /// On a cluster that is talked to so.
    pub async fn connect_secured(manager: &str, security: Security) -> Result<Self, UserError> {
        let (name, conf) = ("test".to_owned(), BTreeMap::new());
        let options = ConnectOptions { name, security, conf, ..ConnectOptions::default() };
        Session::connect(manager, options).await.map(Self)
    }

    /// All rows of a statement's result. There is one batch at least, so that the columns are known.
    pub async fn rows(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), UserError> {
        let frame = self.0.sql(sql).await?;
        let told = |fault| classify(&fault).1;
        let stream = frame.execute_stream().await.map_err(told)?;
        // The frame's own schema is from before its types were made to meet.
        let schema = stream.schema();
        let mut batches = collect(stream).await.map_err(told)?;
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema.clone()));
        }
        Ok((schema, batches))
    }
}

impl Engine {
    /// Bytes that operators of the latest query put on disk for lack of memory.
    pub async fn spilled(&self) -> u64 {
        let mut progress = self.0.progress();
        let ended = progress.wait_for(|progress| progress.phase.is_final());
        ended.await.unwrap().measured.spilled
    }
}

impl slt::Engine for Engine {
    async fn sql(&mut self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), UserError> {
        self.rows(sql).await
    }
}

/// A runtime for one test.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
