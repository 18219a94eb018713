//! When a majority has last heard this leader.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::record::Vote;

/// The times at which calls were begun that others have answered. An answer counts from when its call was begun: whoever gave
/// it heard this leader then or later. The clock is the system's monotonic one, which goes on while the process stands still.
#[derive(Debug)]
pub(super) struct Lease {
    members: usize,
    answered: Mutex<(Vote, BTreeMap<u64, Instant>)>,
}

impl Lease {
    pub fn new(members: usize) -> Self {
        Self { members, answered: Mutex::new((Vote::default(), BTreeMap::new())) }
    }

    /// `by` has answered, as a follower of the leader of that vote, a call that was begun then.
    pub fn answered(&self, vote: &Vote, by: u64, begun: Instant) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if *vote > answered.0 {
            *answered = (*vote, BTreeMap::new());
        }
        if *vote == answered.0 {
            let latest = answered.1.entry(by).or_insert(begun);
            *latest = begun.max(*latest);
        }
    }

    /// How long ago a majority, this leader of that vote included, has heard it; nothing when none has yet.
    pub fn age(&self, vote: &Vote) -> Option<Duration> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.0 != *vote {
            return None;
        }
        let others = self.members / 2;
        let mut times: Vec<_> = answered.1.values().collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        match others.checked_sub(1) {
            None => Some(Duration::ZERO),
            Some(last) => times.get(last).map(|begun| begun.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_a_majority_counts_and_only_for_its_vote() {
        let now = Instant::now();
        let ago = |millis| now - Duration::from_millis(millis);
        let (first, second) = (Vote::new_committed(1, 1), Vote::new_committed(2, 1));
        let lease = Lease::new(5);
        lease.answered(&first, 2, ago(100));
        assert_eq!(lease.age(&first), None, "two of five are no majority");
        lease.answered(&first, 3, ago(5000));
        lease.answered(&first, 2, ago(7000));
        let age = lease.age(&first).unwrap();
        assert!(age >= Duration::from_secs(5) && age < Duration::from_secs(6), "{age:?}");
        lease.answered(&first, 4, ago(300));
        assert!(lease.age(&first).unwrap() < Duration::from_secs(1));
        assert_eq!(lease.age(&second), None);
        lease.answered(&second, 2, now);
        lease.answered(&first, 3, now);
        assert_eq!(
            (lease.age(&first), lease.age(&second)),
            (None, None),
            "answers to an earlier vote are none"
        );
    }
}
