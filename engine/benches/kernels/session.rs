//! A session whose plans run on the thread that measures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use firesteel_base::{ByteSize, MemoryBudget};
use firesteel_engine::memory::GrantPool;
use firesteel_engine::{ClusterShape, EngineSession, JobRunner, JobSpec, SessionOptions, datafusion};
use tokio::runtime::{Builder, Runtime};

/// A session in local mode with one core.
pub struct OneCore {
    runtime: Runtime,
    session: EngineSession,
}

impl OneCore {
    pub fn new() -> Self {
        let pool = GrantPool::new(MemoryBudget::new(ByteSize(1 << 40)), None);
        let env =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc().expect("an environment");
        let session = EngineSession::new(Arc::new(Here { env }), SessionOptions::default());
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, session: session.expect("a session") }
    }

    /// Makes the rows known as a table in memory.
    pub fn add_table(&self, name: &str, batches: &[RecordBatch]) {
        let table =
            MemTable::try_new(batches[0].schema(), vec![batches.to_vec()]).expect("batches of one schema");
        self.session.context().register_table(name, Arc::new(table)).expect("a name of its own");
    }

    /// Carries out a statement.
    pub fn run(&self, sql: &str) {
        self.time(1, sql);
    }

    /// Runs a query that often and times it, planning left out; and its rows.
    pub fn time(&self, times: u64, sql: &str) -> (Duration, Vec<RecordBatch>) {
        let (mut took, mut rows) = (Duration::ZERO, Vec::new());
        for _ in 0..times {
            let plan = self.runtime.block_on(async {
                let frame = self.session.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
                frame.create_physical_plan().await.expect("a plan")
            });
            let context = self.session.context().task_ctx();
            let start = Instant::now();
            rows = self.runtime.block_on(collect(plan, context)).expect("rows");
            took += start.elapsed();
        }
        (took, rows)
    }
}

/// Runs a job's only stage, which has one partition, where its rows are asked for.
#[derive(Debug)]
struct Here {
    env: Arc<RuntimeEnv>,
}

#[async_trait::async_trait]
impl JobRunner for Here {
    async fn shape(&self) -> Result<ClusterShape> {
        Ok(ClusterShape { executors: 1, cores_per_executor: 1, cores: 1, local: true })
    }

    fn run(&self, job: JobSpec) -> Result<SendableRecordBatchStream> {
        let stage = job.graph.result();
        assert_eq!((job.graph.stages.len(), stage.partitions), (1, 1), "{}", job.graph);
        let config =
            job.settings.session_config().map_err(|error| DataFusionError::External(error.into()))?;
        let context = SessionContext::new_with_config_rt(config, Arc::clone(&self.env)).task_ctx();
        stage.plan.execute(0, context)
    }
}
