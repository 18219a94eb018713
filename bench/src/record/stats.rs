//! Statistics of few measurements: order statistics, means, and a test whether two samples differ.

use std::f64::consts::{PI, SQRT_2};

/// Up to this many values in both samples together the test counts every way to deal them out.
const EXACT_UP_TO: usize = 24;

/// The middle value; the mean of the two in the middle when their number is even. None when there are no values.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let last = sorted.len().checked_sub(1)?;
    Some(f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]))
}

/// The least value.
#[must_use]
pub fn least(values: &[f64]) -> Option<f64> {
    values.iter().copied().min_by(f64::total_cmp)
}

/// The greatest value.
#[must_use]
pub fn most(values: &[f64]) -> Option<f64> {
    values.iter().copied().max_by(f64::total_cmp)
}

/// The values a quarter, half and three quarters of the way from the least to the most, between two neighbours in
/// proportion. This is definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages" (1996).
#[must_use]
pub fn quartiles(values: &[f64]) -> Option<[f64; 3]> {
    let sorted = sorted(values);
    let last = sorted.len().checked_sub(1)?;
    Some([0.25, 0.5, 0.75].map(|part| {
        let place = part * last as f64;
        let below = place.floor() as usize;
        let above = (below + 1).min(last);
        let rest = place - below as f64;
        sorted[below] * (1.0 - rest) + sorted[above] * rest
    }))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The arithmetic mean; none when there are no values.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() { None } else { Some(values.iter().sum::<f64>() / values.len() as f64) }
}

/// The geometric mean; none when there are no values or one is not above zero.
#[must_use]
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    if values.iter().any(|value| value.is_nan() || *value <= 0.0) {
        return None;
    }
    let logarithms: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    mean(&logarithms).map(f64::exp)
}

/// The two-sided p-value of the Mann-Whitney U test: how likely samples that differ at least as much as these are,
/// if both come from one distribution. None when a sample is empty.
///
/// Exact for up to 24 values together, ties included; beyond by the normal approximation, corrected for ties and for
/// continuity. Source: Mann and Whitney, "On a Test of Whether one of Two Random Variables is Stochastically Larger
/// than the Other" (1947); Lehmann, "Nonparametrics" (1975), chapter 1.
#[must_use]
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let ranks = Ranks::of(a, b);
    Some(if a.len() + b.len() <= EXACT_UP_TO { ranks.exact() } else { ranks.normal() })
}

/// The least p-value that [`mann_whitney`] can give for samples of these sizes: that of samples without overlap.
///
/// Where it is above the level of significance, no measurement could be told from noise.
#[must_use]
pub fn least_p_value(a: usize, b: usize) -> f64 {
    let ways: f64 = (1..=a).map(|i| (b + i) as f64 / i as f64).product();
    (2.0 / ways).min(1.0)
}

/// Ranks in both samples together, doubled: ties share the mean of their ranks, which may end in a half.
struct Ranks {
    /// Of all values, in ascending order.
    all: Vec<usize>,
    /// Values of the first sample.
    of_first: usize,
    /// The sum of the ranks of the first sample.
    sum: usize,
}

impl Ranks {
    fn of(a: &[f64], b: &[f64]) -> Self {
        let first = a.iter().map(|&value| (value, true));
        let mut values: Vec<(f64, bool)> = first.chain(b.iter().map(|&value| (value, false))).collect();
        values.sort_by(|x, y| x.0.total_cmp(&y.0));
        let mut ranks = Self { all: Vec::with_capacity(values.len()), of_first: a.len(), sum: 0 };
        for tied in values.chunk_by(|x, y| x.0 == y.0) {
            let before = ranks.all.len();
            let rank = 2 * before + tied.len() + 1;
            ranks.all.extend(tied.iter().map(|_| rank));
            ranks.sum += rank * tied.iter().filter(|(_, of_first)| *of_first).count();
        }
        ranks
    }

