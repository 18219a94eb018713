//! Fair shares: what each job is entitled to.

use std::collections::BTreeMap;

use firesteel_base::JobId;

use super::queue::{Claim, FairOrder};

/// All that a job holds and wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appetite<'a> {
    /// Which job.
    pub job: JobId,
    /// Its queue.
    pub queue: &'a str,
    /// Its share relative to others of its queue.
    pub weight: u32,
    /// Cores of a task, and how many tasks of that kind, in the order in which it takes them.
    pub tasks: Vec<(u32, u64)>,
}

/// The cores that each job would hold if all `cores` were given out anew, a task at a time, in the fair order.
///
/// The work does not grow with the cores: nearly all tasks are given in one go, up to a level that the fair order
/// passes through anyway.
#[must_use]
pub fn fair_shares(cores: u64, appetites: Vec<Appetite<'_>>) -> BTreeMap<JobId, u64> {
    let levels = levels(cores, &appetites);
    let meals: Vec<Meal<'_>> =
        appetites.into_iter().map(|a| Meal::begun(levels.get(a.queue).copied().unwrap_or(0), a)).collect();
    finish(cores, meals)
}

/// A job while it is served.
struct Meal<'a> {
    job: JobId,
    queue: &'a str,
    weight: u32,
    held: u64,
    /// What it has not got yet; the next is last.
    tasks: Vec<(u32, u64)>,
}

impl<'a> Meal<'a> {
    /// The job with as few tasks as bring it to `level` cores for its weight.
    fn begun(level: u64, appetite: Appetite<'a>) -> Self {
        let target = level.saturating_mul(u64::from(appetite.weight.max(1)));
        let mut tasks = appetite.tasks;
        tasks.retain(|(width, count)| *width > 0 && *count > 0);
        tasks.reverse();
        let mut held = 0;
        while held < target
            && let Some((width, count)) = tasks.last_mut()
        {
            let width = u64::from(*width);
            let taken = (target - held).div_ceil(width).min(*count);
            held += taken * width;
            *count -= taken;
            if *count == 0 {
                tasks.pop();
            }
        }
        Self { job: appetite.job, queue: appetite.queue, weight: appetite.weight, held, tasks }
    }
}

/// Serves what is left, a task at a time.
fn finish(cores: u64, meals: Vec<Meal<'_>>) -> BTreeMap<JobId, u64> {
    let claims = meals.iter().map(|m| Claim {
        job: m.job,
        queue: m.queue,
        weight: m.weight,
        held: m.held,
        wants: !m.tasks.is_empty(),
    });
    let mut order = FairOrder::new(claims);
    let mut left = cores - meals.iter().map(|meal| meal.held).sum::<u64>();
    let mut meals: BTreeMap<JobId, Meal<'_>> = meals.into_iter().map(|meal| (meal.job, meal)).collect();
    while let Some(job) = order.next() {
        let meal = meals.get_mut(&job).expect("only those who are served are in the order");
        let Some((width, count)) = meal.tasks.last_mut() else {
            order.retire(job);
            continue;
        };
        let width = u64::from(*width);
        if *count == 0 || width > left {
            meal.tasks.pop();
            continue;
        }
        *count -= 1;
        left -= width;
        meal.held += width;
        order.charge(job, width);
    }
    meals.into_iter().map(|(job, meal)| (job, meal.held)).collect()
}

/// For each queue a level, in cores for a weight of one, that all its jobs reach before any goes beyond it, and before
/// the cores come to an end.
fn levels<'a>(cores: u64, appetites: &[Appetite<'a>]) -> BTreeMap<&'a str, u64> {
    let mut queues: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    let mut widest = 0;
    for appetite in appetites {
        let wanted = appetite.tasks.iter().map(|(width, count)| u64::from(*width).saturating_mul(*count));
        let wanted = wanted.fold(0, u64::saturating_add);
        widest = appetite.tasks.iter().map(|(width, _)| u64::from(*width)).fold(widest, u64::max);
        queues.entry(appetite.queue).or_default().push((wanted, u64::from(appetite.weight.max(1))));
    }
    // A task may carry its job, and with it the queue, beyond a level by less than its width.
    let reached = |wanted: u64, level: u64, weight: u64| wanted.min(level.saturating_mul(weight) + widest);
    let wanted_by = |jobs: &[(u64, u64)]| jobs.iter().map(|(wanted, _)| wanted).sum::<u64>();
    let of_queues = highest(cores, |level| {
        queues.values().map(|jobs| reached(wanted_by(jobs), level, 1)).sum::<u64>() <= cores
    });
    let of_jobs = |jobs: &[(u64, u64)]| {
        let cores = wanted_by(jobs).min(of_queues);
        highest(cores, |level| {
            jobs.iter().map(|(wanted, weight)| reached(*wanted, level, *weight)).sum::<u64>() <= cores
        })
    };
    queues.iter().map(|(queue, jobs)| (*queue, of_jobs(jobs))).collect()
}

/// The highest level up to `most` that is possible, 0 if none is; what is above an impossible one is impossible.
fn highest(most: u64, possible: impl Fn(u64) -> bool) -> u64 {
    let (mut below, mut above) = (0, most + 1);
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        if possible(middle) { below = middle } else { above = middle }
    }
    below
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// As the documentation says it, without a head start.
    fn one_by_one(cores: u64, appetites: Vec<Appetite<'_>>) -> BTreeMap<JobId, u64> {
        finish(cores, appetites.into_iter().map(|appetite| Meal::begun(0, appetite)).collect())
    }

    proptest! {
        #[test]
        fn a_head_start_changes_nothing(
            cores in 0..300u64,
            jobs in proptest::collection::vec(
                (0..3usize, 0..6u32, proptest::collection::vec((0..6u32, 0..60u64), 0..4)),
                0..8,
            ),
        ) {
            let queues = ["", "day", "night"];
            let appetites: Vec<_> = jobs
                .iter()
                .zip(1..)
                .map(|((queue, weight, tasks), job)| appetite(job, queues[*queue], *weight, tasks))
                .collect();
            prop_assert_eq!(fair_shares(cores, appetites.clone()), one_by_one(cores, appetites));
        }
    }
}
