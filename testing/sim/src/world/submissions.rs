//! Submitted jobs in the world: clients come, workers start drivers, drivers end.

use std::rc::Rc;

use firesteel_base::{JobId, WorkerId};

use super::client::{Callee, Client};
use super::driver::{Driver, Launched, QueryPlan};
use super::worker::KeptResult;
use super::{Due, Timer, World};
use crate::Options;
use crate::chance::Chance;
use crate::channel::{Host, Party, Proc};
use crate::faults::Fault;
use crate::plan::{draw, expected};

/// A seed of its own: worlds without a submitted job are as they were.
const OWN_CHANCE: u64 = 0x5b17;
const CLIENTS_MAX: u64 = 3;
/// How long after the start clients come, in milliseconds.
const CLIENTS_COME: (u64, u64) = (0, 9_000);
/// Of a hundred worlds so many have submitted jobs.
const SUBMITTING: u64 = 40;

impl World {
    /// Draws which jobs are submitted, and when.
    pub(super) fn draw_submissions(&mut self, seed: u64, options: &Options) {
        let mut chance = Chance::new(seed ^ OWN_CHANCE);
        if !chance.percent(if options.submits { 100 } else { SUBMITTING }) {
            return;
        }
        let cores = self.setups.values().flat_map(|setup| setup.cores.iter()).max().copied().unwrap_or(1);
        for number in 0..chance.between(1, CLIENTS_MAX) {
            let graph = draw(&mut chance, cores);
            let expected = Rc::new(expected(&graph));
            let sql = format!("text {number}");
            self.scene.check.text(sql.clone(), Rc::clone(&expected));
            let plan = QueryPlan {
                graph,
                expected,
                queue: String::new(),
                weight: 1,
                reader_rests: if chance.percent(30) { 1_500 } else { 5 },
            };
            self.texts.insert(sql.clone(), plan);
            let after = chance.millis(CLIENTS_COME.0, CLIENTS_COME.1);
            self.scene.agenda.after(after, Due::Fault(Fault::ClientComes(sql)));
        }
    }

    /// A client comes with a job.
    pub fn start_client(&mut self, sql: String) {
        let number = u32::try_from(self.clients.len()).expect("few clients come") + 1;
        let host = Host(200 + number);
        self.client_hosts.push(host);
        let proc = self.scene.net.processes.start(Party::Client(number), host);
        self.scene.tell(proc, || format!("comes to submit {sql}"));
        self.clients.insert(number, Client::start(proc, sql, &mut self.scene));
    }

    pub(super) fn wake_client(&mut self, number: u32, timer: Timer) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        match timer {
            Timer::ClientUnanswered(conn) => client.unanswered(conn, &mut self.scene),
            Timer::ClientGoes => {
                let Some(callee) = client.wants() else { return };
                let host = self.scene.net.processes.host(client.proc).unwrap_or(Host(0));
                let whom = match callee {
                    Callee::Manager => self.find_manager(host),
                    Callee::Worker(id) => self.worker_address(&id),
                };
                self.clients.get_mut(&number).expect("it was just seen").ask(whom, &mut self.scene);
            }
            other => unreachable!("{other:?} is not for clients"),
        }
    }

    fn worker_address(&self, id: &WorkerId) -> (Proc, Host) {
        let proc = self.workers.get(id).map_or(Proc(0), |worker| worker.proc);
        (proc, self.setups.get(id).map_or(Host(0), |setup| setup.host))
    }

    /// A worker starts the driver of a job.
    pub(super) fn start_launched(&mut self, id: &WorkerId, job: JobId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let host = worker.setup.host;
        let Some(order) = worker.start_driver(job, &mut self.scene) else { return };
        let plan = self.texts.get(&order.sql).expect("clients submit texts that there are").clone();
        self.drivers_started += 1;
        let number = self.drivers_started;
        self.driver_hosts.insert(number, host);
        let proc = self.scene.net.processes.start(Party::Driver(number), host);
        self.scene.tell(proc, || format!("starts on {id} for {job}, launch {}", order.launch));
        self.scene.check.driver_begins(job, order.launch);
        let launched = Launched { job, launch: order.launch, worker: id.clone() };
        self.drivers.insert(number, Driver::launched(proc, number, launched, plan, &mut self.scene));
        self.workers.get_mut(id).expect("it was just seen").driver_started(job, number);
    }

    /// Drivers whose worker wants them to stop hear a signal.
    pub(super) fn deliver_stops(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        for number in worker.take_stops() {
            if let Some(driver) = self.drivers.get(&number) {
                self.scene.wake(driver.proc, std::time::Duration::ZERO, Timer::DriverStopped);
            }
        }
    }

    /// What a launched driver has just done that concerns its worker: it has written its result, or ends.
    pub(super) fn mind_launched(&mut self, number: u32) {
        let Some(submitted) = self.drivers.get_mut(&number).and_then(|driver| driver.submitted.as_mut())
        else {
            return;
        };
        let Launched { job, launch, worker } = submitted.launched.clone();
        let (result, end) = (submitted.take_result(), submitted.end().cloned());
        if let Some(rows) = result
            && let Some(worker) = self.workers.get_mut(&worker)
        {
            worker.keep_result(job, KeptResult { launch, rows });
        }
        if let Some(end) = end {
            self.end_driver(number, end);
        }
    }

    /// A driver's process ends; the worker that started it is told how.
    pub fn end_driver(&mut self, number: u32, how: Result<(), String>) {
        let Some(driver) = self.drivers.remove(&number) else { return };
        self.scene.tell(driver.proc, || format!("ends: {how:?}"));
        self.end_process(driver.proc, false);
        let Some(submitted) = &driver.submitted else { return };
        let Launched { job, worker, .. } = &submitted.launched;
        if let Some(worker) =
            self.workers.get_mut(worker).filter(|worker| worker.job_of(number) == Some(*job))
        {
            worker.driver_ended(*job, how, &mut self.scene);
        }
    }
}
