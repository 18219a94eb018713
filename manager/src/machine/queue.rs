//! Whose turn it is: fair sharing between queues, and between the jobs of a queue by their weight.
//!
//! ```text
//!   the queue that holds least ─► in it the job that holds least for its weight ─► of equals the oldest
//! ```

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firesteel_base::JobId;

/// A job that takes part in the sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Which; lower numbers are older.
    pub job: JobId,
    /// Its queue.
    pub queue: &'a str,
    /// Its share relative to others of its queue.
    pub weight: u32,
    /// Cores it holds.
    pub held: u64,
    /// Whether it wants more.
    pub wants: bool,
}

/// Jobs in the order in which the next slot is theirs. A change takes time that grows with the logarithm of their number.
#[derive(Debug, Clone, Default)]
pub struct FairOrder {
    queues: BTreeMap<Arc<str>, Queue>,
    /// The queues with jobs that want more, by what they hold and by their oldest job.
    order: BTreeSet<(u64, JobId)>,
    members: BTreeMap<JobId, Member>,
}

#[derive(Debug, Clone, Default)]
struct Queue {
    held: u64,
    members: BTreeSet<JobId>,
    /// Those that want more.
    wanting: BTreeSet<(Load, JobId)>,
}

#[derive(Debug, Clone)]
struct Member {
    queue: Arc<str>,
    load: Load,
    wants: bool,
}

impl FairOrder {
    /// The order of those claims that want more; the others count for what their queue holds.
    pub fn new<'a>(claims: impl IntoIterator<Item = Claim<'a>>) -> Self {
        let mut this = Self::default();
        claims.into_iter().for_each(|claim| this.set(claim));
        this
    }

    /// The job whose turn it is.
    #[must_use]
    pub fn next(&self) -> Option<JobId> {
        let (_, oldest) = self.order.first()?;
        let queue = &self.queues[&self.members[oldest].queue];
        queue.wanting.first().map(|(_, job)| *job)
    }

    /// Takes in a job, or what has become of it.
    pub fn set(&mut self, claim: Claim<'_>) {
        let load = Load { held: claim.held, weight: claim.weight.max(1) };
        let is_as_known =
            |old: &Member| *old.queue == *claim.queue && old.load.is_same(load) && old.wants == claim.wants;
        if self.members.get(&claim.job).is_some_and(is_as_known) {
            return;
        }
        let known = self.queues.get_key_value(claim.queue);
        let queue = known.map_or_else(|| Arc::from(claim.queue), |(name, _)| Arc::clone(name));
        self.remove(claim.job);
        self.insert(claim.job, Member { queue, load, wants: claim.wants });
    }

    /// The job takes no part any more.
    pub fn remove(&mut self, job: JobId) {
        let Some(member) = self.members.remove(&job) else { return };
        let queue = self.queues.get_mut(&member.queue).expect("a member is in its queue");
        delist(&mut self.order, queue);
        queue.held -= member.load.held;
        queue.wanting.remove(&(member.load, job));
        queue.members.remove(&job);
        enlist(&mut self.order, queue);
        if queue.members.is_empty() {
            self.queues.remove(&member.queue);
        }
    }

    fn insert(&mut self, job: JobId, member: Member) {
        let queue = self.queues.entry(Arc::clone(&member.queue)).or_default();
        delist(&mut self.order, queue);
        queue.held += member.load.held;
        queue.members.insert(job);
        if member.wants {
            queue.wanting.insert((member.load, job));
        }
        enlist(&mut self.order, queue);
        self.members.insert(job, member);
    }

    /// The job got that many cores more.
    pub fn charge(&mut self, job: JobId, cores: u64) {
        let Some(member) = self.members.get_mut(&job) else { return };
        let queue = self.queues.get_mut(&member.queue).expect("a member is in its queue");
        delist(&mut self.order, queue);
        let was_listed = queue.wanting.remove(&(member.load, job));
        member.load.held += cores;
        queue.held += cores;
        if was_listed {
            queue.wanting.insert((member.load, job));
        }
        enlist(&mut self.order, queue);
    }

    /// The job wants no more.
    pub fn retire(&mut self, job: JobId) {
        let Some(member) = self.members.get_mut(&job) else { return };
        let queue = self.queues.get_mut(&member.queue).expect("a member is in its queue");
        delist(&mut self.order, queue);
        queue.wanting.remove(&(member.load, job));
        member.wants = false;
        enlist(&mut self.order, queue);
    }
}

