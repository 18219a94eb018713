//! What is said regularly: to the manager how far jobs are, to silent executors that somebody listens.

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_base::Timestamp;
use firesteel_protocol::v1;
use v1::driver_to_executor::Message as ToExecutor;
use v1::driver_to_manager::Message as ToManager;

use super::convert;
use super::run::DriverLoop;

/// Until the manager has said how often it wants to hear.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// An executor that was not heard for so long is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(5);
/// An executor that was not heard for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    next: Timestamp,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: INTERVAL_DEFAULT, next: Timestamp::default() }
    }
}

impl Heartbeat {
    pub fn every(&mut self, millis: u64) {
        if millis > 0 {
            self.interval = Duration::from_millis(millis);
        }
    }

    pub fn next(&self) -> Timestamp {
        self.next
    }

    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next <= now
    }
}

impl DriverLoop {
    pub fn beat(&mut self, now: Timestamp) {
        self.heartbeat.next = now + self.heartbeat.interval;
        let mut jobs: BTreeMap<u64, Vec<v1::StageProgress>> = BTreeMap::new();
        for job in self.jobs.values() {
            if let (Some(id), Some(machine)) = (job.manager_job, &job.machine) {
                jobs.entry(id.0).or_default().extend(convert::wire_stages(&machine.snapshot()));
            }
        }
        let jobs = jobs.into_iter().map(|(job, stages)| v1::JobProgress { job, stages }).collect();
        self.manager.send(ToManager::Heartbeat(v1::DriverHeartbeat { jobs }));
        self.check_links(now);
        if self.jobs.values().any(|job| job.machine.is_some()) {
            // The time that a job waits for slots goes on without an event.
            self.publish();
        }
    }

    fn check_links(&mut self, now: Timestamp) {
        let silent: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| now - link.heard >= SILENCE_MAX)
            .map(|(l, _)| l.clone())
            .collect();
        for life in silent {
            if let Some(link) = self.links.get(&life) {
                link.task.abort();
            }
            self.lose_link(&life, &format!("nothing was heard of it for {} s", SILENCE_MAX.as_secs()));
        }
        for link in self.links.values().filter(|link| now - link.heard >= PING_AFTER) {
            link.send(ToExecutor::Ping(v1::Ping {}));
        }
    }
}
