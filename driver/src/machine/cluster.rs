//! The executors of the cluster as a job knows them, and which of them it may use.
//!
//! ```text
//!                 comes                   its worker is drained
//!   not there ------------> in use <-------------------------------> only there
//!       ^                     |           the drain is taken back         |
//!       +---------------------+-------------------------------------------+
//!                                goes, or comes in another life
//! ```
//!
//! In a large cluster some executor comes or goes all the time, and every job hears of each. So what follows from who is there is
//! kept and changed with it, one executor at a time; nothing here looks at those of which nothing was said.

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{Epoch, ExecutorId, WorkerId};

use super::Life;

/// An executor that is up, as a job is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Which, and in which of its lives.
    pub life: Life,
    /// Whether it can take outputs over from others.
    pub takes_outputs: bool,
    /// Whether it knows how to read some keys of a partition.
    pub reads_keys: bool,
}

#[derive(Debug)]
struct Member {
    epoch: Epoch,
    takes_outputs: bool,
}

impl Member {
    fn life(&self, executor: &ExecutorId) -> Life {
        Life { executor: executor.clone(), epoch: self.epoch }
    }
}

/// What a job knows of the cluster.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// Executors that are up.
    members: BTreeMap<ExecutorId, Member>,
    /// Workers that are drained.
    drained: BTreeSet<WorkerId>,
    /// Members whose workers are not drained.
    usable: BTreeSet<ExecutorId>,
    /// Members that do not know how to read some keys of a partition. There are none but while a cluster is brought to
    /// another release, so these are kept and not those that do.
    keyless: BTreeSet<ExecutorId>,
    /// Lives of usable members that can take outputs over.
    takers: Takers,
    /// Lives that would be among the takers, but the connection to them was lost since the cluster has changed last.
    out_of_reach: BTreeSet<Life>,
}

impl Cluster {
    /// These executors are up, each in the place of the life that was known of it, and those are not any more. A life
    /// that `is_over` takes no outputs, whatever is said of it: word of its end may come first.
    pub fn change(&mut self, came: Vec<Arrival>, gone: &[ExecutorId], is_over: impl Fn(&Life) -> bool) {
        self.try_those_out_of_reach();
        for executor in gone {
            self.remove(executor);
        }
        for arrival in came {
            let takes_outputs = arrival.takes_outputs && !is_over(&arrival.life);
            self.add(Arrival { takes_outputs, ..arrival });
        }
    }

    /// These workers are drained now. True when they were others before.
    pub fn drain(&mut self, workers: BTreeSet<WorkerId>) -> bool {
        self.try_those_out_of_reach();
        let before = std::mem::replace(&mut self.drained, workers);
        let changed: Vec<_> = before.symmetric_difference(&self.drained).cloned().collect();
        for executor in changed.iter().flat_map(|worker| self.members_of(worker)).collect::<Vec<_>>() {
            self.place(&executor);
        }
        !changed.is_empty()
    }

    /// A life is over: it takes nothing.
    pub fn end_life(&mut self, life: &Life) {
        let member = self.members.get_mut(&life.executor);
        if let Some(member) = member.filter(|member| member.epoch == life.epoch) {
            member.takes_outputs = false;
        }
        self.takers.remove(life);
        self.out_of_reach.remove(life);
    }

    /// The connection to a life was lost, and it takes nothing until the cluster has changed. It may be up all the same,
    /// and be the only one that can take something, so it is not given up; but as long as the manager holds it to be up,
    /// asking it again at once would go on and on.
    pub fn lose_link(&mut self, life: &Life) {
        if self.takers.remove(life) {
            self.out_of_reach.insert(life.clone());
        }
    }

    fn try_those_out_of_reach(&mut self) {
        for life in std::mem::take(&mut self.out_of_reach) {
            self.place(&life.executor);
        }
    }

    fn add(&mut self, arrival: Arrival) {
        let Arrival { life: Life { executor, epoch }, takes_outputs, reads_keys } = arrival;
        self.remove(&executor);
        if !reads_keys {
            self.keyless.insert(executor.clone());
        }
        self.members.insert(executor.clone(), Member { epoch, takes_outputs });
        self.place(&executor);
    }

    fn remove(&mut self, executor: &ExecutorId) {
        let Some(member) = self.members.remove(executor) else { return };
        self.usable.remove(executor);
        self.keyless.remove(executor);
        self.takers.remove(&member.life(executor));
    }

    /// Has a member used, and take outputs over, as it may by what is known of it now.
    fn place(&mut self, executor: &ExecutorId) {
        let Some(member) = self.members.get(executor) else { return };
        let life = member.life(executor);
        if self.is_drained(executor) {
            self.usable.remove(executor);
            self.takers.remove(&life);
            return;
        }
        if member.takes_outputs && !self.out_of_reach.contains(&life) {
            self.takers.insert(life);
        }
        self.usable.insert(executor.clone());
    }

