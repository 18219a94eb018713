//! Times of one thing, measured several times.

use std::time::{Duration, Instant};

use firesteel_bench::record::stats;
use serde::Serialize;

/// How long `work` took, and what came of it.
pub async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let start = Instant::now();
    let outcome = work.await;
    (start.elapsed(), outcome)
}

/// Milliseconds, in the order in which they were measured.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Times(Vec<f64>);

impl Times {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.0.push((took.as_secs_f64() * 1e5).round() / 100.0);
    }

    /// The middle one; the mean of the two in the middle when their number is even.
    pub fn median(&self) -> f64 {
        stats::median(&self.0).unwrap_or(f64::NAN)
    }

    /// The median as a report shows it: no more digits than were measured well.
    pub fn median_ms(&self) -> String {
        shown(self.median())
    }

    /// The least and the most: `90-104`.
    pub fn range_ms(&self) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{}-{}", shown(least), shown(most))
    }
}

/// Milliseconds with a digit after the point where they are few.
pub fn shown(ms: f64) -> String {
    if ms < 20.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ms: &[u64]) -> Times {
        let mut times = Times::default();
        ms.iter().for_each(|&ms| times.add(Duration::from_millis(ms)));
        times
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(times(&[300, 100, 200]).median_ms(), "200");
        assert_eq!(times(&[3, 1, 2, 4]).median_ms(), "2.5");
        assert_eq!(times(&[300, 5, 200]).range_ms(), "5.0-300");
    }
}
