//! The cluster as the manager tells of it, and what jobs are told of it: of each change that alone, for jobs and executors
//! may be many.

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{ExecutorId, WorkerId, version};
use firesteel_protocol::{MalformedMessage, required, v1};

use super::convert;
use super::messages::Member;
use crate::machine::{Arrival, Event, Life};

/// An executor that is up.
#[derive(Debug, Clone)]
pub(super) struct Executor {
    /// What jobs are told of it.
    arrival: Arrival,
    slots: u32,
    /// Where it is reached.
    pub reference: v1::ExecutorRef,
}

impl Executor {
    /// What the manager says of one. One that `is_here`, in this process, is of this build, whatever its worker says.
    pub fn new(
        shape: v1::ExecutorShape,
        is_here: impl Fn(&ExecutorId) -> bool,
    ) -> Result<Self, MalformedMessage> {
        let reference = required(shape.executor, "ExecutorShape.executor")?;
        let life = convert::life(&reference)?;
        let reads_keys = is_here(&life.executor) || shape.wire_version >= version::WIRE_KEYS;
        let takes_outputs = shape.wire_version >= version::WIRE_DRAIN;
        Ok(Self { arrival: Arrival { life, takes_outputs, reads_keys }, slots: shape.slots, reference })
    }

    fn id(&self) -> &ExecutorId {
        &self.arrival.life.executor
    }

    pub fn life(&self) -> &Life {
        &self.arrival.life
    }
}

/// The workers of these names.
pub(super) fn workers(names: &[String]) -> Result<BTreeSet<WorkerId>, MalformedMessage> {
    let worker = |name: &String| {
        let parsed = name.parse::<WorkerId>();
        parsed.map_err(|fault| MalformedMessage::new("ClusterChanged.draining", fault.to_string()))
    };
    names.iter().map(worker).collect()
}

/// The executors that are up, and the workers that are drained.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    executors: BTreeMap<ExecutorId, Executor>,
    draining: BTreeSet<WorkerId>,
}

impl Cluster {
    /// The executors that are up are these, and no others. Returns what jobs are to be told.
    pub fn become_all(&mut self, executors: Vec<Executor>, draining: BTreeSet<WorkerId>) -> Vec<Event> {
        let up: BTreeSet<_> = executors.iter().map(Executor::id).collect();
        let gone = self.executors.keys().filter(|executor| !up.contains(executor)).cloned().collect();
        self.change(executors, gone, draining)
    }

    /// These executors are up too, and those are not any more. Returns what jobs are to be told.
    pub fn change(
        &mut self,
        came: Vec<Executor>,
        gone: Vec<ExecutorId>,
        draining: BTreeSet<WorkerId>,
    ) -> Vec<Event> {
        for executor in &gone {
            self.executors.remove(executor);
        }
        let came = came.into_iter().filter_map(|executor| self.add(executor)).collect();
        let drained = (self.draining != draining).then(|| Event::Draining { workers: draining.clone() });
        self.draining = draining;
        drained.into_iter().chain([Event::ClusterChanged { came, gone }]).collect()
    }

    /// Takes note of an executor. Returns what jobs are told of it, unless that is what they know.
    fn add(&mut self, executor: Executor) -> Option<Arrival> {
        let arrival = executor.arrival.clone();
        let before = self.executors.insert(executor.id().clone(), executor);
        before.is_none_or(|before| before.arrival != arrival).then_some(arrival)
    }

    /// What a job is told that knows nothing yet.
    pub fn whole(&self) -> [Event; 2] {
        let came = self.executors.values().map(|executor| executor.arrival.clone()).collect();
        [Event::Draining { workers: self.draining.clone() }, Event::ClusterChanged { came, gone: Vec::new() }]
    }

    /// Whether an executor is up in that life.
    pub fn is_up(&self, life: &Life) -> bool {
        self.executors.get(&life.executor).is_some_and(|executor| executor.life() == life)
    }

