//! Leases, counted at the manager's door: every slot of an executor's life is lent once.

use std::collections::BTreeMap;

use firesteel_base::{ExecutorId, JobId, LeaseId};
use firesteel_manager::machine::Machine;
use firesteel_manager::machine::job::{Job, Phase};
use firesteel_manager::machine::message::{DriverEvent, Effect, Event, Grant, SessionId, ToDriver};

use crate::world::worker::Setup;

#[derive(Debug)]
struct Lease {
    session: SessionId,
    job: JobId,
    grant: Grant,
    tasks: u32,
}

/// What is lent.
#[derive(Debug, Default)]
pub struct LeaseLedger {
    slots: BTreeMap<ExecutorId, u64>,
    lent: BTreeMap<LeaseId, Lease>,
    latest: LeaseId,
}

impl LeaseLedger {
    /// A worker will run executors of that size.
    pub fn worker_is_set_up(&mut self, setup: &Setup) {
        for (index, cores) in (0..).zip(&setup.cores) {
            let id = ExecutorId { worker: setup.id.clone(), index };
            self.slots.insert(id, u64::from(*cores));
        }
    }

    /// Nothing is lent.
    pub fn begin_anew(&mut self) {
        self.lent.clear();
        self.latest = LeaseId(0);
    }

    /// The manager is told something.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Driver(session, DriverEvent::Release { lease, tasks }) => {
                if let Some(held) = self.lent.get_mut(lease).filter(|held| held.session == *session) {
                    held.tasks = held.tasks.saturating_sub(*tasks);
                    if held.tasks == 0 {
                        self.lent.remove(lease);
                    }
                }
            }
            Event::Driver(session, DriverEvent::CloseJob { job, .. }) => {
                self.lent.retain(|_, held| held.session != *session || held.job != *job);
            }
            // A driver may come back: what its jobs hold stands until they end.
            Event::Worker(..) | Event::Driver(..) | Event::Client(..) | Event::Tick | Event::Absence(_) => {}
        }
    }

    /// A job goes on with what its driver holds, and the manager knows.
    fn resume(&mut self, session: SessionId, job: JobId, machine: &Machine) {
        self.lent.retain(|_, held| held.job != job);
        for lease in machine.leases().of_job(job) {
            let Some(executor) = machine.nodes().reference(&lease.executor) else { continue };
            let (stage, tasks, cores_per_task) = (lease.stage, lease.tasks, lease.cores_per_task);
            let grant = Grant { lease: lease.id, job, stage, executor, tasks, cores_per_task };
            self.lent.insert(lease.id, Lease { session, job, grant, tasks });
        }
    }

    /// The manager says something.
    pub fn say(&mut self, effect: &Effect, machine: &Machine) -> Result<(), String> {
        match effect {
            Effect::ToDriver(session, ToDriver::Grant(grant)) => self.lend(*session, grant, machine),
            Effect::ToDriver(_, ToDriver::ExecutorGone { executor, .. }) => {
                self.lent.retain(|_, held| held.grant.executor != *executor);
                Ok(())
            }
            Effect::ToDriver(session, ToDriver::JobOpened { job, resumed: Some(_), .. }) => {
                self.resume(*session, *job, machine);
                Ok(())
            }
            Effect::JobEnded(job) => {
                self.lent.retain(|_, held| held.job != *job);
                Ok(())
            }
            // A driver that is sent away holds what is still counted as its.
            Effect::EndSession(session, _) => {
                self.lent.retain(|id, held| held.session != *session || machine.leases().get(*id).is_some());
                Ok(())
            }
            // What waits for another driver holds nothing: the one before was given up, and executors hear the later one.
            Effect::Keep { job, .. } if machine.job(*job).is_some_and(waits_for_a_driver) => {
                self.lent.retain(|_, held| held.job != *job);
                Ok(())
            }
            Effect::ToDriver(..)
            | Effect::ToWorker(..)
            | Effect::Refuse(..)
            | Effect::Answer(..)
            | Effect::Keep { .. }
            | Effect::Forget(_)
            | Effect::Note(_) => Ok(()),
        }
    }

    fn lend(&mut self, session: SessionId, grant: &Grant, machine: &Machine) -> Result<(), String> {
        let (lease, tasks) = (grant.lease, grant.tasks);
        if lease <= self.latest {
            return Err(format!("{lease} is given out again"));
        }
        self.latest = lease;
        if machine.drains().get(&grant.executor.id.worker).is_some() {
            return Err(format!("{lease} is on {}, whose worker is drained", grant.executor.id));
        }
        let counted = machine.leases().get(lease).map_or(0, |counted| counted.tasks);
        if counted != tasks {
            return Err(format!("{lease} lends {tasks} slots, and the manager counts {counted}"));
        }
        let held = Lease { session, job: grant.job, grant: grant.clone(), tasks };
        self.lent.insert(lease, held);
        let life = &grant.executor;
        let of_life = self.lent.values().filter(|held| held.grant.executor == *life);
        let cores: u64 =
            of_life.map(|held| u64::from(held.tasks) * u64::from(held.grant.cores_per_task)).sum();
        let slots = self.slots.get(&life.id).copied().unwrap_or(0);
        if cores > slots {
            return Err(format!("{} has {slots} slots in {} and {cores} are lent", life.id, life.epoch));
        }
        Ok(())
    }
}

fn waits_for_a_driver(job: &Job) -> bool {
    matches!(job.phase, Phase::Submitted | Phase::Launching { .. })
}
