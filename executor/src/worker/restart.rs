//! When to start a dead executor again: a small machine without clock or process.

use std::collections::VecDeque;
use std::time::Duration;

use firesteel_base::Timestamp;

/// How often, and how fast, an executor is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The wait before the first restart; doubled for each that follows within the window.
    pub delay_first: Duration,
    /// The longest wait.
    pub delay_max: Duration,
    /// Ends within the window after which the executor is given up.
    pub ends_max: u32,
    /// The window.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            delay_first: Duration::from_millis(200),
            delay_max: Duration::from_secs(10),
            ends_max: 10,
            window: Duration::from_secs(300),
        }
    }
}

/// What to do about an executor that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Start it again after this wait.
    After(Duration),
    /// Leave it: it ended this often within the window.
    GiveUp {
        /// Ends within the window.
        ends: u32,
    },
}

/// The history of one executor's ends.
#[derive(Debug)]
pub struct RestartHistory {
    policy: RestartPolicy,
    ends: VecDeque<Timestamp>,
}

impl RestartHistory {
    /// Of an executor that has not ended yet.
    #[must_use]
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, ends: VecDeque::new() }
    }

    /// The executor ended, or could not be started, at `now`.
    pub fn ended(&mut self, now: Timestamp) -> Restart {
        self.ends.push_back(now);
        while self.ends.front().is_some_and(|&end| now - end > self.policy.window) {
            self.ends.pop_front();
        }
        let ends = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        if ends >= self.policy.ends_max {
            return Restart::GiveUp { ends };
        }
        let doubled = self.policy.delay_first.saturating_mul(1 << (ends - 1).min(16));
        Restart::After(doubled.min(self.policy.delay_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> RestartHistory {
        RestartHistory::new(RestartPolicy {
            delay_first: Duration::from_secs(1),
            delay_max: Duration::from_secs(3),
            ends_max: 5,
            window: Duration::from_secs(60),
        })
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_then_it_is_given_up() {
        let mut history = history();
        let answers: Vec<_> = (0..5).map(|i| history.ended(at(i))).collect();
        let after = |seconds| Restart::After(Duration::from_secs(seconds));
        assert_eq!(answers, [after(1), after(2), after(3), after(3), Restart::GiveUp { ends: 5 }]);
    }

    #[test]
    fn ends_long_ago_do_not_count() {
        let mut history = history();
        for i in 0..100 {
            assert_eq!(history.ended(at(i * 61)), Restart::After(Duration::from_secs(1)));
        }
    }

    #[test]
    fn a_policy_of_no_restart_gives_up_at_once() {
        let policy = RestartPolicy { ends_max: 1, ..RestartPolicy::default() };
        assert_eq!(RestartHistory::new(policy).ended(at(0)), Restart::GiveUp { ends: 1 });
    }
}
