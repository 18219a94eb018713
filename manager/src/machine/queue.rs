//! Whose turn it is: fair sharing between queues, and between the jobs of a queue by their weight.
//!
//! ```text
//!   the queue that holds least ─► in it the job that holds least for its weight ─► of equals the oldest
//! ```

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

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

/// Jobs in the order in which the next slot is theirs.
#[derive(Debug)]
pub struct FairOrder {
    queues: Vec<Queue>,
    order: BTreeSet<(u64, usize)>,
    members: BTreeMap<JobId, Member>,
}

#[derive(Debug, Default)]
struct Queue {
    held: u64,
    jobs: BTreeSet<(Load, JobId)>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    queue: usize,
    load: Load,
}

impl FairOrder {
    /// The order of those claims that want more; the others count for what their queue holds.
    pub fn new<'a>(claims: impl IntoIterator<Item = Claim<'a>>) -> Self {
        let mut this = Self { queues: Vec::new(), order: BTreeSet::new(), members: BTreeMap::new() };
        let mut names = BTreeMap::new();
        for claim in claims {
            let queue = *names.entry(claim.queue).or_insert_with(|| {
                this.queues.push(Queue::default());
                this.queues.len() - 1
            });
            this.queues[queue].held += claim.held;
            if claim.wants {
                let load = Load { held: claim.held, weight: claim.weight.max(1) };
                this.queues[queue].jobs.insert((load, claim.job));
                this.members.insert(claim.job, Member { queue, load });
            }
        }
        let wanting = this.queues.iter().enumerate().filter(|(_, queue)| !queue.jobs.is_empty());
        this.order = wanting.map(|(at, queue)| (queue.held, at)).collect();
        this
    }

    /// The job whose turn it is.
    #[must_use]
    pub fn next(&self) -> Option<JobId> {
        let (_, queue) = self.order.first()?;
        self.queues[*queue].jobs.first().map(|(_, job)| *job)
    }

    /// The job got that many cores more.
    pub fn charge(&mut self, job: JobId, cores: u64) {
        let Some(member) = self.members.get_mut(&job) else { return };
        let queue = &mut self.queues[member.queue];
        queue.jobs.remove(&(member.load, job));
        member.load.held += cores;
        queue.jobs.insert((member.load, job));
        self.order.remove(&(queue.held, member.queue));
        queue.held += cores;
        self.order.insert((queue.held, member.queue));
    }

    /// The job wants no more.
    pub fn retire(&mut self, job: JobId) {
        let Some(member) = self.members.remove(&job) else { return };
        let queue = &mut self.queues[member.queue];
        queue.jobs.remove(&(member.load, job));
        if queue.jobs.is_empty() {
            self.order.remove(&(queue.held, member.queue));
        }
    }
}

/// Cores held in relation to weight; ordered by the quotient.
#[derive(Debug, Clone, Copy)]
struct Load {
    held: u64,
    weight: u32,
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
}
