//! A driver's stream: its messages become attempts, plans and blocks here; reports go back.

use std::sync::Arc;

use firesteel_base::version::Spoken;
use firesteel_base::{AttemptKey, Class, Epoch, ExecutorId, JobId, StageId, StageKey, UserError};
use firesteel_engine::Settings;
use firesteel_engine::codec;
use firesteel_engine::run::{StageSource, TaskError, TaskInputs, TaskSpec};
use firesteel_protocol::channel::check_version;
use firesteel_protocol::{MalformedMessage, required, v1};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use v1::driver_to_executor::Message as FromDriver;
use v1::executor_to_driver::Message as ToDriver;

use crate::attempt::{Attempt, failed_report, started_report};
use crate::convert;
use crate::cores::{CoreLease, NoCores};
use crate::executor::Executor;
use crate::registry::{Begun, Digest, Driver, SessionId, Speaker, StageEntry};
use crate::reports::{Reports, reports};
use crate::take::Take;

/// What a driver says, in order.
pub type Inbound = BoxStream<'static, v1::DriverToExecutor>;

impl Executor {
    /// Takes a driver: its first message must be `AttachDriver`, with this wire version and this executor's epoch. All
    /// that the driver started here is cancelled and freed a little after its stream ends, unless it comes back.
    ///
    /// # Errors
    /// When the driver does not say who it is in time, is of another wire version, or means another life of this
    /// executor; and when the executor stops.
    pub async fn attach(
        self: &Arc<Self>,
        mut inbound: Inbound,
    ) -> Result<mpsc::Receiver<v1::ExecutorToDriver>, Status> {
        let greeting = greeting(&mut inbound, self.limits().greeting_timeout).await?;
        let spoken = Spoken::said(greeting.wire_version, greeting.wire_newest);
        let wire = check_version("driver", spoken, &greeting.release)?;
        let epoch = Epoch(greeting.epoch);
        self.await_epoch(epoch).await?;
        if self.stopping.is_cancelled() {
            return Err(Status::unavailable(format!("executor {} stops", self.id())));
        }
        let (driver, receiver) = mpsc::channel(self.limits().reports_buffered);
        let (reports, queue) = reports();
        reports.send(self.attached(epoch, wire));
        let session = Session {
            executor: Arc::clone(self),
            id: self.registry.open_session(),
            epoch,
            driver: Driver { incarnation: greeting.incarnation, launch: greeting.launch },
            reports,
            conf: greeting.conf,
        };
        let forwarded = self.sessions.spawn_on(queue.forward(driver), self.control());
        self.sessions.spawn_on(session.run(inbound, forwarded), self.control());
        Ok(receiver)
    }

    fn attached(&self, epoch: Epoch, wire: u32) -> ToDriver {
        let executor = v1::ExecutorRef {
            id: Some(self.id().into()),
            epoch: epoch.0,
            control_address: self.control_address().to_owned(),
            shuffle_address: self.shuffle_address().to_owned(),
            keeper_address: String::new(),
        };
        let release = firesteel_base::version::build().to_owned();
        ToDriver::Attached(v1::Attached { release, executor: Some(executor), wire_version: wire })
    }

    /// Waits until the executor is in `epoch`. The driver may have heard of it from the manager before the worker
    /// passed it on.
    async fn await_epoch(&self, epoch: Epoch) -> Result<(), Status> {
        let mut known = self.watch_epoch();
        let reached = known.wait_for(|known| known.is_some_and(|known| known >= epoch));
        let reached = tokio::time::timeout(self.limits().epoch_wait, reached).await;
        match reached {
            Ok(Ok(known)) if *known == Some(epoch) => Ok(()),
            _ => Err(Status::failed_precondition(match self.epoch() {
                Some(known) => format!("executor {} is in epoch {known}, not {epoch}", self.id()),
                None => format!("executor {} has no epoch yet", self.id()),
            })),
        }
    }
}

