//! Time as the machines see it: a number handed in from outside, never read inside.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds since a process-local origin; only differences between two of one clock mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    /// The time from `earlier` to `self`, zero when `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

/// Where a shell takes the time from that it hands to a machine.
pub trait Clock: Send + Sync {
    /// The time now. Never goes backwards.
    fn now(&self) -> Timestamp;
}

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
    first: Timestamp,
}

impl SystemClock {
    /// A clock that reads `first` now.
    #[must_use]
    pub fn starting_at(first: Timestamp) -> Self {
        Self { origin: Instant::now(), first }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::starting_at(Timestamp::default())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.first + self.origin.elapsed()
    }
}

/// A clock that stands until it is moved, for tests and simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    millis: AtomicU64,
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        self.millis.fetch_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.millis.load(Ordering::SeqCst))
    }
}
