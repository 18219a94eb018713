//! What is left when all has settled: nothing that nobody needs.

use firesteel_base::{JobId, Timestamp, WorkerId};
use firesteel_manager::machine::show::JobState;

use crate::channel::IN_FLIGHT_MAX;
use crate::world::World;

/// Things planned at a time. More is a loop that plans without end.
const PLANNED_MAX: usize = 50_000;

impl World {
    /// Queries that have not ended, or were not even begun.
    #[must_use]
    pub fn unfinished(&self) -> Vec<String> {
        let of = |(number, driver): (&u32, &crate::world::driver::Driver)| {
            let begun = driver.queries.keys().map(|query| format!("q{query} of d{number}"));
            let planned =
                (driver.planned() > 0).then(|| format!("{} to come of d{number}", driver.planned()));
            begun.chain(planned).collect::<Vec<_>>()
        };
        let clients = self.clients.iter().filter(|(_, client)| !client.is_done());
        let clients = clients.map(|(number, _)| format!("client c{number}"));
        let submitted = self.manager().into_iter().flat_map(|manager| manager.machine().jobs(false));
        let submitted = submitted.filter(|job| job.launch.is_some()).map(|job| format!("{} is live", job.id));
        self.drivers.iter().flat_map(of).chain(clients).chain(submitted).collect()
    }

    /// Looks at what must hold at any time.
    pub fn check_bounds(&mut self) {
        let longest = self.scene.net.longest();
        if longest > IN_FLIGHT_MAX {
            self.scene.check.violated(format!("{longest} messages wait in one queue"));
        }
        let planned = self.scene.agenda.planned();
        if planned > PLANNED_MAX {
            self.scene.check.violated(format!("{planned} things are planned"));
        }
    }

    /// Looks at what is left when all queries have ended and every message has settled.
    pub fn check_leftovers(&mut self) {
        let mut left = Vec::new();
        for (id, executor) in &self.executors {
            left.extend(executor.jobs().iter().map(|job| format!("{id} has something of {job}")));
        }
        if let Some(manager) = self.manager() {
            let machine = manager.machine();
            left.extend(machine.leases().iter().map(|lease| format!("the manager has lent {}", lease.id)));
            left.extend(
                machine.jobs(false).iter().map(|job| format!("the manager knows {} as live", job.id)),
            );
        }
        left.extend(self.kept_in_vain());
        left.extend(self.results_in_vain());
        let launched = self.drivers.values().filter_map(|driver| driver.submitted.as_ref());
        left.extend(launched.map(|submitted| format!("a driver of {} runs", submitted.launched.job)));
        self.scene.check.count_submitted();
        if !left.is_empty() {
            self.scene.check.violated(format!("all has ended, but {}", left.join(", ")));
        }
    }

    /// Results that nobody will ask for: of jobs that did not succeed, or that another worker's driver has ended.
    fn results_in_vain(&self) -> Vec<String> {
        let Some(manager) = self.manager() else { return Vec::new() };
        let is_wanted = |worker: &WorkerId, id: JobId| {
            let job = manager.machine().job(id);
            job.is_some_and(|job| job.worker() == Some(worker) && job.state() == JobState::Succeeded)
        };
        let registered = self.workers.iter().filter(|(_, worker)| worker.registered_since().is_some());
        let kept =
            registered.flat_map(|(id, worker)| worker.drivers.results.keys().map(move |job| (id, *job)));
        kept.filter(|(id, job)| !is_wanted(id, *job))
            .map(|(id, job)| format!("{id} keeps a result of {job}"))
            .collect()
    }

    /// Blocks of jobs that the manager has ended while their keeper was there to be told.
    fn kept_in_vain(&self) -> Vec<String> {
        let Some(manager) = self.manager().filter(|_| !self.manager_was_restarted) else {
            return Vec::new();
        };
        let mut left = Vec::new();
        for worker in self.workers.values() {
            for (life, store) in &worker.kept {
                let gone = manager.gone.get(life).copied().unwrap_or(Timestamp(u64::MAX));
                for job in store.keys().iter().map(|key| key.job()) {
                    let ended = manager.ended.get(&job).copied().unwrap_or(Timestamp(0));
                    let is_there = worker.registered_since().is_some_and(|since| since < ended);
                    if is_there && gone < ended {
                        left.push(format!("{life} is kept for {job}"));
                    }
                }
            }
        }
        left.dedup();
        left
    }
}
