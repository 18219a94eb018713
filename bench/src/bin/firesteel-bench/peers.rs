//! What is measured: plain DataFusion, and Firesteel in its two modes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use firesteel_bench::queries::tpch_tables_sql;
use firesteel_driver::{ConnectOptions, LocalOptions, Session};
use firesteel_engine::datafusion::prelude::{SessionConfig, SessionContext};

/// Somebody who answers queries.
pub enum Peer {
    /// DataFusion as its own documentation shows it, on the tokio runtime of this program.
    DataFusion(SessionContext),
    /// Firesteel in this process.
    Local(Session),
    /// Firesteel on a cluster, this process being the driver.
    Cluster(Session),
}

impl Peer {
    /// DataFusion with so many partitions.
    pub async fn datafusion(data: &Path, partitions: u32) -> anyhow::Result<Self> {
        let config = SessionConfig::new().with_target_partitions(partitions as usize);
        Self::DataFusion(SessionContext::new_with_config(config)).over(data).await
    }

    /// Local mode with so many core threads.
    pub async fn local(data: &Path, cores: u32) -> anyhow::Result<Self> {
        let options = LocalOptions { cores: Some(cores), conf: BTreeMap::new(), ..LocalOptions::default() };
        Self::Local(Session::local(options).await?).over(data).await
    }

    /// The cluster of that manager.
    pub async fn cluster(data: &Path, manager: &str) -> anyhow::Result<Self> {
        let options = ConnectOptions { name: "bench".to_owned(), ..ConnectOptions::default() };
        Self::Cluster(Session::connect(manager, options).await?).over(data).await
    }

    /// With the tables of `data` known.
    async fn over(self, data: &Path) -> anyhow::Result<Self> {
        let data = data.canonicalize().with_context(|| format!("{} is not there", data.display()))?;
        for statement in tpch_tables_sql(&data) {
            self.run(&statement).await?;
        }
        Ok(self)
    }

    /// How it is called in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DataFusion(_) => "DataFusion",
            Self::Local(_) => "Firesteel local",
            Self::Cluster(_) => "Firesteel cluster",
        }
    }

    /// Runs a query to its end and counts its rows.
    pub async fn run(&self, sql: &str) -> anyhow::Result<usize> {
        let frame = match self {
            Self::DataFusion(context) => context.sql(sql).await?,
            Self::Local(session) | Self::Cluster(session) => session.sql(sql).await?,
        };
        Ok(frame.collect().await?.iter().map(|batch| batch.num_rows()).sum())
    }

    /// Ends it.
    pub async fn close(self) {
        match self {
            Self::DataFusion(_) => {}
            Self::Local(session) | Self::Cluster(session) => session.close().await,
        }
    }
}