    fn members_of(&self, worker: &WorkerId) -> impl Iterator<Item = ExecutorId> {
        let numbered = |index| ExecutorId { worker: worker.clone(), index };
        self.members.range(numbered(0)..=numbered(u32::MAX)).map(|(executor, _)| executor.clone())
    }

    /// Whether no executor is up.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether executors are up, and each of them is of a drained worker.
    pub fn is_all_drained(&self) -> bool {
        !self.is_empty() && self.usable.is_empty()
    }

    /// Workers that are drained.
    pub fn drained(&self) -> &BTreeSet<WorkerId> {
        &self.drained
    }

    /// Whether the worker of an executor, which may be gone, is drained.
    pub fn is_drained(&self, executor: &ExecutorId) -> bool {
        self.drained.contains(&executor.worker)
    }

    /// Whether some executor may be used that is none of those `but`, which are few: no more are looked at than there
    /// are of them, and one.
    pub fn has_usable(&self, but: impl Fn(&ExecutorId) -> bool) -> bool {
        self.usable.iter().any(|executor| !but(executor))
    }

    /// Whether an executor is up that knows how to read some keys of a partition.
    pub fn reads_keys(&self, executor: &ExecutorId) -> bool {
        self.members.contains_key(executor) && !self.keyless.contains(executor)
    }

    /// Whether all executors that are up know how to read some keys of a partition.
    pub fn all_read_keys(&self) -> bool {
        self.keyless.is_empty()
    }

    /// Whether executors may be used, and none of them knows how to read some keys of a partition.
    pub fn none_reads_keys(&self) -> bool {
        !self.usable.is_empty() && !self.has_usable(|executor| self.keyless.contains(executor))
    }

    /// Executors that might be used, but do not know how to read some keys of a partition.
    pub fn usable_keyless(&self) -> BTreeSet<ExecutorId> {
        self.keyless.iter().filter(|executor| self.usable.contains(*executor)).cloned().collect()
    }

    /// The life that was asked to take least of those that `may` take something.
    pub fn taker(&self, may: impl Fn(&Life) -> bool) -> Option<&Life> {
        self.takers.in_order.iter().map(|(_, life)| life).find(|life| may(life))
    }

    /// A life is asked to take an output of so many bytes.
    pub fn ask(&mut self, taker: &Life, bytes: u64) {
        self.takers.ask(taker, bytes);
    }
}

/// Lives that can take outputs over. They are in order, for with every output that moves one of them is looked for.
#[derive(Debug, Default)]
struct Takers {
    /// With the bytes that each was asked to take, the least first.
    in_order: BTreeSet<(u64, Life)>,
    /// Bytes that each life was asked to take which was asked at all, and may not be here any more.
    asked: BTreeMap<Life, u64>,
}

impl Takers {
    fn entry(&self, life: &Life) -> (u64, Life) {
        (self.asked.get(life).copied().unwrap_or(0), life.clone())
    }

    fn insert(&mut self, life: Life) {
        let asked = self.asked.get(&life).copied().unwrap_or(0);
        self.in_order.insert((asked, life));
    }

    /// False when it was not there.
    fn remove(&mut self, life: &Life) -> bool {
        self.in_order.remove(&self.entry(life))
    }