    /// Counts the ways to deal the ranks out that give the first sample at most, and at least, the sum that it has.
    fn exact(&self) -> f64 {
        let ways = self.ways();
        let count = |ways: &[u64]| ways.iter().sum::<u64>() as f64;
        let tail = count(&ways[..=self.sum]).min(count(&ways[self.sum..]));
        (2.0 * tail / count(&ways)).min(1.0)
    }

    /// In how many ways the first sample can have each sum of ranks.
    fn ways(&self) -> Vec<u64> {
        let most: usize = self.all.iter().sum();
        // ways[n][s]: choices of n of the ranks seen so far whose sum is s.
        let mut ways = vec![vec![0_u64; most + 1]; self.of_first + 1];
        ways[0][0] = 1;
        for &rank in &self.all {
            // From the most chosen down, so that no rank is chosen twice.
            for chosen in (1..=self.of_first).rev() {
                for sum in rank..=most {
                    ways[chosen][sum] += ways[chosen - 1][sum - rank];
                }
            }
        }
        ways.pop().unwrap_or_default()
    }

    fn normal(&self) -> f64 {
        let total = self.all.len() as f64;
        let (a, b) = (self.of_first as f64, total - self.of_first as f64);
        let distance = (self.sum as f64 / 2.0 - a * (total + 1.0) / 2.0).abs();
        let tied: f64 = self.all.chunk_by(|x, y| x == y).map(|tie| cube_less_one(tie.len() as f64)).sum();
        let variance = a * b / 12.0 * (total + 1.0 - tied / (total * (total - 1.0)));
        if variance <= 0.0 {
            return 1.0;
        }
        let z = (distance - 0.5).max(0.0) / variance.sqrt();
        erfc(z / SQRT_2).min(1.0)
    }
}

fn cube_less_one(count: f64) -> f64 {
    count.powi(3) - count
}

