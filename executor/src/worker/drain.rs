//! Being drained: the worker gets nothing new, and leaves when nothing of it is needed any more.
//!
//! ```text
//!              the manager's order · a signal              the manager lets it go · the deadline · nothing is there
//!   (in use) ──────────────────────────────────► draining ──────────────────────────────────────────────────────────► leaves
//!      ▲                                            │
//!      └──────────── the manager's order ───────────┘
//! ```
//!
//! The worker is who knows: a manager that comes after the one that ordered it hears of it here. Whether anything is still
//! needed it cannot tell, as drivers tell the manager; without a manager it waits for the deadline, or until it is empty.

use std::time::Duration;

use firesteel_protocol::v1;
use tokio::time::Instant;

/// How often its executors are asked what they use, and the manager is told, while it is drained.
pub(crate) const PACE: Duration = Duration::from_millis(200);

/// How long a deadline may be; longer ones are none.
const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How the worker stands to being drained.
#[derive(Debug, Default)]
pub(crate) struct DrainState {
    /// The last order heard.
    order: u64,
    drain: Option<Drain>,
}

#[derive(Debug)]
struct Drain {
    reason: String,
    deadline: Option<Instant>,
}

/// Why a worker that is drained leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing of it is needed any more.
    Empty,
    /// What was left is given up.
    Overdue,
}

impl DrainState {
    /// The manager wants it drained, or not any more. An order that came before is not followed again.
    pub fn obey(&mut self, order: &v1::DrainWorker) {
        if order.order <= self.order {
            return;
        }
        self.order = order.order;
        let deadline = order.deadline_ms.map(Duration::from_millis);
        self.drain = order.draining.then(|| Drain::until("an operator's order", deadline));
    }

    /// A signal asks it to stop, with that much time for what is left. A deadline that is nearer stands.
    pub fn begin(&mut self, reason: &str, limit: Duration) {
        let nearest = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = nearest.map_or(limit, |nearest| nearest.min(limit));
        self.drain = Some(Drain::until(reason, Some(limit)));
    }

    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// When what is left is given up.
    pub fn deadline(&self) -> Option<Instant> {
        self.drain.as_ref()?.deadline
    }

    /// What the manager is told.
    pub fn report(&self, is_first: bool, drivers: usize, kept_bytes: u64) -> v1::WorkerDrain {
        let left = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        v1::WorkerDrain {
            order: self.order,
            is_first,
            draining: self.drain.is_some(),
            left_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            reason: self.drain.as_ref().map(|drain| drain.reason.clone()).unwrap_or_default(),
            drivers: u32::try_from(drivers).unwrap_or(u32::MAX),
            kept_bytes,
        }
    }
}

impl Drain {
    fn until(reason: &str, limit: Option<Duration>) -> Self {
        let deadline = limit.filter(|limit| *limit < DEADLINE_MAX).map(|limit| Instant::now() + limit);
        Self { reason: reason.to_owned(), deadline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u64, draining: bool, deadline_ms: Option<u64>) -> v1::DrainWorker {
        v1::DrainWorker { order: number, draining, deadline_ms }
    }

    /// Whether about so many seconds are left.
    fn is_left(state: &DrainState, seconds: u64) -> bool {
        let left = state.report(false, 0, 0).left_ms.unwrap();
        left <= 1000 * seconds && left + 1000 > 1000 * seconds
    }

    #[test]
    fn orders_are_followed_once_and_in_their_order() {
        let mut state = DrainState::default();
        state.obey(&order(7, true, Some(500_000)));
        let told = state.report(true, 2, 9);
        assert_eq!((told.order, told.draining, told.is_first), (7, true, true));
        assert_eq!((told.drivers, told.kept_bytes), (2, 9));
        assert!(is_left(&state, 500));
        state.obey(&order(8, false, None));
        state.obey(&order(7, true, None));
        assert!(!state.is_draining());
        assert_eq!(state.report(false, 0, 0), v1::WorkerDrain { order: 8, ..v1::WorkerDrain::default() });
        state.obey(&order(9, true, Some(u64::MAX)));
        assert!(state.is_draining() && state.deadline().is_none());
    }

    #[test]
    fn a_signal_never_gives_more_time_than_there_was() {
        let mut state = DrainState::default();
        state.begin("SIGTERM", Duration::from_secs(30));
        assert!(is_left(&state, 30));
        state.obey(&order(1, true, Some(4_000)));
        state.begin("SIGTERM", Duration::from_secs(30));
        assert!(is_left(&state, 4));
        state.obey(&order(2, true, Some(600_000)));
        state.begin("SIGTERM", Duration::from_secs(30));
        assert!(is_left(&state, 30));
    }
}