    fn ask(&mut self, life: &Life, bytes: u64) {
        let is_taker = self.remove(life);
        *self.asked.entry(life.clone()).or_default() += bytes;
        if is_taker {
            self.insert(life.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The same from whole lists, as it was told in them before.
    #[derive(Default)]
    struct Model {
        up: BTreeMap<ExecutorId, Arrival>,
        drained: BTreeSet<WorkerId>,
        over: BTreeSet<Life>,
        out_of_reach: BTreeSet<Life>,
        asked: BTreeMap<Life, u64>,
    }

    impl Model {
        fn members(&self, is_meant: impl Fn(&Arrival) -> bool) -> BTreeSet<ExecutorId> {
            let meant = self.up.values().filter(|arrival| is_meant(arrival));
            meant.map(|arrival| arrival.life.executor.clone()).collect()
        }

        fn is_drained(&self, arrival: &Arrival) -> bool {
            self.drained.contains(&arrival.life.executor.worker)
        }

        fn takers(&self) -> BTreeSet<(u64, Life)> {
            let takes = |arrival: &&Arrival| {
                let is_lost = self.over.contains(&arrival.life) || self.out_of_reach.contains(&arrival.life);
                arrival.takes_outputs && !is_lost && !self.is_drained(arrival)
            };
            let asked = |life: &Life| self.asked.get(life).copied().unwrap_or(0);
            let takers = self.up.values().filter(takes).map(|arrival| arrival.life.clone());
            takers.map(|life| (asked(&life), life)).collect()
        }

        fn check(&self, cluster: &Cluster) {
            let usable = self.members(|arrival| !self.is_drained(arrival));
            let keyless = self.members(|arrival| !arrival.reads_keys);
            assert_eq!(cluster.members.keys().cloned().collect::<BTreeSet<_>>(), self.members(|_| true));
            assert_eq!(cluster.drained, self.drained);
            assert_eq!(cluster.usable, usable);
            assert_eq!(cluster.keyless, keyless);
            assert_eq!(cluster.takers.in_order, self.takers());
            assert_eq!(cluster.is_all_drained(), !self.up.is_empty() && usable.is_empty());
            assert_eq!(cluster.none_reads_keys(), !usable.is_empty() && usable.is_subset(&keyless));
            assert_eq!(cluster.usable_keyless(), usable.intersection(&keyless).cloned().collect());
            let few: BTreeSet<_> = usable.iter().take(2).cloned().collect();
            assert_eq!(cluster.has_usable(|executor| few.contains(executor)), usable.len() > 2);
        }
    }

    /// Something that a job hears.
    #[derive(Debug, Clone)]
    enum Heard {
        Changed(Vec<Arrival>, Vec<ExecutorId>),
        Draining(BTreeSet<WorkerId>),
        Over(Life),
        OutOfReach(Life),
        /// Not heard, but done: an output of so many bytes moves.
        Moves(u64),
    }

    impl Heard {
        fn by_both(self, model: &mut Model, cluster: &mut Cluster) {
            match self {
                Self::Changed(came, gone) => {
                    model.out_of_reach.clear();
                    gone.iter().for_each(|executor| drop(model.up.remove(executor)));
                    let named = came.iter().map(|arrival| (arrival.life.executor.clone(), arrival.clone()));
                    model.up.extend(named);
                    cluster.change(came, &gone, |life| model.over.contains(life));
                }
                Self::Draining(workers) => {
                    model.out_of_reach.clear();
                    let is_other = model.drained != workers;
                    model.drained.clone_from(&workers);
                    assert_eq!(cluster.drain(workers), is_other);
                }
                Self::Over(life) => {
                    cluster.end_life(&life);
                    model.over.insert(life);
                }
                Self::OutOfReach(life) => {
                    cluster.lose_link(&life);
                    model.out_of_reach.insert(life);
                }
                Self::Moves(bytes) => {
                    let taker = cluster.taker(|_| true).cloned();
                    assert_eq!(taker, model.takers().first().map(|(_, life)| life.clone()));
                    let Some(taker) = taker else { return };
                    cluster.ask(&taker, bytes);
                    *model.asked.entry(taker).or_default() += bytes;
                }
            }
        }
    }

    fn worker() -> impl Strategy<Value = WorkerId> {
        (0..4).prop_map(|number| format!("w{number}").parse().unwrap())
    }

    fn executor() -> impl Strategy<Value = ExecutorId> {
        (worker(), 0..2_u32).prop_map(|(worker, index)| ExecutorId { worker, index })
    }

    fn life() -> impl Strategy<Value = Life> {
        (executor(), 1..4_u64).prop_map(|(executor, epoch)| Life { executor, epoch: Epoch(epoch) })
    }

    fn arrival() -> impl Strategy<Value = Arrival> {
        let is_one = (life(), prop::bool::weighted(0.8), prop::bool::weighted(0.8));
        is_one.prop_map(|(life, takes_outputs, reads_keys)| Arrival { life, takes_outputs, reads_keys })
    }

    fn heard() -> impl Strategy<Value = Heard> {
        let workers = vec(worker(), 0..4).prop_map(BTreeSet::from_iter);
        prop_oneof![
            4 => (vec(arrival(), 0..4), vec(executor(), 0..3)).prop_map(|(came, gone)| Heard::Changed(came, gone)),
            2 => workers.prop_map(Heard::Draining),
            1 => life().prop_map(Heard::Over),
            2 => life().prop_map(Heard::OutOfReach),
            3 => (0..100_u64).prop_map(Heard::Moves),
        ]
    }

    proptest! {
        #[test]
        fn what_is_changed_one_by_one_is_what_follows_from_all(heard in vec(heard(), 0..60)) {
            let (mut model, mut cluster) = (Model::default(), Cluster::default());
            for one in heard {
                one.by_both(&mut model, &mut cluster);
                model.check(&cluster);
            }
        }
    }
}