    /// Those that new queries are planned for.
    pub fn members(&self) -> Vec<Member> {
        let is_meant = |executor: &&Executor| !self.draining.contains(&executor.id().worker);
        let member = |executor: &Executor| Member {
            life: executor.life().clone(),
            slots: executor.slots,
            address: executor.reference.control_address.clone(),
        };
        self.executors.values().filter(is_meant).map(member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executor(name: &str, epoch: u64, wire_version: u32) -> Executor {
        let id = v1::ExecutorId { worker: name.to_owned(), index: 0 };
        let executor = v1::ExecutorRef { id: Some(id), epoch, ..v1::ExecutorRef::default() };
        let shape =
            v1::ExecutorShape { executor: Some(executor), wire_version, ..v1::ExecutorShape::default() };
        Executor::new(shape, |_| false).unwrap()
    }

    /// What events say, a word for each thing.
    fn said(events: impl IntoIterator<Item = Event>) -> String {
        let mut words = Vec::new();
        for event in events {
            match event {
                Event::Draining { workers } => {
                    words.push("drained:".to_owned());
                    words.extend(workers.iter().map(ToString::to_string));
                }
                Event::ClusterChanged { came, gone } => {
                    words.extend(came.iter().map(|came| {
                        let Arrival { life, takes_outputs, reads_keys } = came;
                        let can = [(*takes_outputs, "/takes"), (*reads_keys, "/keys")];
                        let can: String =
                            can.into_iter().filter(|(can, _)| *can).map(|(_, what)| what).collect();
                        format!("+{}:{}{can}", life.executor.worker, life.epoch.0)
                    }));
                    words.extend(gone.iter().map(|gone| format!("-{}", gone.worker)));
                }
                other => panic!("{other:?} is not of the cluster"),
            }
        }
        words.join(" ")
    }

    #[test]
    fn of_a_change_that_alone_is_told_and_all_to_a_job_that_is_new() {
        let mut cluster = Cluster::default();
        let none = BTreeSet::new;
        let first = vec![executor("a", 1, 4), executor("b", 1, 5)];
        assert_eq!(said(cluster.become_all(first, none())), "+a:1 +b:1/takes");
        let came = vec![executor("c", 1, 6)];
        assert_eq!(said(cluster.change(came, Vec::new(), none())), "+c:1/takes/keys");
        let gone = vec![executor("a", 1, 4).id().clone()];
        let restarted = vec![executor("b", 2, 5)];
        assert_eq!(said(cluster.change(restarted, gone, none())), "+b:2/takes -a");
        let drained = workers(&["c".to_owned()]).unwrap();
        assert_eq!(said(cluster.change(Vec::new(), Vec::new(), drained)), "drained: c");
        assert_eq!(said(cluster.whole()), "drained: c +b:2/takes +c:1/takes/keys");
        let planned_for: Vec<_> = cluster.members().iter().map(|member| member.life.to_string()).collect();
        assert_eq!(planned_for.len(), 1, "{planned_for:?}");
    }

    /// A manager that was away tells all: in other lives, of other releases, or as they were.
    #[test]
    fn of_a_whole_list_what_is_not_known_is_told() {
        let mut cluster = Cluster::default();
        let first = ["a", "b", "c", "d"].map(|name| executor(name, 1, 5));
        cluster.become_all(first.to_vec(), workers(&["a".to_owned()]).unwrap());
        let second = vec![executor("a", 1, 5), executor("b", 2, 5), executor("d", 1, 6), executor("e", 1, 6)];
        let told = cluster.become_all(second.clone(), BTreeSet::new());
        assert_eq!(said(told), "drained: +b:2/takes +d:1/takes/keys +e:1/takes/keys -c");
        let told = cluster.become_all(second, BTreeSet::new());
        assert_eq!(
            (told.len(), said(told).as_str()),
            (1, ""),
            "it has changed, even if nothing is other than before"
        );
        assert!(cluster.is_up(executor("b", 2, 5).life()) && !cluster.is_up(executor("b", 1, 5).life()));
    }
}
