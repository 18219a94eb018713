//! Zipf's law, drawn from.

/// Numbers from 1 to some last one, the nth in proportion to `1 / n ^ exponent`.
///
/// Drawn by rejection-inversion (W. Hörmann and G. Derflinger, "Rejection-inversion to generate variates from monotone
/// discrete distributions", 1996): no table, so a billion numbers cost what ten do, and rarely more than one uniform number.
/// Its logarithms are the platform's: where another one rounds otherwise, a draw in many millions may differ, which the
/// checksums of the files tell.
#[derive(Debug, Clone, Copy)]
pub struct Zipf {
    last: f64,
    exponent: f64,
    /// The area under the hat up to the first number, less the first number's own.
    area_min: f64,
    /// The area under the hat up to the last number.
    area_max: f64,
    /// A number that lies this near above the drawn point is accepted without further ado.
    squeeze: f64,
}

impl Zipf {
    /// That of the numbers up to `last`, which is at least 1.
    pub fn new(last: u64, exponent: f64) -> Self {
        let law = Self { last: last as f64, exponent, area_min: 0.0, area_max: 0.0, squeeze: 0.0 };
        Self {
            area_min: law.area(1.5) - 1.0,
            area_max: law.area(law.last + 0.5),
            squeeze: 2.0 - law.point(law.area(2.5) - law.height(2.0)),
            ..law
        }
    }

    /// Draws one.
    pub fn draw(&self, draws: &mut Draws) -> u64 {
        loop {
            let area = self.area_max + draws.uniform() * (self.area_min - self.area_max);
            let point = self.point(area);
            let number = (point + 0.5).floor().clamp(1.0, self.last);
            if number - point <= self.squeeze || area >= self.area(number + 0.5) - self.height(number) {
                return number as u64;
            }
        }
    }

    /// `1 / x ^ exponent`, the hat.
    fn height(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The integral of the hat from 1 to `x`.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.exponent) * log;
        // (exp(t) - 1) / t, which a machine cannot tell near 0, where it is 1.
        let ratio = if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 };
        ratio * log
    }

    /// The inverse of [`Self::area`].
    fn point(&self, area: f64) -> f64 {
        // Rounding may carry it below -1, where there is no logarithm.
        let t = (area * (1.0 - self.exponent)).max(-1.0);
        let ratio = if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 };
        (ratio * area).exp()
    }
}

/// Random numbers that depend on nothing but what they are for: SplitMix64, begun with a hash.
#[derive(Debug)]
pub struct Draws(u64);

impl Draws {
    /// Those of what `identity` names, such as an order and its line.
    pub fn of(seed: u64, identity: [i64; 2]) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&identity[0].to_le_bytes());
        bytes[8..].copy_from_slice(&identity[1].to_le_bytes());
        Self(xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, seed))
    }

    /// A number from 0 to below 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // A double holds 53 bits exactly.
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pearson's statistic of `counts` against the law, and its degrees of freedom. Numbers that are too rare to count by
    /// themselves are counted together.
    fn chi_square(counts: &[u64], exponent: f64) -> (f64, f64) {
        let weight = |number: usize| (number as f64).powf(-exponent);
        let all: f64 = (1..=counts.len()).map(weight).sum();
        let drawn = counts.iter().sum::<u64>() as f64;
        let (mut statistic, mut cells) = (0.0, 0.0);
        let (mut expected, mut observed) = (0.0, 0.0);
        for (at, count) in counts.iter().enumerate() {
            expected += drawn * weight(at + 1) / all;
            observed += *count as f64;
            if expected >= 10.0 {
                statistic += (observed - expected).powi(2) / expected;
                cells += 1.0;
                (expected, observed) = (0.0, 0.0);
            }
        }
        (statistic, f64::max(cells - 1.0, 1.0))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn draws_follow_the_law(exponent in 0.1_f64..4.0, last in 2_usize..2_000, seed in any::<u64>()) {
            let law = Zipf::new(last as u64, exponent);
            let mut counts = vec![0; last];
            for order in 0..40_000 {
                counts[law.draw(&mut Draws::of(seed, [order, 0])) as usize - 1] += 1;
            }
            let (statistic, freedom) = chi_square(&counts, exponent);
            // The statistic has mean `freedom` and variance `2 * freedom`; eight deviations off is no chance.
            prop_assert!(statistic < freedom + 8.0 * (2.0 * freedom).sqrt() + 8.0, "{statistic} at {freedom}");
        }
    }

    #[test]
    fn the_ends_of_the_range_are_drawn_and_nothing_beyond() {
        for (last, exponent) in [(1, 1.0), (2, 0.01), (3, 10.0), (1 << 40, 1.0), (1 << 40, 0.2)] {
            let law = Zipf::new(last, exponent);
            let numbers: Vec<_> = (0..2_000).map(|at| law.draw(&mut Draws::of(7, [at, at]))).collect();
            assert!(numbers.iter().all(|number| (1..=last).contains(number)), "{last} {exponent}");
            if last <= 2 {
                assert!((1..=last).all(|number| numbers.contains(&number)));
            }
        }
    }

    #[test]
    fn draws_depend_on_what_they_are_for_alone() {
        let law = Zipf::new(1_000_000, 1.0);
        let draw = |seed, identity| law.draw(&mut Draws::of(seed, identity));
        assert_eq!(draw(1, [5, 2]), draw(1, [5, 2]));
        let others = [draw(2, [5, 2]), draw(1, [2, 5]), draw(1, [5, 3])];
        assert!(others.iter().all(|other| *other != draw(1, [5, 2])), "{others:?}");
    }
}
