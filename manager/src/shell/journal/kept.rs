//! A job as it is kept: what the machine knows of it, without what its driver will say again.

use std::collections::BTreeMap;

use firesteel_base::{Class, JobId, Timestamp, UserError, WorkerId};
use firesteel_protocol::token::Secret;
use serde::{Deserialize, Serialize};

use crate::machine::job::{Job, Launch, Phase};
use crate::machine::message::{Ending, Failure, Seed};
use crate::tokens::{hex, random};

/// A job in the journal. A field that is added later has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::shell) struct KeptJob {
    name: String,
    sql: String,
    user: String,
    driver_host: String,
    incarnation: String,
    queue: String,
    weight: u32,
    launch: Option<KeptLaunch>,
    phase: KeptPhase,
    submitted: u64,
    started: Option<u64>,
    ended: Option<u64>,
    cancelled: Option<(u64, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptLaunch {
    conf: BTreeMap<String, String>,
    /// As hexadecimal digits. A journal of an earlier release has none.
    #[serde(default)]
    seed: Secret,
    worker: Option<String>,
    /// A journal of an earlier release has neither this nor the next.
    #[serde(default)]
    worker_address: Option<String>,
    #[serde(default)]
    worker_incarnation: Option<String>,
    launches: u32,
    result_address: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptPhase {
    Submitted,
    Launching,
    /// A driver has opened it.
    Open,
    Succeeded {
        rows: u64,
    },
    Failed {
        class: Class,
        error: UserError,
    },
    Cancelled {
        reason: String,
    },
}

impl KeptJob {
    pub fn of(job: &Job) -> Self {
        let phase = match &job.phase {
            Phase::Submitted => KeptPhase::Submitted,
            Phase::Launching { .. } => KeptPhase::Launching,
            Phase::Open { .. } | Phase::Detached { .. } => KeptPhase::Open,
            Phase::Ended(Ending::Succeeded { rows }) => KeptPhase::Succeeded { rows: *rows },
            Phase::Ended(Ending::Failed(Failure { class, error })) => {
                KeptPhase::Failed { class: *class, error: error.clone() }
            }
            Phase::Ended(Ending::Cancelled { reason }) => KeptPhase::Cancelled { reason: reason.clone() },
        };
        let launch = job.launch.as_ref().map(|launch| KeptLaunch {
            conf: launch.conf.clone(),
            seed: Secret::new(hex(&launch.seed.0)),
            worker: launch.worker.as_ref().map(ToString::to_string),
            worker_address: launch.worker_address.clone(),
            worker_incarnation: launch.worker_incarnation.clone(),
            launches: launch.launches,
            result_address: launch.result_address.clone(),
        });
        Self {
            name: job.name.clone(),
            sql: job.sql.to_string(),
            user: job.user.clone(),
            driver_host: job.driver_host.clone(),
            incarnation: job.incarnation.clone(),
            queue: job.queue.clone(),
            weight: job.weight,
            launch,
            phase,
            submitted: job.submitted.0,
            started: job.started.map(|at| at.0),
            ended: job.ended.map(|at| at.0),
            cancelled: job.cancelled.as_ref().map(|(at, reason)| (at.0, reason.clone())),
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data becomes JSON")
    }

    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|fault| fault.to_string())
    }

    /// The job of that number. What ran is detached; until when is for the machine to say.
    pub fn into_job(self, id: JobId) -> Result<Job, String> {
        let at = |time: Option<u64>| time.map(Timestamp);
        let phase = match self.phase {
            KeptPhase::Submitted => Phase::Submitted,
            KeptPhase::Launching => Phase::Launching { since: Timestamp::default() },
            KeptPhase::Open => Phase::Detached { until: Timestamp::default() },
            KeptPhase::Succeeded { rows } => Phase::Ended(Ending::Succeeded { rows }),
            KeptPhase::Failed { class, error } => Phase::Ended(Ending::Failed(Failure { class, error })),
            KeptPhase::Cancelled { reason } => Phase::Ended(Ending::Cancelled { reason }),
        };
        if matches!(phase, Phase::Ended(_)) != self.ended.is_some() {
            return Err("its state and the time of its end contradict each other".to_owned());
        }
        let mut job = Job::new(self.name, self.sql, self.user, phase, Timestamp(self.submitted));
        job.id = id;
        job.driver_host = self.driver_host;
        job.incarnation = self.incarnation;
        job.queue = self.queue;
        job.weight = self.weight.max(1);
        job.launch = self.launch.map(KeptLaunch::into_launch).transpose()?;
        (job.started, job.ended) = (at(self.started), at(self.ended));
        job.cancelled = self.cancelled.map(|(at, reason)| (Timestamp(at), reason));
        Ok(job)
    }
}

impl KeptLaunch {
    fn into_launch(self) -> Result<Launch, String> {
        let worker: Option<Result<WorkerId, _>> = self.worker.map(|worker| worker.parse());
        Ok(Launch {
            conf: self.conf,
            seed: read_seed(&self.seed)?,
            worker: worker.transpose().map_err(|fault| fault.to_string())?,
            worker_address: self.worker_address,
            worker_incarnation: self.worker_incarnation,
            launches: self.launches,
            driver_ended: None,
            result_address: self.result_address,
        })
    }
}

/// What secrets are made of; new where nothing is kept, as nobody has a secret made of it then.
fn read_seed(kept: &Secret) -> Result<Seed, String> {
    let digits = kept.expose();
    if digits.is_empty() {
        return random().map(Seed).map_err(|error| error.to_string());
    }
    let byte = |at: usize| digits.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    let bytes =
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or("the seed of its secrets makes no sense")?;
    Ok(Seed(bytes))
}
