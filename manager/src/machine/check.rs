//! The machine's invariants, checked between steps by tests and simulations.

use std::collections::BTreeMap;

use super::Machine;
use super::job::{Job, Phase};

impl Machine {
    /// Checks every invariant that holds between two steps.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        self.leases.check();
        self.check_leases();
        self.check_jobs();
        self.check_claims();
        self.check_drains();
        self.check_bounds();
    }

    fn check_drains(&self) {
        for worker in self.drains.workers() {
            let node = self.nodes.get(&worker).expect("a worker that is drained is known");
            assert!(node.is_present(), "a worker that is drained is there: {node:?}");
            for executor in node.executors.keys() {
                let lent = self.leases.not_asked_back(&node.executor_id(*executor));
                assert!(lent.is_empty(), "slots of a worker that is drained were asked back: {lent:?}");
            }
        }
    }

    fn check_leases(&self) {
        let mut lent = BTreeMap::new();
        for lease in self.leases.iter() {
            let life = self.nodes.life(&lease.executor).expect("a lease is on an executor that is up");
            assert_eq!(life.epoch, lease.epoch, "a lease is of the executor's present life: {lease:?}");
            let job = self.jobs.live(lease.job).expect("a lease is of a live job");
            let has_driver = job.driver().is_some() || matches!(job.phase, Phase::Detached { .. });
            assert!(has_driver, "a lease is of a job whose driver is connected, or may come back: {job:?}");
            let sum: &mut (u64, u64) = lent.entry(lease.executor.clone()).or_default();
            sum.0 += lease.cores();
            sum.1 += u64::from(lease.tasks) * lease.memory_per_task;
        }
        for (id, (cores, memory)) in lent {
            let node = self.nodes.get(&id.worker).expect("an executor that is up has a node");
            let spec = &node.executors[&id.index].spec;
            assert!(cores <= u64::from(spec.slots), "{id} has {} slots but lent {cores}", spec.slots);
            assert!(memory <= spec.memory_bytes, "{id} has {} bytes but lent {memory}", spec.memory_bytes);
        }
    }

    fn check_jobs(&self) {
        for job in self.jobs.iter_live() {
            assert!(!matches!(job.phase, Phase::Ended(_)), "a live job has not ended: {job:?}");
            assert!(job.demands.is_empty() || job.driver().is_some(), "demands have a driver: {job:?}");
            for (stage, demand) in &job.demands {
                assert!(demand.tasks > 0 && demand.stage == *stage && demand.job == job.id, "{demand:?}");
            }
            if let Some(session) = job.driver() {
                let driver = self.drivers.get(session).expect("an open job's driver is connected");
                assert!(driver.jobs.contains(&job.id), "the driver knows its job: {job:?}");
            }
        }
        for (session, driver) in self.drivers.iter() {
            for job in &driver.jobs {
                let job = self.jobs.live(*job).expect("a driver's jobs are live");
                assert_eq!(job.driver(), Some(session));
            }
        }
        for job in self.jobs.iter_ended() {
            assert!(matches!(job.phase, Phase::Ended(_)) && job.ended.is_some() && job.demands.is_empty());
        }
    }

    fn check_claims(&self) {
        for job in self.claims.jobs().chain(self.returning.iter().copied()) {
            assert!(self.jobs.live(job).is_some(), "{job} has ended, and what it held with it");
        }
    }

    fn check_bounds(&self) {
        let limits = &self.config.limits;
        assert!(self.jobs.live_count() <= limits.live_jobs);
        assert!(self.jobs.live_bytes() <= limits.live_bytes);
        assert_eq!(self.jobs.live_bytes(), self.jobs.iter_live().map(Job::bytes).sum::<usize>());
        assert!(self.jobs.iter_ended().count() <= limits.ended_jobs);
        assert!(self.nodes.present().count() == self.nodes.present_count());
        assert!(self.nodes.present_count() <= limits.nodes);
        assert!(self.nodes.gone_count() <= limits.gone_nodes);
        assert!(self.drivers.count() <= limits.drivers);
        for node in self.nodes.iter() {
            assert!(!node.is_alive() || node.session.is_some(), "an alive worker has a stream: {node:?}");
            assert!(node.is_present() || node.session.is_none(), "a gone worker has none: {node:?}");
            let up = node.executors.values().filter(|executor| executor.life.is_some()).count();
            assert!(node.is_present() || up == 0, "a gone worker's executors are down: {node:?}");
        }
    }
}
