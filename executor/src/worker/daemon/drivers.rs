//! The cluster-mode drivers of a worker: as many at a time as it has places. The manager launches no more, but it counts a
//! place as free once a job has ended, when its driver's process may take a moment longer: what comes meanwhile waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use firesteel_base::JobId;
use firesteel_protocol::token::Secret;
use firesteel_protocol::v1;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use crate::worker::driver_child::{DriverChild, DriverEnd, DriverRequest, Launched};

/// Those that run, and the launches that wait for their end.
#[derive(Debug, Default)]
pub(super) struct Drivers {
    running: BTreeMap<JobId, RunningDriver>,
    waiting: VecDeque<v1::LaunchDriver>,
}

/// A driver that runs.
#[derive(Debug)]
struct RunningDriver {
    /// The how manyth launch of its job's driver it is.
    launch: u32,
    /// Stops it.
    stop: CancellationToken,
    /// The launch after it, which begins when this one has ended.
    next: Option<v1::LaunchDriver>,
}

impl Drivers {
    /// How many run or wait.
    pub fn count(&self) -> usize {
        self.running() + self.waiting()
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a launch that waits out.
    fn take_waiting(&mut self, job: JobId) -> Option<v1::LaunchDriver> {
        let at = self.waiting.iter().position(|launch| launch.job == job.0)?;
        self.waiting.remove(at)
    }
}

impl Daemon {
    pub(super) fn launch_driver(&mut self, launch: v1::LaunchDriver) {
        let launched = Launched { job: JobId(launch.job), launch: launch.launch };
        let job = launched.job;
        // The manager tells it again when it may not have been heard.
        if let Some(message) = self.state.end_of(launched) {
            return self.say(message);
        }
        if let Some(driver) = self.drivers.running.get_mut(&job) {
            if driver.launch < launch.launch {
                tracing::info!(%job, "stopping the driver of a launch that was given up");
                driver.stop.cancel();
                driver.next = Some(launch);
            }
            return;
        }
        // One that came before and was given up is not begun any more.
        self.drivers.take_waiting(job);
        if self.drivers.running.len() < self.plan.driver_places {
            return self.start_driver(launched, launch);
        }
        let (id, places, waiting) = (&self.config.id, self.plan.driver_places, self.drivers.waiting.len());
        if places == 0 || waiting >= self.config.limits.drivers_waiting_max {
            let told = format!("worker {id} runs {places} drivers at a time, and {waiting} wait already");
            return self.driver_ended(launched, Err(told));
        }
        self.drivers.waiting.push_back(launch);
    }

    fn start_driver(&mut self, launched: Launched, launch: v1::LaunchDriver) {
        let (job, stop) = (launched.job, self.stop.child_token());
        self.results.expect(job, Secret::new(launch.result_ticket));
        let running = RunningDriver { launch: launched.launch, stop: stop.clone(), next: None };
        self.drivers.running.insert(job, running);
        let child = DriverChild {
            job,
            request: DriverRequest {
                name: launch.name,
                sql: launch.sql,
                conf: launch.conf.into_iter().collect(),
                launch: launch.launch,
                memory_bytes: self.config.drivers.memory.0,
                secret: Secret::new(launch.secret),
                security: self.config.security.handover(),
            },
            manager: self.config.manager.clone(),
            command: self.config.driver_command.clone(),
            run_as: self.config.run_as,
            groups: self.groups.clone(),
            log_folder: self.config.log_folder.clone(),
            limits: self.config.limits.clone(),
            results: Arc::clone(&self.results),
            events: self.events.clone(),
            stop,
        };
        tracing::info!(%job, "starting a driver");
        self.children.spawn(child.supervise());
    }

    pub(super) fn stop_driver(&mut self, job: JobId) {
        if let Some(driver) = self.drivers.running.get_mut(&job) {
            driver.stop.cancel();
            driver.next = None;
        }
        if let Some(launch) = self.drivers.take_waiting(job) {
            let launched = Launched { job, launch: launch.launch };
            self.driver_ended(launched, Err("stopped before it began".to_owned()));
        }
    }

    /// A driver has ended, or was not begun: the next one has its place.
    pub(super) fn driver_ended(&mut self, launched: Launched, end: DriverEnd) {
        tracing::info!(job = %launched.job, launch = launched.launch, ?end, "a driver ended");
        let next = self.drivers.running.remove(&launched.job).and_then(|driver| driver.next);
        let message = self.state.driver_ended(launched, end);
        self.say(message);
        self.drivers.waiting.extend(next);
        if self.drivers.running.len() < self.plan.driver_places
            && let Some(launch) = self.drivers.waiting.pop_front()
        {
            self.start_driver(Launched { job: JobId(launch.job), launch: launch.launch }, launch);
        }
    }
}