/// The complementary error function for `x` from 0 on; formulas 7.6.2 and 7.9.1 of the NIST Digital Library of
/// Mathematical Functions.
fn erfc(x: f64) -> f64 {
    let scale = (-x * x).exp();
    if x < 3.0 {
        // All terms are positive, so nothing cancels; at x = 3 the hundredth is below 1e-50.
        let terms = (1..100).scan(x, |term, n| {
            let this = *term;
            *term *= 2.0 * x * x / f64::from(2 * n + 1);
            Some(this)
        });
        return 1.0 - 2.0 / PI.sqrt() * scale * terms.sum::<f64>();
    }
    let fraction = (1..60).rev().fold(x, |rest, n| x + f64::from(n) / 2.0 / rest);
    scale / PI.sqrt() / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9 * expected.max(1e-3), "{found} is not {expected}");
    }

    fn steps(count: usize, from: f64, by: f64) -> Vec<f64> {
        (0..count).map(|i| from + by * i as f64).collect()
    }

    #[test]
    fn order_statistics_of_few_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!((least(&[2.0, 1.0]), most(&[2.0, 1.0])), (Some(1.0), Some(2.0)));
        // numpy 2 `quantile([1, 2, 3, 4, 10, 20], [.25, .5, .75])`.
        assert_eq!(quartiles(&[20.0, 1.0, 10.0, 2.0, 4.0, 3.0]), Some([2.25, 3.5, 8.5]));
        assert_eq!(quartiles(&[7.0]), Some([7.0; 3]));
        assert_eq!((median(&[]), least(&[]), most(&[]), mean(&[])), (None, None, None, None));
    }

    #[test]
    fn the_geometric_mean_is_of_positive_values_alone() {
        close(geometric_mean(&[1.0, 4.0, 16.0]).unwrap(), 4.0);
        assert_eq!(geometric_mean(&[]), None);
        assert_eq!(geometric_mean(&[1.0, 0.0]), None);
        assert_eq!(geometric_mean(&[1.0, f64::NAN]), None);
    }

    // The expected p-values of this test and the next two come from SciPy 1.17.1, `scipy.stats.mannwhitneyu(a, b,
    // alternative="two-sided", method=...)` with `method="exact"` here.
    #[test]
    fn small_samples_without_ties_are_tested_exactly() {
        let p = |a: &[f64], b: &[f64]| mann_whitney(a, b).unwrap();
        close(p(&[0.83, 0.81, 0.85, 0.80, 0.84], &[0.90, 0.82, 0.95, 0.91, 0.99]), 0.055_555_555_555_555_55);
        close(p(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0, 7.0]), 0.057_142_857_142_857_14);
        close(p(&[1.1, 2.2, 3.3, 4.4, 5.5, 6.6, 7.7], &[0.5, 3.0, 2.5]), 0.183_333_333_333_333_35);
        close(p(&steps(12, 0.0, 1.0), &steps(12, 3.5, 1.0)), 0.038_721_138_869_207_26);
        close(p(&[1.0, 4.0], &[2.0, 3.0]), 1.0);
    }

    // `method=PermutationMethod(n_resamples=10**7)`, which goes through all ways to deal the values out.
    #[test]
    fn small_samples_with_ties_are_tested_exactly() {
        let p = |a: &[f64], b: &[f64]| mann_whitney(a, b).unwrap();
        close(p(&[1.0, 2.0, 2.0, 3.0, 5.0], &[2.0, 4.0, 5.0, 5.0, 6.0, 7.0]), 0.082_251_082_251_082_26);
        close(p(&[1.0; 3], &[2.0; 3]), 0.1);
        close(p(&[1.0; 5], &[1.0; 5]), 1.0);
    }

    // `method="asymptotic"`.
    #[test]
    fn larger_samples_are_tested_by_the_normal_approximation() {
        let p = |a: &[f64], b: &[f64]| mann_whitney(a, b).unwrap();
        close(p(&steps(13, 0.0, 0.5), &steps(14, 1.75, 0.5)), 0.027_248_440_892_305_9);
        close(p(&steps(20, 0.0, 1.0), &steps(25, 100.0, 1.0)), 1.205_252_299_499_121e-8);
        let pairs = |count, from| steps(count, 0.0, 0.5).iter().map(|x| x.floor() + from).collect::<Vec<_>>();
        close(p(&pairs(15, 0.0), &pairs(13, 2.0)), 0.094_680_596_663_310_16);
        close(p(&[1.0; 20], &[1.0; 20]), 1.0);
    }

    #[test]
    fn the_order_of_the_samples_does_not_matter() {
        let (a, b) = ([1.0, 2.0, 2.0, 3.0, 5.0], [2.0, 4.0, 5.0, 5.0, 6.0, 7.0]);
        close(mann_whitney(&a, &b).unwrap(), mann_whitney(&b, &a).unwrap());
        assert_eq!(mann_whitney(&a, &[]), None);
    }

    #[test]
    fn the_least_p_value_is_that_of_samples_apart() {
        for (n, m) in [(1, 1), (1, 5), (3, 3), (3, 4), (4, 4), (5, 5), (12, 12)] {
            let apart = mann_whitney(&steps(n, 0.0, 1.0), &steps(m, 100.0, 1.0)).unwrap();
            close(least_p_value(n, m), apart);
        }
        close(least_p_value(4, 4), 2.0 / 70.0);
        close(least_p_value(0, 4), 1.0);
    }

    // `scipy.special.erfc`, SciPy 1.17.1.
    #[test]
    fn the_error_function_is_good_on_both_sides_of_the_seam() {
        for (x, expected) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (2.0, 0.004_677_734_981_047_266),
            (2.99, 2.352_560_308_064_020_5e-5),
            (3.01, 2.073_896_363_713_264_5e-5),
            (10.0, 2.088_487_583_762_544_6e-45),
        ] {
            assert!((erfc(x) - expected).abs() <= 1e-10 * expected, "{x}: {}", erfc(x));
        }
    }
}
