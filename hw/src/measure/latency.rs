//! How long single operations took.

use std::time::Duration;

use serde::Serialize;

/// Of several operations, how long they took one by one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// Half of them took no longer, in microseconds.
    pub median_us: f64,
    /// 99 of 100 took no longer, in microseconds.
    pub p99_us: f64,
}

impl Latency {
    /// Sums up; none when there was no operation.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).map(|time| time.as_secs_f64() * 1e6)
        };
        Some(Self { count: times.len() as u64, median_us: at(50)?, p99_us: at(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_counted_from_the_fastest() {
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        assert_eq!(Latency::of(times), Some(Latency { count: 200, median_us: 100.0, p99_us: 198.0 }));
        let one = Latency::of(vec![Duration::from_micros(7)]).unwrap();
        assert_eq!((one.median_us, one.p99_us), (7.0, 7.0));
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
