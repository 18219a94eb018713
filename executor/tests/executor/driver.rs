//! An executor to test, and the driver's end of a stream to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{AttemptKey, ByteSize, Epoch, ExecutorId, JobId, StageId, StageKey, version};
use firesteel_certs::Security;
use firesteel_engine::{Settings, Stage, codec};
use firesteel_executor::{BlockSettings, Executor, ExecutorConfig, Limits};
use firesteel_hw::core_loop::LoopKind;
use firesteel_protocol::v1;
use firesteel_shuffle::BlockKey;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use v1::driver_to_executor::Message as ToExecutor;
use v1::executor_to_driver::Message as FromExecutor;

pub const EPOCH: Epoch = Epoch(7);
const PATIENCE: Duration = Duration::from_secs(60);

/// An executor and its scratch root.
pub struct Subject {
    pub executor: Arc<Executor>,
    pub scratch: tempfile::TempDir,
}

pub fn config(cores: usize, memory: ByteSize, limits: Limits, scratch: PathBuf) -> ExecutorConfig {
    ExecutorConfig {
        id: ExecutorId { worker: "w".parse().unwrap(), index: 0 },
        cores: vec![None; cores],
        numa_node: None,
        memory,
        scratch: vec![scratch],
        loop_kind: LoopKind::best().kind,
        block_listener: None,
        advertise_host: String::new(),
        control_address: String::new(),
        keeper: None,
        blocks: BlockSettings { memory_fraction: 0.5, ..BlockSettings::default() },
        security: Security::default(),
        limits,
    }
}

pub fn start(cores: usize, limits: Limits) -> Subject {
    start_with_memory(cores, ByteSize(256 << 20), limits)
}

pub fn start_with_memory(cores: usize, memory: ByteSize, limits: Limits) -> Subject {
    let scratch = tempfile::tempdir().unwrap();
    let executor = Executor::start(config(cores, memory, limits, scratch.path().to_owned())).unwrap();
    executor.set_epoch(EPOCH).unwrap();
    Subject { executor, scratch }
}

/// A driver's stream to an executor.
pub struct Driver {
    outgoing: mpsc::UnboundedSender<v1::DriverToExecutor>,
    incoming: mpsc::Receiver<v1::ExecutorToDriver>,
}

pub fn greeting(epoch: Epoch) -> v1::AttachDriver {
    v1::AttachDriver {
        wire_version: version::WIRE_OLDEST,
        wire_newest: version::WIRE,
        release: version::RELEASE.to_owned(),
        epoch: epoch.0,
        ..v1::AttachDriver::default()
    }
}

pub async fn attach(executor: &Arc<Executor>, greeting: v1::AttachDriver) -> Result<Driver, Status> {
    let (outgoing, messages) = mpsc::unbounded_channel();
    outgoing.send(v1::DriverToExecutor { message: Some(ToExecutor::Attach(greeting)) }).unwrap();
    let incoming = executor.attach(UnboundedReceiverStream::new(messages).boxed()).await?;
    let mut driver = Driver { outgoing, incoming };
    match driver.hear().await {
        FromExecutor::Attached(_) => Ok(driver),
        other => panic!("expected Attached, got {other:?}"),
    }
}

impl Driver {
    pub async fn of(subject: &Subject) -> Self {
        attach(&subject.executor, greeting(EPOCH)).await.unwrap()
    }

    /// The driver that was launched for its job as that one.
    pub async fn launched(subject: &Subject, incarnation: &str, launch: u32) -> Self {
        let greeting = v1::AttachDriver { incarnation: incarnation.to_owned(), launch, ..greeting(EPOCH) };
        attach(&subject.executor, greeting).await.unwrap()
    }

    pub fn say(&self, message: ToExecutor) {
        self.outgoing.send(v1::DriverToExecutor { message: Some(message) }).unwrap();
    }

    /// The next report, progress left out.
    pub async fn hear(&mut self) -> FromExecutor {
        self.hear_or_end().await.expect("the stream ended")
    }

    /// The next report, progress left out; `None` when the stream has ended.
    pub async fn hear_or_end(&mut self) -> Option<FromExecutor> {
        loop {
            let report =
                tokio::time::timeout(PATIENCE, self.incoming.recv()).await.expect("no report in time")?;
            match report.message.unwrap() {
                FromExecutor::Progress(_) => {}
                other => return Some(other),
            }
        }
    }

    /// The next progress report.
    pub async fn hear_progress(&mut self) -> v1::AttemptProgress {
        loop {
            let report =
                tokio::time::timeout(PATIENCE, self.incoming.recv()).await.expect("no report in time");
            if let Some(FromExecutor::Progress(progress)) = report.unwrap().message {
                return progress;
            }
        }
    }

