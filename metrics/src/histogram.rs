//! Times, by how long they were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in seconds: of what takes from microseconds to several seconds.
pub(crate) const SECONDS: [f64; 12] =
    [0.0001, 0.00025, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

/// How many times were how long. Counting is two additions.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By the bound that is the first to hold them; the last has those above all bounds.
    counts: [AtomicU64; SECONDS.len() + 1],
    nanos: AtomicU64,
}

/// What a histogram holds at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// In seconds.
    pub sum: f64,
    /// How many.
    pub count: u64,
    /// Upper bound, and how many are up to it and above the one before.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, span: Duration) {
        let seconds = span.as_secs_f64();
        let bucket = SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(SECONDS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn counted(&self) -> Counted {
        let bounds = SECONDS.into_iter().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Counted {
            sum: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64(),
            count,
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_at_the_first_bound_that_holds_it() {
        let times = Histogram::default();
        for micros in [0, 100, 101, 1_000, 11_000_000] {
            times.observe(Duration::from_micros(micros));
        }
        let counted = times.counted();
        let count = |bound: f64| counted.buckets.iter().find(|(upper, _)| *upper == bound).unwrap().1;
        assert_eq!([0.0001, 0.00025, 0.001, 10.0, f64::INFINITY].map(count), [2, 1, 1, 0, 1]);
        assert_eq!(counted.count, 5);
        assert!((counted.sum - 11.001201).abs() < 1e-9, "{}", counted.sum);
    }
}
