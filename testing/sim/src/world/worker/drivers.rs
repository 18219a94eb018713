//! A worker's drivers of submitted jobs and their results: a model of `executor/src/worker/daemon.rs`, `driver_child.rs` and
//! `results.rs`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use firesteel_base::JobId;
use firesteel_manager::machine::message::WorkerEvent;

use super::Worker;
use crate::world::{Scene, Timer};

/// How many run at a time; what is launched beyond that waits for the end of one.
pub(super) const PLACES: usize = 2;
/// How long a driver's process takes to begin, in milliseconds.
const BEGINS: (u64, u64) = (20, 2_500);
/// How long a driver that is asked to stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Ends of drivers that a manager hears of again when it comes back.
const DRIVERS_ENDED_MAX: usize = 256;

/// The manager's word to launch a driver.
#[derive(Debug, Clone)]
pub struct Order {
    /// For this job.
    pub job: JobId,
    /// Which runs this.
    pub sql: String,
    /// The how manyth launch it is.
    pub launch: u32,
}

/// A driver that runs, or is about to.
#[derive(Debug)]
pub struct RunningDriver {
    order: Order,
    /// Its number, once its process has begun.
    number: Option<u32>,
    is_stopped: bool,
    next: Option<Order>,
}

/// How a driver ended.
#[derive(Debug, Clone)]
pub struct DriverEnd {
    job: JobId,
    launch: u32,
    end: Result<(), String>,
}

/// A job's result, whole.
#[derive(Debug, Clone)]
pub struct KeptResult {
    /// The launch whose driver has written it.
    pub launch: u32,
    /// Its rows.
    pub rows: Rc<Vec<u64>>,
}

/// What a worker has of submitted jobs.
#[derive(Debug, Default)]
pub struct Drivers {
    running: std::collections::BTreeMap<JobId, RunningDriver>,
    waiting: VecDeque<Order>,
    ended: VecDeque<DriverEnd>,
    /// Results, by their jobs.
    pub results: std::collections::BTreeMap<JobId, KeptResult>,
    /// Driver processes that are to hear a signal.
    stops: Vec<u32>,
}

impl Drivers {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.running.len() + self.waiting.len()).unwrap_or(u32::MAX)
    }

    /// The processes that run.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.running.values().filter_map(|driver| driver.number).collect()
    }

    /// Takes a launch that waits out.
    fn take_waiting(&mut self, job: JobId) -> Option<Order> {
        let at = self.waiting.iter().position(|order| order.job == job)?;
        self.waiting.remove(at)
    }

    /// What a manager hears of those that have ended.
    pub(super) fn told(&self) -> impl Iterator<Item = WorkerEvent> {
        self.ended.iter().map(told)
    }
}

fn told(ended: &DriverEnd) -> WorkerEvent {
    WorkerEvent::DriverEnded {
        job: ended.job,
        launch: Some(ended.launch),
        succeeded: ended.end.is_ok(),
        reason: ended.end.as_ref().err().cloned().unwrap_or_default(),
    }
}

impl Worker {
    pub(super) fn launch_driver(&mut self, order: Order, scene: &mut Scene) {
        if let Some(ended) =
            self.drivers.ended.iter().find(|e| (e.job, e.launch) == (order.job, order.launch))
        {
            let event = told(ended);
            return self.say(event, scene);
        }
        let job = order.job;
        if let Some(driver) = self.drivers.running.get_mut(&job) {
            if driver.order.launch < order.launch {
                driver.next = Some(order);
                self.end_driver_early(job, scene);
            }
            return;
        }
        // One that came before and was given up is not begun any more.
        self.drivers.take_waiting(job);
        if self.drivers.running.len() >= PLACES {
            return self.drivers.waiting.push_back(order);
        }
        self.begin_driver(order, scene);
    }

    fn begin_driver(&mut self, order: Order, scene: &mut Scene) {
        let job = order.job;
        scene.tell(self.proc, || format!("launches the driver of {job}, launch {}", order.launch));
        let driver = RunningDriver { order, number: None, is_stopped: false, next: None };
        self.drivers.running.insert(job, driver);
        scene.wake_within(self.proc, BEGINS, Timer::StartDriver(job));
    }

    pub(super) fn stop_driver(&mut self, job: JobId, scene: &mut Scene) {
        if let Some(driver) = self.drivers.running.get_mut(&job) {
            driver.next = None;
            self.end_driver_early(job, scene);
        }
        if let Some(order) = self.drivers.take_waiting(job) {
            let end = Err("stopped before it began".to_owned());
            self.tell_end(DriverEnd { job, launch: order.launch, end }, scene);
        }
    }

    fn end_driver_early(&mut self, job: JobId, scene: &mut Scene) {
        let driver = self.drivers.running.get_mut(&job).expect("a driver of this worker");
        if !std::mem::replace(&mut driver.is_stopped, true)
            && let Some(number) = driver.number
        {
            self.drivers.stops.push(number);
            scene.wake(self.proc, STOP_TIMEOUT, Timer::KillDriver(number));
        }
    }

    pub(super) fn free_result(&mut self, job: JobId) {
        self.drivers.results.remove(&job);
        self.drivers.ended.retain(|ended| ended.job != job);
    }

    /// Drivers that are to hear a signal now.
    pub fn take_stops(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.drivers.stops)
    }

    /// A driver's process is to begin. One that was stopped meanwhile does not.
    pub fn start_driver(&mut self, job: JobId, scene: &mut Scene) -> Option<Order> {
        let driver = self.drivers.running.get(&job).filter(|driver| driver.number.is_none())?;
        let order = driver.order.clone();
        if driver.is_stopped {
            self.driver_ended(job, Err("stopped on request".to_owned()), scene);
            return None;
        }
        Some(order)
    }

    /// It has begun.
    pub fn driver_started(&mut self, job: JobId, number: u32) {
        if let Some(driver) = self.drivers.running.get_mut(&job) {
            driver.number = Some(number);
        }
    }

    /// The job that a driver process of this worker is for.
    #[must_use]
    pub fn job_of(&self, number: u32) -> Option<JobId> {
        self.drivers.running.iter().find(|(_, driver)| driver.number == Some(number)).map(|(job, _)| *job)
    }

    /// A driver has written its job's result.
    pub fn keep_result(&mut self, job: JobId, result: KeptResult) {
        self.drivers.results.insert(job, result);
    }

    /// A driver's process has ended.
    pub fn driver_ended(&mut self, job: JobId, end: Result<(), String>, scene: &mut Scene) {
        let Some(driver) = self.drivers.running.remove(&job) else { return };
        scene.tell(self.proc, || {
            format!("the driver of {job}, launch {}, has ended: {end:?}", driver.order.launch)
        });
        if end.is_err() {
            self.drivers.results.remove(&job);
        }
        let end = if driver.is_stopped { Err("stopped on request".to_owned()) } else { end };
        self.tell_end(DriverEnd { job, launch: driver.order.launch, end }, scene);
        self.drivers.waiting.extend(driver.next);
        if self.drivers.running.len() < PLACES
            && let Some(order) = self.drivers.waiting.pop_front()
        {
            self.begin_driver(order, scene);
        }
    }

    fn tell_end(&mut self, ended: DriverEnd, scene: &mut Scene) {
        let event = told(&ended);
        self.drivers.ended.push_back(ended);
        if self.drivers.ended.len() > DRIVERS_ENDED_MAX {
            self.drivers.ended.pop_front();
        }
        self.say(event, scene);
    }
}
