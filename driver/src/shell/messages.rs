//! What comes to a driver loop, and what its users see of a job.

use std::sync::Arc;

use bytes::Bytes;
use firesteel_base::{AttemptKey, StageId, UserError};
use firesteel_engine::runner::MetricsSink;
use firesteel_engine::{Settings, Stage};
use firesteel_protocol::v1;
use firesteel_shuffle::MapOutput;
use tokio::sync::{oneshot, watch};

use super::outgoing::Outgoing;
use super::peers::Incoming;
use crate::machine::{Life, Outcome};

/// One query of a session, before and after the manager has given it a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunId(pub u64);

/// A query, ready to run.
pub(crate) struct JobRequest {
    /// Its number in the session.
    pub run: RunId,
    /// The text it came from.
    pub sql: String,
    /// Its stages, inputs before consumers.
    pub stages: Vec<PreparedStage>,
    /// Settings that attempts need.
    pub settings: Settings,
    /// Core threads that one task drives.
    pub lanes: u32,
    /// Where the operators' metrics of committed attempts go.
    pub analyze: Option<Arc<MetricsSink>>,
    /// What is told to whoever reads the result.
    pub view: watch::Sender<JobView>,
}

/// A stage and its plan, as executors get it.
pub(crate) struct PreparedStage {
    /// The stage.
    pub stage: Arc<Stage>,
    /// Its plan as bytes, or none: the plan goes by pointer to executors in this process.
    pub encoded: Option<Bytes>,
    /// Names the plan.
    pub digest: [u8; 16],
}

/// A job, to whoever reads its result.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobView {
    /// What the tasks of the result stage wrote, as far as it was not read; the latest word.
    pub outputs: Option<Arc<[MapOutput]>>,
    /// Tasks of the result stage.
    pub tasks: u32,
    /// How the job ends, once that is decided.
    pub outcome: Option<Outcome>,
}

/// What a session's users want.
pub(crate) enum Command {
    /// Run a query.
    Run(JobRequest),
    /// The first rows of a result task were handed out, which that attempt wrote.
    ResultBegun(RunId, AttemptKey),
    /// All rows of a result task were handed out; that attempt wrote the last of them.
    ResultTaskRead(RunId, AttemptKey),
    /// All rows were handed out.
    ResultRead(RunId),
    /// A block of the result could not be read.
    ResultFetchFailed(RunId, AttemptKey, UserError),
    /// Stop a query.
    Cancel(RunId, String),
    /// Stop all queries.
    CancelAll(String),
    /// The submitted job of this session ends so.
    Conclude(Result<u64, UserError>),
    /// End the session; answered when everything was given back.
    Close(oneshot::Sender<()>),
}

/// What comes from peers.
pub(super) enum Input {
    Manager(u64, ManagerNews),
    Executor(Life, u64, LinkNews),
}

pub(super) enum ManagerNews {
    Said(v1::ManagerToDriver),
    /// The session has ended.
    Down(String),
    /// A new session was opened.
    Up(Outgoing<v1::DriverToManager>, Incoming<v1::ManagerToDriver>, v1::DriverWelcome),
    /// No new session could be opened in time.
    GaveUp(UserError),
}

pub(super) enum LinkNews {
    Said(v1::ExecutorToDriver),
    Down(String),
}

impl Input {
    /// True when the peer will say nothing more.
    pub fn is_end(&self) -> bool {
        match self {
            Self::Manager(_, ManagerNews::Down(_)) | Self::Executor(_, _, LinkNews::Down(_)) => true,
            Self::Manager(_, ManagerNews::Said(_) | ManagerNews::Up(..) | ManagerNews::GaveUp(_))
            | Self::Executor(_, _, LinkNews::Said(_)) => false,
        }
    }
}

/// An executor that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Which.
    pub life: Life,
    /// Its core threads.
    pub slots: u32,
    /// Where its control service is, as `host:port`.
    pub address: String,
}

/// The ids of a query's stages on the wire: those of its graph, moved past the queries before it that run under the
/// same job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StageOffset(pub u32);

impl StageOffset {
    pub fn apply(self, stage: StageId) -> StageId {
        StageId(stage.0 + self.0)
    }

    pub fn remove(self, stage: StageId) -> StageId {
        StageId(stage.0 - self.0)
    }
}