async fn greeting(inbound: &mut Inbound, timeout: std::time::Duration) -> Result<v1::AttachDriver, Status> {
    let first = tokio::time::timeout(timeout, inbound.next())
        .await
        .map_err(|_| Status::deadline_exceeded("the driver did not say who it is"))?;
    match first.and_then(|first| first.message) {
        Some(FromDriver::Attach(greeting)) => Ok(greeting),
        _ => Err(MalformedMessage::new("DriverToExecutor", "the first message must be AttachDriver").into()),
    }
}

struct Session {
    executor: Arc<Executor>,
    id: SessionId,
    epoch: Epoch,
    driver: Driver,
    reports: Reports,
    /// Settings for plans that come without any of their own.
    conf: std::collections::HashMap<String, String>,
}

impl Session {
    async fn run<T>(self, mut inbound: Inbound, mut forwarded: tokio::task::JoinHandle<T>) {
        let mut epoch = self.executor.watch_epoch();
        let stopping = self.executor.stopping.clone();
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                _ = epoch.wait_for(|epoch| *epoch != Some(self.epoch)) => break,
                _ = &mut forwarded => break,
                message = inbound.next() => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
            }
        }
        drop(inbound);
        self.end().await;
    }

    /// Frees what is still this stream's after a grace in which its driver may come back. An executor that stops frees
    /// everything itself, once it has reported how attempts ended.
    async fn end(self) {
        let Self { executor, id, reports, .. } = self;
        drop(reports);
        if !executor.registry.owned_by(id).is_empty() {
            tokio::select! {
                () = executor.stopping.cancelled() => return,
                () = tokio::time::sleep(executor.limits().session_grace) => {}
            }
        }
        for job in executor.registry.owned_by(id) {
            tracing::info!(%job, executor = %executor.id(), "freed a job whose driver is gone");
            executor.free_job(job);
        }
    }

    fn take(&self, message: v1::DriverToExecutor) {
        let taken = match message.message {
            Some(FromDriver::PutStage(message)) => self.put_stage(message),
            Some(FromDriver::Launch(message)) => self.launch(message),
            Some(FromDriver::MoreInputs(message)) => self.more_inputs(&message),
            Some(FromDriver::TakeOutput(message)) => self.take_output(&message),
            Some(FromDriver::OutputMoved(message)) => self.output_moved(&message),
            Some(FromDriver::HolderGone(message)) => self.holder_gone(&message),
            Some(FromDriver::Cancel(message)) => self.cancel(&message),
            Some(FromDriver::FreeAttempt(message)) => self.free_attempt(&message),
            Some(FromDriver::FreeStage(message)) => {
                self.free_stage(StageKey { job: JobId(message.job), stage: StageId(message.stage) });
                Ok(())
            }
            Some(FromDriver::FreeJob(message)) => {
                let job = JobId(message.job);
                if self.executor.registry.is_of(job, &self.driver) {
                    self.executor.free_job(job);
                }
                Ok(())
            }
            Some(FromDriver::Ping(_)) => {
                let running_attempts = u32::try_from(self.executor.registry.running()).unwrap_or(u32::MAX);
                self.reports.send(ToDriver::Pong(v1::Pong { running_attempts }));
                Ok(())
            }
            Some(FromDriver::Attach(_)) => Err(MalformedMessage::new("AttachDriver", "sent twice")),
            None => {
                Err(MalformedMessage::new("DriverToExecutor.message", "of a kind unknown to this release"))
            }
        };
        if let Err(fault) = taken {
            tracing::warn!(executor = %self.executor.id(), %fault, "ignored a driver's message");
        }
    }

    fn put_stage(&self, message: v1::PutStage) -> Result<(), MalformedMessage> {
        let key = StageKey { job: JobId(message.job), stage: StageId(message.stage) };
        let digest = digest(&message.digest)?;
        if codec::digest(&message.plan) != digest {
            return Err(MalformedMessage::new("PutStage.digest", format!("not that of the plan of {key}")));
        }
        let conf = if message.conf.is_empty() { self.conf.clone() } else { message.conf };
        let settings = Arc::new(Settings(conf.into_iter().collect()));
        let entry = StageEntry { digest, source: StageSource::Encoded(message.plan), settings };
        if self.claim(key.job) {
            self.executor.registry.put_stage(key, entry);
        }
        Ok(())
    }

    /// Takes a job for this stream; false when a later driver has it.
    fn claim(&self, job: JobId) -> bool {
        let speaker = Speaker { session: self.id, driver: &self.driver, reports: &self.reports };
        let has = self.executor.registry.claim(job, speaker, || {
            tracing::warn!(%job, executor = %self.executor.id(), "another driver has a job: freed what the one before had of it");
            self.executor.free_blocks(job);
        });
        if !has {
            tracing::warn!(%job, executor = %self.executor.id(), "a driver speaks of a job that a later one has");
        }
        has
    }

    /// The report about an attempt of a job that a later driver has.
    fn belongs_to_another(&self, key: AttemptKey) -> ToDriver {
        let reason =
            format!("executor {} does not run {key}: a later driver has the job", self.executor.id());
        let refusal = TaskError::new(Class::Transient, UserError::new(reason));
        failed_report(key, convert::wire_failure(refusal))
    }

    fn launch(&self, message: v1::Launch) -> Result<(), MalformedMessage> {
        let key = AttemptKey::from(required(message.attempt.as_ref(), "Launch.attempt")?);
        if !self.claim(key.job()) {
            self.reports.send(self.belongs_to_another(key));
            return Ok(());
        }
        match self.executor.registry.begin(key) {
            Begun::Running => {
                self.reports.send(started_report(key));
                // What came while the driver's stream was cut.
                self.add_inputs(&key, &message.inputs)?;
            }
            Begun::Ended(report) => self.reports.send(report),
            Begun::New(cancel, stage) => match self.admit(key, message, stage) {
                Ok((spec, stage, lease)) => {
                    self.executor.registry.read(&key, &spec.inputs);
                    let attempt =
                        Attempt { executor: Arc::clone(&self.executor), spec, stage, cancel, lease };
                    self.executor.attempts.spawn_on(attempt.run(), self.executor.control());
                }
                Err(refusal) => {
                    let report = failed_report(key, convert::wire_failure(refusal));
                    self.executor.registry.end(&key, |_| report);
                }
            },
        }
        Ok(())
    }

    /// Checks a launch against what is here, and asks for its cores.
    fn admit(
        &self,
        key: AttemptKey,
        message: v1::Launch,
        stage: Option<StageEntry>,
    ) -> Result<Admitted, TaskError> {
        let id = self.executor.id();
        let refuse = |class, reason: String| {
            TaskError::new(class, UserError::new(format!("executor {id} does not run {key}: {reason}")))
        };
        if self.executor.stopping.is_cancelled() {
            return Err(refuse(Class::Transient, "it stops".to_owned()));
        }
        if Epoch(message.epoch) != self.epoch {
            let reason = format!("it is in epoch {}, not {}", self.epoch, Epoch(message.epoch));
            return Err(refuse(Class::Transient, reason));
        }
        if message.memory_bytes > self.executor.memory().limit() {
            let reason = format!("{} bytes of memory are more than it has", message.memory_bytes);
            return Err(refuse(Class::Resources, reason));
        }
        let digest = digest(&message.digest).map_err(|fault| refuse(Class::User, fault.to_string()))?;
        let stage = stage
            .filter(|stage| stage.digest == digest)
            .ok_or_else(|| refuse(Class::Transient, "its stage's plan is not here".to_owned()))?;
        let inputs = message.inputs.iter().map(convert::stage_input).collect::<Result<_, _>>();
        let inputs = inputs.map_err(|fault| refuse(Class::User, fault.to_string()))?;
        let inputs = Arc::new(TaskInputs::new(inputs));
        let slices: Vec<_> = message
            .slices
            .iter()
            .map(convert::slice)
            .collect::<Result<_, _>>()
            .map_err(|fault| refuse(Class::User, fault.to_string()))?;
        let lanes = message.lanes as usize;
        if !slices.is_empty() && slices.len() != lanes {
            let reason = format!("it was told what {} of its {lanes} lanes read", slices.len());
            return Err(refuse(Class::User, reason));
        }
        let lease = self.executor.pool.ask(lanes).map_err(|fault| {
            let class = match fault {
                NoCores::Impossible { .. } => Class::Resources,
                NoCores::QueueFull { .. } => Class::Transient,
            };
            refuse(class, fault.to_string())
        })?;
        let first_partition = message.first_partition as usize;
        let spec = TaskSpec { attempt: key, first_partition, lanes, inputs, slices };
        Ok((spec, stage, lease))
    }

    fn take_output(&self, message: &v1::TakeOutput) -> Result<(), MalformedMessage> {
        let output = convert::map_output(required(message.output.as_ref(), "TakeOutput.output")?)?;
        if !self.claim(output.producer.job()) {
            self.reports.send(self.belongs_to_another(output.producer));
            return Ok(());
        }
        match self.executor.registry.begin(output.producer) {
            Begun::Running => {}
            Begun::Ended(report) => self.reports.send(report),
            Begun::New(cancel, _) => {
                let take = Take { executor: Arc::clone(&self.executor), output, cancel };
                self.executor.attempts.spawn_on(take.run(), self.executor.control());
            }
        }
        Ok(())
    }

    fn output_moved(&self, message: &v1::OutputMoved) -> Result<(), MalformedMessage> {
        let producer = AttemptKey::from(required(message.producer.as_ref(), "OutputMoved.producer")?);
        let holder = convert::holder(required(message.holder.as_ref(), "OutputMoved.holder")?)?;
        self.executor.fetcher().note_moved(producer, holder);
        Ok(())
    }

    fn holder_gone(&self, message: &v1::HolderGone) -> Result<(), MalformedMessage> {
        let executor = ExecutorId::try_from(required(message.executor.as_ref(), "HolderGone.executor")?)?;
        self.executor.fetcher().note_gone(executor, Epoch(message.epoch));
        Ok(())
    }

    fn more_inputs(&self, message: &v1::MoreInputs) -> Result<(), MalformedMessage> {
        let key = AttemptKey::from(required(message.attempt.as_ref(), "MoreInputs.attempt")?);
        self.add_inputs(&key, &message.inputs)
    }

    fn add_inputs(&self, key: &AttemptKey, inputs: &[v1::StageInput]) -> Result<(), MalformedMessage> {
        let inputs = inputs.iter().map(convert::stage_input).collect::<Result<_, _>>()?;
        self.executor.registry.add_inputs(key, inputs);
        Ok(())
    }

    fn cancel(&self, message: &v1::CancelAttempt) -> Result<(), MalformedMessage> {
        let key = AttemptKey::from(required(message.attempt.as_ref(), "CancelAttempt.attempt")?);
        self.executor.registry.cancel(&key, Class::Cancelled, &message.reason);
        Ok(())
    }

    fn free_attempt(&self, message: &v1::FreeAttempt) -> Result<(), MalformedMessage> {
        let key = AttemptKey::from(required(message.attempt.as_ref(), "FreeAttempt.attempt")?);
        if self.executor.registry.free_attempt(&key) {
            self.executor.env().store().discard(&key);
        }
        Ok(())
    }

    fn free_stage(&self, key: StageKey) {
        if !self.executor.registry.is_of(key.job, &self.driver) {
            return;
        }
        self.executor.registry.free_stage(key);
        self.executor.env().store().free_stage(key);
    }
}

/// An attempt that has its place: what to run, and the cores that come.
type Admitted = (TaskSpec, StageEntry, oneshot::Receiver<CoreLease>);

fn digest(bytes: &[u8]) -> Result<Digest, MalformedMessage> {
    bytes.try_into().map_err(|_| MalformedMessage::new("digest", format!("{} bytes, not 16", bytes.len())))
}
