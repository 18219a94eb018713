//! Which jobs are taken, and which of the submitted ones get a place for their driver.
//!
//! ```text
//!   Submit ──► refused: too many or too large · none of the workers that are there runs drivers
//!        └───► waits: no worker takes work · all places are taken
//!                └───► launched: the queue's turn whose jobs have fewest places, in it the oldest job
//! ```
//!
//! A place is the right to run one driver on a worker: a driver takes memory of its host, whatever its job does.

use std::collections::BTreeMap;

use firesteel_base::{ByteSize, JobId, WorkerId};

use super::Machine;
use super::job::{Job, Phase};
use super::message::{OpenJob, Refusal, Submission};
use super::queue::{Claim, FairOrder};
use super::rights::Rights;

impl Machine {
    /// Why a job is not taken that a client leaves to the cluster.
    pub(super) fn refusal_to_submit(&self, submission: &Submission) -> Option<Refusal> {
        let limits = &self.config.limits;
        let Submission { name, sql, conf, user, queue, .. } = submission;
        let settings: usize = conf.iter().map(|(key, value)| key.len() + value.len()).sum();
        if self.nodes.present_count() > 0 && self.nodes.present().all(|node| node.driver_places == 0) {
            return Some(Refusal::NoDrivers);
        }
        if self.jobs.iter_live().filter(|job| job.phase == Phase::Submitted).count() >= limits.queued_jobs {
            return Some(Refusal::Full {
                what: "jobs that wait for a driver",
                limit: limits.queued_jobs.to_string(),
                setting: "manager.queued_jobs",
            });
        }
        self.refusal_of([name, user, queue], sql, settings)
    }

    /// Why a job is not taken that a client's driver opens.
    pub(super) fn refusal_to_open(&self, rights: &Rights, open: &OpenJob) -> Option<Refusal> {
        let limits = &self.config.limits;
        if let Some(refusal) = rights.refusal_of_queue(&open.queue) {
            return Some(refusal);
        }
        if self.jobs.iter_live().filter(|job| job.launch.is_none()).count() >= limits.open_jobs {
            return Some(Refusal::Full {
                what: "jobs at a time whose driver is in a client",
                limit: limits.open_jobs.to_string(),
                setting: "manager.open_jobs",
            });
        }
        self.refusal_of([&open.name, &open.queue], &open.sql, 0)
    }

    fn refusal_of<const N: usize>(&self, names: [&String; N], sql: &str, settings: usize) -> Option<Refusal> {
        let limits = &self.config.limits;
        if names.iter().any(|name| name.len() > limits.name_bytes) {
            return Some(Refusal::TooLong {
                what: "name of the job, its user or its queue",
                limit: limits.name_bytes,
            });
        }
        if sql.len() > limits.sql_bytes {
            return Some(Refusal::TooLong { what: "job's SQL text", limit: limits.sql_bytes });
        }
        if settings > limits.conf_bytes {
            return Some(Refusal::TooLong { what: "text of the job's settings", limit: limits.conf_bytes });
        }
        if self.jobs.live_count() >= limits.live_jobs {
            let (what, limit) = ("jobs at a time", limits.live_jobs.to_string());
            return Some(Refusal::Full { what, limit, setting: "manager.jobs" });
        }
        let bytes = sql.len() + settings + names.iter().map(|name| name.len()).sum::<usize>();
        if self.jobs.live_bytes() + bytes > limits.live_bytes {
            let limit = ByteSize(limits.live_bytes as u64).to_string();
            let what = "of SQL texts and settings of jobs that have not ended";
            return Some(Refusal::Full { what, limit, setting: "manager.jobs_size" });
        }
        None
    }

    /// How many drivers may yet be launched on each worker that takes work, and how many run there.
    pub(super) fn driver_places(&self) -> BTreeMap<WorkerId, Places> {
        let limit = self.config.limits.drivers_per_node;
        let takers = self.nodes.present().filter(|node| self.takes_work(node));
        let mut places: BTreeMap<WorkerId, Places> = takers
            .map(|node| (node.id.clone(), Places { all: node.driver_places.min(limit), taken: 0 }))
            .collect();
        for worker in
            self.jobs.iter_live().filter(|job| job.phase != Phase::Submitted).filter_map(Job::worker)
        {
            if let Some(places) = places.get_mut(worker) {
                places.taken += 1;
            }
        }
        places
    }

    /// The order in which submitted jobs get places.
    pub(super) fn launch_order(&self) -> FairOrder {
        FairOrder::new(self.jobs.iter_live().filter(|job| job.launch.is_some()).map(|job| Claim {
            job: job.id,
            queue: &job.queue,
            weight: job.weight,
            held: u64::from(job.phase != Phase::Submitted),
            wants: job.phase == Phase::Submitted,
        }))
    }

    /// How many jobs get a place before each that waits for one.
    pub(super) fn jobs_before(&self) -> &BTreeMap<JobId, usize> {
        self.jobs_before.get_or_init(|| {
            let mut order = self.launch_order();
            let mut before = BTreeMap::new();
            while let Some(job) = order.next() {
                before.insert(job, before.len());
                order.charge(job, 1);
                order.retire(job);
            }
            before
        })
    }

    /// Why a submitted job has no place for its driver.
    pub(super) fn why_not_launched(&self, job: JobId) -> String {
        if self.nodes.present_count() == 0 {
            return "a worker to run its driver: none is registered".to_owned();
        }
        if self.nodes.present().all(|node| self.drains.get(&node.id).is_some()) {
            return "a worker to run its driver: all of them are being drained".to_owned();
        }
        let places = self.driver_places();
        if places.is_empty() {
            return "a worker to run its driver: none is alive".to_owned();
        }
        let all: usize = places.values().map(|places| places.all).sum();
        let before = match self.jobs_before().get(&job) {
            Some(0) | None => "it is the next".to_owned(),
            Some(1) => "1 job comes first".to_owned(),
            Some(jobs) => format!("{jobs} jobs come first"),
        };
        match all {
            0 => "a worker to run its driver: none of those that are there runs any".to_owned(),
            1 => format!("the one place for a driver, which is taken: {before}"),
            all => format!("one of {all} places for drivers, all of which are taken: {before}"),
        }
    }
}

/// The drivers of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// That it may run.
    pub all: usize,
    /// That it runs.
    pub taken: usize,
}

impl Places {
    pub fn has_room(self) -> bool {
        self.taken < self.all
    }
}
