//! What clients see of the machine. Nothing here changes it.

use firesteel_base::JobId;

use super::Machine;
use super::drain::Drains;
use super::driver::Drivers;
use super::job::{Job, Phase};
use super::lease::Leases;
use super::message::Ending;
use super::node::Nodes;

/// A job's state as its user knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It has not had a slot yet.
    Queued,
    /// It has had slots.
    Running,
    /// It gave its result.
    Succeeded,
    /// It gave none.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl Job {
    /// The job's state as its user knows it.
    #[must_use]
    pub fn state(&self) -> JobState {
        match &self.phase {
            Phase::Submitted | Phase::Launching { .. } => JobState::Queued,
            Phase::Open { .. } | Phase::Detached { .. } if self.started.is_none() => JobState::Queued,
            Phase::Open { .. } | Phase::Detached { .. } => JobState::Running,
            Phase::Ended(Ending::Succeeded { .. }) => JobState::Succeeded,
            Phase::Ended(Ending::Failed(_)) => JobState::Failed,
            Phase::Ended(Ending::Cancelled { .. }) => JobState::Cancelled,
        }
    }
}

impl Machine {
    /// A live or remembered job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// The live jobs, and the remembered ones too when `all`, by age.
    #[must_use]
    pub fn jobs(&self, all: bool) -> Vec<&Job> {
        let ended = self.jobs.iter_ended().filter(|_| all);
        let mut jobs: Vec<&Job> = self.jobs.iter_live().chain(ended).collect();
        jobs.sort_by_key(|job| job.id);
        jobs
    }

    /// The largest number that a job was given.
    #[must_use]
    pub fn numbered(&self) -> u64 {
        self.jobs.numbered()
    }

    /// The workers and their executors.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The workers that are drained.
    #[must_use]
    pub fn drains(&self) -> &Drains {
        &self.drains
    }

    /// The drivers.
    #[must_use]
    pub fn drivers(&self) -> &Drivers {
        &self.drivers
    }

    /// The leases.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// What a job waits for, unless it has all that it wants or has ended.
    #[must_use]
    pub fn waiting_for(&self, job: &Job) -> Option<String> {
        match &job.phase {
            Phase::Submitted => Some(self.why_not_launched(job.id)),
            Phase::Launching { .. } => Some(match job.worker() {
                Some(worker) => format!("its driver to start on worker '{worker}'"),
                None => "its driver to start".to_owned(),
            }),
            Phase::Detached { .. } => Some(match job.worker() {
                Some(worker) => format!("worker '{worker}' to say how its driver ended"),
                // A client runs it.
                None => "its driver to come back".to_owned(),
            }),
            Phase::Open { .. } if job.demands.is_empty() => None,
            Phase::Open { .. } => Some(self.why_no_slots(job)),
            Phase::Ended(_) => None,
        }
    }

    fn why_no_slots(&self, job: &Job) -> String {
        let wanted: u64 = job.demands.values().map(|demand| u64::from(demand.tasks)).sum();
        let alive = self.nodes.present().filter(|node| self.takes_work(node));
        let up = alive.flat_map(|node| node.executors.values()).filter(|executor| executor.life.is_some());
        let cores: u64 = up.map(|executor| u64::from(executor.spec.slots)).sum();
        if cores == 0 && self.nodes.present().any(|node| self.drains.get(&node.id).is_some()) {
            return format!("slots for {wanted} tasks: every worker that is there is being drained");
        }
        if cores == 0 {
            return format!("slots for {wanted} tasks: no executor is up");
        }
        let lent: u64 = self.leases.iter().map(super::lease::Lease::cores).sum();
        format!("slots for {wanted} tasks: {lent} of the cluster's {cores} cores are in use")
    }
}
