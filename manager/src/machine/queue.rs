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

/// All that a job holds and wants, for working out its fair share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appetite<'a> {
    /// Which job.
    pub job: JobId,
    /// Its queue.
    pub queue: &'a str,
    /// Its share relative to others of its queue.
    pub weight: u32,
    /// Cores of a task, and how many tasks of that kind.
    pub tasks: Vec<(u32, u64)>,
}

/// The cores that each job would hold if all `cores` were given out anew, a task at a time, in the fair order.
#[must_use]
pub fn fair_shares(cores: u64, appetites: Vec<Appetite<'_>>) -> BTreeMap<JobId, u64> {
    let claims = appetites.iter().map(|a| Claim {
        job: a.job,
        queue: a.queue,
        weight: a.weight,
        held: 0,
        wants: !a.tasks.is_empty(),
    });
    let mut order = FairOrder::new(claims);
    let mut shares: BTreeMap<JobId, u64> = appetites.iter().map(|a| (a.job, 0)).collect();
    let mut wants: BTreeMap<JobId, Vec<(u32, u64)>> =
        appetites.into_iter().map(|a| (a.job, a.tasks.into_iter().rev().collect())).collect();
    let mut left = cores;
    while let Some(job) = order.next() {
        let tasks = wants.get_mut(&job).expect("only those with an appetite are in the order");
        let Some((width, count)) = tasks.last_mut() else {
            order.retire(job);
            continue;
        };
        let width = u64::from(*width);
        if *count == 0 || width > left {
            tasks.pop();
            continue;
        }
        *count -= 1;
        left -= width;
        *shares.entry(job).or_default() += width;
        order.charge(job, width);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appetite(job: u64, queue: &'static str, weight: u32, tasks: &[(u32, u64)]) -> Appetite<'static> {
        Appetite { job: JobId(job), queue, weight, tasks: tasks.to_vec() }
    }

    fn shares(cores: u64, appetites: Vec<Appetite<'_>>) -> Vec<u64> {
        fair_shares(cores, appetites).into_values().collect()
    }

    #[test]
    fn equal_jobs_get_equal_shares_and_the_oldest_the_rest() {
        let both = vec![appetite(1, "", 1, &[(1, 100)]), appetite(2, "", 1, &[(1, 100)])];
        assert_eq!(shares(8, both.clone()), [4, 4]);
        assert_eq!(shares(5, both), [3, 2]);
    }

    #[test]
    fn what_one_does_not_want_is_for_the_others() {
        assert_eq!(shares(9, vec![appetite(1, "", 1, &[(1, 2)]), appetite(2, "", 1, &[(1, 100)])]), [2, 7]);
    }

    #[test]
    fn weights_count_inside_a_queue_and_queues_are_equal() {
        let three = vec![
            appetite(1, "a", 3, &[(1, 100)]),
            appetite(2, "a", 1, &[(1, 100)]),
            appetite(3, "b", 1, &[(1, 100)]),
        ];
        assert_eq!(shares(16, three), [6, 2, 8]);
    }

    #[test]
    fn wide_tasks_count_as_they_are_and_wait_when_they_cannot_fit() {
        let wide = vec![appetite(1, "", 1, &[(1, 100)]), appetite(2, "", 1, &[(4, 100)])];
        assert_eq!(shares(8, wide.clone()), [4, 4]);
        assert_eq!(shares(4, wide), [4, 0]);
    }

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
