//! Hashing a result piece by piece.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// A hash (xxh3, 64 bits) of what was added to it; printed in hex.
pub struct Digest(Xxh3Default);

impl Digest {
    pub(crate) fn of<T>(result: &T, hash: &impl Fn(&T, &mut Self)) -> String {
        let mut digest = Self(Xxh3Default::new());
        hash(result, &mut digest);
        digest.to_string()
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// Adds bytes, such that where they end counts too.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    /// Adds rows whose order does not count.
    pub fn unordered(&mut self, rows: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let (mut count, mut sum) = (0, 0_u64);
        for row in rows {
            count += 1;
            sum = sum.wrapping_add(xxh3_64(row.as_ref()));
        }
        self.number(count);
        self.number(sum);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: impl Fn(&(), &mut Digest)) -> String {
        Digest::of(&(), &add)
    }

    #[test]
    fn it_is_xxh3_in_hex() {
        assert_eq!(of(|(), _| {}), "2d06800538d394c2");
        assert_eq!(of(|(), d| d.number(7)), format!("{:016x}", xxh3_64(&7_u64.to_le_bytes())));
    }

    #[test]
    fn where_pieces_end_counts() {
        let cut = |first: &'static str, second: &'static str| {
            of(move |(), d| {
                d.bytes(first.as_bytes());
                d.bytes(second.as_bytes());
            })
        };
        assert_ne!(cut("ab", "c"), cut("a", "bc"));
    }

    #[test]
    fn the_order_of_rows_does_not_count_but_how_often_they_are_there() {
        let rows = |rows: &'static [&str]| of(move |(), d| d.unordered(rows));
        assert_eq!(rows(&["a", "b", "a"]), rows(&["a", "a", "b"]));
        assert_ne!(rows(&["a", "b", "a"]), rows(&["a", "b", "b"]));
        assert_ne!(rows(&["a", "b"]), rows(&["a", "b", ""]));
    }
}
