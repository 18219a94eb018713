//! What the engine's sessions hand their jobs to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use firesteel_base::{ByteSize, UserError};
use firesteel_engine::stage::localize::over_cores;
use firesteel_engine::{ClusterShape, JobRunner, JobSpec, Place, Stage, codec, datafusion};
use firesteel_shuffle::Fetcher;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;

use crate::in_process::HomeCluster;
use crate::results::{self, failed};
use crate::shell::{Command, Control, JobRequest, JobView, Member, PreparedStage};

/// Runs jobs through a driver loop.
pub(crate) struct Runner {
    pub control: Arc<Control>,
    pub fetcher: Arc<Fetcher>,
    /// The one executor is in this process and takes plans by pointer.
    pub is_local: bool,
    pub executors_wait_max: Duration,
    /// Where plans run that cannot travel; `None` where all run in this process anyway.
    pub home: Option<Arc<Home>>,
    /// The executor in this process, which lives for as long as somebody may run or read something there.
    pub keeps: Option<Arc<HomeCluster>>,
}

/// An executor in the driver's own process, started when the first plan comes that cannot travel.
#[derive(Debug)]
pub(crate) struct Home {
    memory: Option<ByteSize>,
    runner: tokio::sync::OnceCell<Runner>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_local { "Runner(local)" } else { "Runner(cluster)" })
    }
}

#[async_trait]
impl JobRunner for Runner {
    async fn shape(&self) -> Result<ClusterShape> {
        let up = self.control.await_members(self.executors_wait_max, |members| !members.is_empty()).await;
        let members = up.ok_or_else(|| failed(self.no_executors()))?;
        Ok(shape_of(&members, self.is_local))
    }

    fn run(&self, job: JobSpec) -> Result<SendableRecordBatchStream> {
        match (&job.graph.place, &self.home) {
            (Place::Driver(_), Some(home)) => Ok(Arc::clone(home).run(job)),
            (Place::Driver(_), None) | (Place::Cluster, _) => self.submit(job),
        }
    }
}

impl Runner {
    fn no_executors(&self) -> UserError {
        let waited = self.executors_wait_max.as_secs_f64();
        UserError::new("the cluster has no executors")
            .detail(format!("none came up within {waited} s"))
            .hint("are workers running and connected to this manager? `firesteel nodes` lists them")
    }

    fn submit(&self, job: JobSpec) -> Result<SendableRecordBatchStream> {
        let shape = shape_of(&self.control.members.borrow(), self.is_local);
        let cores = shape.cores_per_executor.max(1);
        let schema = job.graph.result().plan.schema();
        let stages =
            job.graph.stages.iter().map(|stage| self.prepare(stage, cores)).collect::<Result<_>>()?;
        let (view, viewed) = watch::channel(JobView::default());
        let run = self.control.next_run();
        let request = JobRequest {
            run,
            sql: job.sql,
            stages,
            settings: job.settings,
            lanes: u32::try_from(cores).expect("cores are counted in 32 bits"),
            analyze: job.analyze,
            view,
        };
        let commands = self.control.commands();
        commands.send(Command::Run(request));
        let keeps = self.keeps.clone();
        Ok(results::stream(run, viewed, commands, Arc::clone(&self.fetcher), schema, keeps))
    }

    fn prepare(&self, stage: &Arc<Stage>, cores: usize) -> Result<PreparedStage> {
        if self.is_local {
            let stage = over_cores(stage, cores);
            return Ok(PreparedStage {
                digest: codec::digest(stage.id.to_string().as_bytes()),
                stage,
                encoded: None,
            });
        }
        let encoded = match &stage.encoded {
            Some(encoded) => encoded.clone(),
            None => codec::encode(stage)?,
        };
        Ok(PreparedStage {
            digest: codec::digest(&encoded),
            stage: Arc::clone(stage),
            encoded: Some(encoded),
        })
    }
}

fn shape_of(members: &[Member], is_local: bool) -> ClusterShape {
    let slots = || members.iter().map(|member| member.slots as usize);
    ClusterShape {
        executors: members.len(),
        cores_per_executor: slots().min().unwrap_or(0),
        cores: slots().sum(),
        local: is_local,
    }
}

impl Home {
    /// One that will have so much memory, or its share of the machine's.
    pub(crate) fn new(memory: Option<ByteSize>) -> Self {
        Self { memory, runner: tokio::sync::OnceCell::new() }
    }

    /// Runs a job in this process. The executor is started by whoever reads the first rows.
    fn run(self: Arc<Self>, job: JobSpec) -> SendableRecordBatchStream {
        let schema = job.graph.result().plan.schema();
        let rows = async move { self.runner.get_or_try_init(|| self.start()).await?.submit(job) };
        let batches = stream::once(rows).try_flatten().boxed();
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }

    async fn start(&self) -> Result<Runner> {
        Ok(HomeCluster::start_beside(self.memory).await.map_err(failed)?.runner())
    }

    /// Ends the executor, if there is one.
    pub(crate) async fn close(&self) {
        if let Some(cluster) = self.runner.get().and_then(|runner| runner.keeps.as_ref()) {
            cluster.close().await;
        }
    }

    /// Stops what runs here.
    pub(crate) fn cancel(&self, reason: &str) {
        if let Some(runner) = self.runner.get() {
            runner.control.send(Command::CancelAll(reason.to_owned()));
        }
    }
}