    /// Launches `stage` by its encoded plan.
    pub fn run(&self, attempt: AttemptKey, stage: &Stage) {
        let plan = codec::encode(stage).unwrap();
        let digest = codec::digest(&plan);
        self.put(attempt.task.stage, plan, &digest);
        self.say(ToExecutor::Launch(launch(attempt, &digest, stage)));
    }

    pub fn put(&self, key: StageKey, plan: bytes::Bytes, digest: &[u8]) {
        self.say(ToExecutor::PutStage(v1::PutStage {
            job: key.job.0,
            stage: key.stage.0,
            digest: digest.to_vec().into(),
            plan,
            conf: std::collections::HashMap::new(),
        }));
    }

    pub fn cancel(&self, attempt: AttemptKey, reason: &str) {
        let reason = reason.to_owned();
        self.say(ToExecutor::Cancel(v1::CancelAttempt { attempt: Some(attempt.into()), reason }));
    }

    pub async fn hear_started(&mut self, attempt: AttemptKey) {
        match self.hear().await {
            FromExecutor::Started(started) => assert_eq!(key_of(started.attempt), attempt),
            other => panic!("expected {attempt} started, got {other:?}"),
        }
    }

    pub async fn hear_finished(&mut self, attempt: AttemptKey) -> v1::AttemptFinished {
        match self.hear().await {
            FromExecutor::Finished(finished) => {
                assert_eq!(key_of(finished.attempt), attempt);
                finished
            }
            other => panic!("expected {attempt} finished, got {other:?}"),
        }
    }

    pub async fn hear_failed(&mut self, attempt: AttemptKey) -> v1::Failure {
        match self.hear().await {
            FromExecutor::Failed(failed) => {
                assert_eq!(key_of(failed.attempt), attempt);
                failed.failure.unwrap()
            }
            other => panic!("expected {attempt} failed, got {other:?}"),
        }
    }

    /// Hears that `attempt` started and finished.
    pub async fn hear_ran(&mut self, attempt: AttemptKey) -> v1::AttemptFinished {
        self.hear_started(attempt).await;
        self.hear_finished(attempt).await
    }
}

fn key_of(attempt: Option<v1::AttemptKey>) -> AttemptKey {
    AttemptKey::from(attempt.as_ref().unwrap())
}

pub fn launch(attempt: AttemptKey, digest: &[u8], stage: &Stage) -> v1::Launch {
    v1::Launch {
        attempt: Some(attempt.into()),
        digest: digest.to_vec().into(),
        lease: 1,
        epoch: EPOCH.0,
        first_partition: 0,
        lanes: u32::try_from(stage.partitions).unwrap(),
        inputs: Vec::new(),
        memory_bytes: 0,
        slices: Vec::new(),
    }
}

/// Launches `stage` by pointer, as local mode does.
pub fn run_shared(subject: &Subject, driver: &Driver, attempt: AttemptKey, stage: &Stage) {
    let digest = [9; 16];
    let shared = Arc::new(stage.clone());
    subject.executor.put_stage_shared(attempt.task.stage, digest, shared, Settings::default());
    driver.say(ToExecutor::Launch(launch(attempt, &digest, stage)));
}

/// `job1/s0/p{task}/a0`.
pub fn attempt(task: u32) -> AttemptKey {
    AttemptKey::new(JobId(1), StageId(0), task, 0)
}

/// `job{job}/s0/p0/a0`: an attempt of another stage than those of `attempt`.
pub fn attempt_of_job(job: u64) -> AttemptKey {
    AttemptKey::new(JobId(job), StageId(0), 0, 0)
}

/// Rows that a committed attempt's lane wrote, read back through the executor's fetcher.
pub async fn rows_of(
    subject: &Subject,
    producer: AttemptKey,
    lane: u32,
    stage: &Stage,
) -> Result<usize, String> {
    let key = BlockKey { producer, lane, partition: 0 };
    let holder = subject.executor.holder().unwrap();
    let batches: Vec<_> = subject
        .executor
        .fetcher()
        .fetch(holder, key, stage.plan.schema())
        .try_collect()
        .await
        .map_err(|fault: firesteel_shuffle::FetchError| fault.to_string())?;
    Ok(batches.iter().map(|batch| batch.num_rows()).sum())
}

/// Looks again and again until `condition` holds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let looked = async {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while !condition() {
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, looked)
        .await
        .unwrap_or_else(|_| panic!("it never came to be that {what}"));
}