/// Takes a queue out of the order, before it changes.
fn delist(order: &mut BTreeSet<(u64, JobId)>, queue: &Queue) {
    if let Some(oldest) = queue.members.first() {
        order.remove(&(queue.held, *oldest));
    }
}

/// Puts a queue where it belongs now.
fn enlist(order: &mut BTreeSet<(u64, JobId)>, queue: &Queue) {
    if let Some(oldest) = queue.members.first()
        && !queue.wanting.is_empty()
    {
        order.insert((queue.held, *oldest));
    }
}

/// Cores held in relation to weight; ordered by the quotient.
#[derive(Debug, Clone, Copy)]
struct Load {
    held: u64,
    weight: u32,
}

impl Load {
    /// Whether it is not just as large, but of the same numbers.
    fn is_same(self, other: Self) -> bool {
        (self.held, self.weight) == (other.held, other.weight)
    }
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (u128::from(self.held), u128::from(other.held));
        (left * u128::from(other.weight)).cmp(&(right * u128::from(self.weight)))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Load {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_slot_goes_to_whoever_holds_least_for_its_weight() {
        let claim = |job, weight, held| Claim { job: JobId(job), queue: "", weight, held, wants: true };
        let mut order = FairOrder::new([claim(1, 1, 2), claim(2, 2, 2), claim(3, 1, 2)]);
        assert_eq!(order.next(), Some(JobId(2)));
        order.charge(JobId(2), 2);
        assert_eq!(order.next(), Some(JobId(1)), "all hold 2 for their weight: the oldest");
        order.retire(JobId(1));
        assert_eq!(order.next(), Some(JobId(2)));
        order.retire(JobId(2));
        order.retire(JobId(3));
        assert_eq!(order.next(), None);
    }

    #[test]
    fn of_queues_that_hold_as_much_that_with_the_oldest_job_is_next() {
        let claim = |job, queue, held| Claim { job: JobId(job), queue, weight: 1, held, wants: held > 0 };
        let mut order = FairOrder::new([claim(2, "b", 1), claim(1, "a", 0), claim(3, "a", 1)]);
        assert_eq!(order.next(), Some(JobId(3)), "its queue has the oldest job");
        order.remove(JobId(1));
        assert_eq!(order.next(), Some(JobId(2)), "now the other has");
        order.charge(JobId(2), 1);
        assert_eq!(order.next(), Some(JobId(3)), "its queue holds less");
    }

    const QUEUES: [&str; 3] = ["", "day", "night"];

    fn claim() -> impl Strategy<Value = Claim<'static>> {
        (1..9u64, 0..3usize, 0..4u32, 0..9u64, any::<bool>()).prop_map(|(job, queue, weight, held, wants)| {
            Claim { job: JobId(job), queue: QUEUES[queue], weight, held, wants }
        })
    }

    /// All jobs as their turns come, each of which gives a core, until there were enough turns.
    fn turns(mut order: FairOrder) -> Vec<JobId> {
        let mut turns = Vec::new();
        while turns.len() < 40
            && let Some(job) = order.next()
        {
            order.charge(job, 1);
            turns.push(job);
        }
        turns
    }

    proptest! {
        #[test]
        fn what_was_changed_is_as_what_is_made_anew(
            changes in proptest::collection::vec((claim(), any::<bool>(), 0..3u64), 0..40),
        ) {
            let mut now: BTreeMap<JobId, Claim<'static>> = BTreeMap::new();
            let mut order = FairOrder::default();
            for (claim, goes, more) in changes {
                if goes {
                    order.remove(claim.job);
                    now.remove(&claim.job);
                } else {
                    order.set(claim);
                    order.charge(claim.job, more);
                    now.insert(claim.job, Claim { held: claim.held + more, ..claim });
                }
                prop_assert_eq!(turns(order.clone()), turns(FairOrder::new(now.values().copied())));
            }
        }
    }
}
