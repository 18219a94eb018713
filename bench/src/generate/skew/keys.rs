//! Which key has which rank.

use super::Skew;
use super::zipf::{Draws, Zipf};

/// The keys of a table, from 0 to its rows less one, in an order of ranks that scatters neighbouring ranks: or all that is
/// in demand would lie in the first row group of the table that is referred to.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    law: Zipf,
    count: u64,
    /// Has no divisor in common with `count`, so multiples of it meet every key once.
    stride: u64,
}

impl Keys {
    /// The keys of a table of `count` rows; a table without rows is taken for one with one.
    pub fn new(skew: Skew, count: u64) -> Self {
        let Skew::Zipf { exponent, .. } = skew;
        let count = count.max(1);
        Self { law: Zipf::new(count, exponent), count, stride: stride(count) }
    }

    /// Draws a rank, from 1.
    pub fn rank(&self, draws: &mut Draws) -> u64 {
        self.law.draw(draws)
    }

    /// The rank after `rank`; the first one after the last.
    pub fn after(&self, rank: u64) -> u64 {
        rank % self.count + 1
    }

    /// The key of a rank.
    pub fn key(&self, rank: u64) -> u64 {
        let product = u128::from(rank - 1) * u128::from(self.stride);
        (product % u128::from(self.count)) as u64
    }

    /// Draws a key.
    pub fn draw(&self, draws: &mut Draws) -> u64 {
        self.key(self.rank(draws))
    }
}

/// The first number from the golden section of `count` on that has no divisor in common with it.
fn stride(count: u64) -> u64 {
    let golden = (count as f64 * 0.618_034) as u64;
    (golden.max(1)..)
        .find(|stride| greatest_common_divisor(*stride, count) == 1)
        .expect("a prime is among them")
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_rank_and_neighbours_are_apart() {
        let skew = "zipf:1".parse().unwrap();
        for count in [1, 2, 3, 4, 10, 100, 2_000, 18_000, 65_537] {
            let keys = Keys::new(skew, count);
            let mut all: Vec<_> = (1..=count).map(|rank| keys.key(rank)).collect();
            if count > 10 {
                assert!(all.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > count / 10), "{count}");
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(0..count), "{count}");
            assert_eq!(keys.after(count), 1);
        }
    }
}
