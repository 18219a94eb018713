//! Amdahl's law, fitted to a few times.

use serde::Serialize;

/// Core counts beyond this are told as none: nobody would build on such an estimate.
const CORES_MAX: f64 = 1e6;

/// A time that a part of the work takes whatever the cores, and a part that the cores share: on `n` cores
/// `serial + shared / n` seconds.
///
/// Source: Amdahl, "Validity of the Single Processor Approach to Achieving Large Scale Computing Capabilities" (1967).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Amdahl {
    /// Seconds that more cores do not shorten.
    pub serial_seconds: f64,
    /// Core-seconds that the cores share out.
    pub shared_core_seconds: f64,
}

impl Amdahl {
    /// The law that comes nearest to these times, in the sum of squares; a point is a number of cores and seconds.
    ///
    /// None when the points are of fewer than two numbers of cores, or when the times do not fall: then the law does not
    /// describe them.
    #[must_use]
    pub fn fit(points: &[(u32, f64)]) -> Option<Self> {
        // With x = 1 / n the law is a straight line.
        let points: Vec<(f64, f64)> =
            points.iter().map(|&(cores, seconds)| (1.0 / f64::from(cores), seconds)).collect();
        let count = points.len() as f64;
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|&(x, t)| of(x, t)).sum::<f64>();
        let (mean_x, mean_t) = (sum(&|x, _| x) / count, sum(&|_, t| t) / count);
        let spread = sum(&|x, _| (x - mean_x).powi(2));
        if spread.is_nan() || spread <= 0.0 {
            return None;
        }
        let slope = sum(&|x, t| (x - mean_x) * (t - mean_t)) / spread;
        if slope <= 0.0 {
            return None;
        }
        let serial = mean_t - slope * mean_x;
        if serial >= 0.0 {
            return Some(Self { serial_seconds: serial, shared_core_seconds: slope });
        }
        // Faster than in proportion: no part is serial, and the line goes through the origin.
        let shared = sum(&|x, t| x * t) / sum(&|x, _| x * x);
        Some(Self { serial_seconds: 0.0, shared_core_seconds: shared })
    }

    /// The part of the time on one core that more cores do not shorten, from 0 to 1.
    #[must_use]
    pub fn serial_share(&self) -> f64 {
        self.serial_seconds / (self.serial_seconds + self.shared_core_seconds)
    }

    /// The fewest cores that take less than `seconds`; none when no number does, or only an absurd one.
    #[must_use]
    pub fn cores_below(&self, seconds: f64) -> Option<u32> {
        let room = seconds - self.serial_seconds;
        let cores = (self.shared_core_seconds / room).floor() + 1.0;
        (room > 0.0 && cores <= CORES_MAX).then_some(cores as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn times_that_obey_the_law_are_met_exactly() {
        let law = |cores: u32| (cores, 2.0 + 8.0 / f64::from(cores));
        for points in [vec![law(1), law(2)], vec![law(2), law(4), law(8)]] {
            let fitted = Amdahl::fit(&points).unwrap();
            close(fitted.serial_seconds, 2.0);
            close(fitted.shared_core_seconds, 8.0);
            close(fitted.serial_share(), 0.2);
        }
    }

    // By hand, with x = 1, 1/2, 1/4: the means are 7/12 and 41/6, the slope 55/24 / (7/24), the rest 41/6 - 55/7 * 7/12.
    #[test]
    fn other_times_are_met_in_the_least_squares() {
        let fitted = Amdahl::fit(&[(1, 10.0), (2, 6.5), (4, 4.0)]).unwrap();
        close(fitted.shared_core_seconds, 7.857_142_857_142_857);
        close(fitted.serial_seconds, 2.25);
    }

    #[test]
    fn no_part_is_less_than_nothing() {
        let fitted = Amdahl::fit(&[(1, 10.0), (2, 4.0)]).unwrap();
        close(fitted.serial_seconds, 0.0);
        close(fitted.shared_core_seconds, (10.0 + 2.0) / 1.25);
        assert_eq!(fitted.serial_share(), 0.0);
    }

    #[test]
    fn too_few_points_and_times_that_do_not_fall_have_no_law() {
        assert_eq!(Amdahl::fit(&[]), None);
        assert_eq!(Amdahl::fit(&[(1, 10.0)]), None);
        assert_eq!(Amdahl::fit(&[(2, 10.0), (2, 9.0)]), None);
        assert_eq!(Amdahl::fit(&[(1, 10.0), (2, 10.0)]), None);
        assert_eq!(Amdahl::fit(&[(1, 10.0), (2, 11.0)]), None);
    }

    #[test]
    fn cores_are_counted_until_the_time_is_below() {
        let law = Amdahl { serial_seconds: 2.0, shared_core_seconds: 8.0 };
        // On 4 cores it takes 4 s, which is not below 4 s.
        assert_eq!(law.cores_below(4.0), Some(5));
        assert_eq!(law.cores_below(4.1), Some(4));
        assert_eq!(law.cores_below(100.0), Some(1));
        assert_eq!(law.cores_below(2.0), None);
        assert_eq!(law.cores_below(1.0), None);
        assert_eq!(law.cores_below(2.0 + 1e-9), None);
    }
}
