//! `shuffle`: rows cross an exchange by key, and are summed up behind it.
//!
//! The rows are made as they are read, by arithmetic on a series; making them costs little beside moving them, but for
//! the power that a Zipf key takes. Behind the exchange every column is summed. On a cluster the rows are written as
//! blocks and fetched by other executors; in local mode they change core by pointer, and the exchange is the division
//! of batches by key.

use std::fmt::Write;

use firesteel_base::{ByteSize, UserError};
use xxhash_rust::xxh3::xxh3_64;

use super::keys::ZIPF_KEYS;
use super::{Check, Input, Keys, WorkloadQuery};
use crate::record::DataInfo;
use crate::verify::Expected;

/// Bytes of a value.
const VALUE_BYTES: u64 = 8;
const COLUMNS_MAX: u32 = 256;
const BYTES_MAX: ByteSize = ByteSize(64 << 40);
/// What makes the rows. Its number changes when the same parameters come to mean other rows.
const GENERATOR: &str = "firesteel shuffle 1";
/// Rows whose keys are summed at a time.
const ROWS_A_STEP: u64 = 1 << 20;

/// Rows of 64-bit integers that are shuffled, once for each distribution of their keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Shuffle {
    rows: u64,
    columns: u32,
    keys: Vec<Keys>,
}

impl Shuffle {
    pub(super) const NAME: &str = "shuffle";

    /// As many rows of `columns` columns, the key among them, as fit in `bytes`.
    ///
    /// # Errors
    /// When that is no row, there are no columns or no keys, or more than is allowed.
    pub fn new(bytes: u64, columns: u32, keys: Vec<Keys>) -> Result<Self, UserError> {
        if !(1..=COLUMNS_MAX).contains(&columns) {
            return Err(UserError::new(format!("rows of {columns} columns cannot be shuffled"))
                .hint(format!("give 1 to {COLUMNS_MAX} columns")));
        }
        let row = u64::from(columns) * VALUE_BYTES;
        if bytes < row || bytes > BYTES_MAX.0 {
            return Err(UserError::new(format!("{} cannot be shuffled", ByteSize(bytes)))
                .detail(format!("a row of {columns} columns is {row} bytes"))
                .hint(format!("give from {} to {BYTES_MAX}", ByteSize(row))));
        }
        if keys.is_empty() {
            return Err(UserError::new("there are no keys to shuffle by").hint("give uniform or zipf:1.1"));
        }
        if let Some(twice) = keys.iter().enumerate().find(|(at, one)| keys[..*at].contains(one)) {
            return Err(UserError::new(format!("the keys {} are there twice", twice.1)));
        }
        Ok(Self { rows: bytes / row, columns, keys })
    }

    /// Bytes that a query shuffles.
    fn bytes(&self) -> u64 {
        self.rows * u64::from(self.columns) * VALUE_BYTES
    }

    /// What a record says of the rows.
    pub(in crate::run) fn info(&self) -> DataInfo {
        let Self { rows, columns, .. } = self;
        let parameters = format!("{GENERATOR}: {rows} rows of {columns} columns, Zipf up to {ZIPF_KEYS}");
        DataInfo {
            path: "generated".to_owned(),
            scale: 0.0,
            generator: GENERATOR.to_owned(),
            files: 0,
            format: "none".to_owned(),
            sorted: false,
            skew: None,
            compression: "none".to_owned(),
            rows: *rows,
            bytes: self.bytes(),
            checksum: format!("{:016x}", xxh3_64(parameters.as_bytes())),
        }
    }

    pub(super) fn queries(&self) -> Vec<WorkloadQuery> {
        let input = Some(Input { rows: self.rows, bytes: Some(self.bytes()) });
        let query = |keys: &Keys| WorkloadQuery {
            name: keys.to_string(),
            sql: self.sql(*keys),
            input,
            check: Check::Sums(*keys),
        };
        self.keys.iter().map(query).collect()
    }

    /// Column `c0` is the key; the others are multiples of the row's number.
    fn sql(&self, keys: Keys) -> String {
        let (mut sums, mut columns) = ("sum(c0) AS c0".to_owned(), format!("{} AS c0", keys.sql()));
        for column in 1..self.columns {
            write!(sums, ", sum(c{column}) AS c{column}").expect("a string takes all");
            write!(columns, ", value * {} AS c{column}", factor(column)).expect("a string takes all");
        }
        let series = format!("generate_series(1, {})", self.rows);
        format!("SELECT count(*) AS n, {sums} FROM (SELECT {columns} FROM {series} DISTRIBUTE BY c0)")
    }

    /// The answer with these keys. Sums wrap around, here as in the engine.
    pub(super) async fn expected(&self, keys: Keys) -> Expected {
        let rows = u128::from(self.rows);
        let numbers = (rows * (rows + 1) / 2) as u64;
        let multiples = |factor: i64| numbers.cast_signed().wrapping_mul(factor);
        let mut columns = vec!["n".to_owned(), "c0".to_owned()];
        let mut sums = vec![self.rows.to_string(), self.sum_of_keys(keys).await.to_string()];
        for column in 1..self.columns {
            columns.push(format!("c{column}"));
            sums.push(multiples(factor(column)).to_string());
        }
        Expected { columns, rows: vec![sums] }
    }

    /// Takes a while for many rows, and lets others run in between.
    async fn sum_of_keys(&self, keys: Keys) -> i64 {
        let mut sum = 0_i64;
        let mut next = 1;
        while next <= self.rows {
            let end = self.rows.min(next + ROWS_A_STEP - 1);
            sum = (next..=end).fold(sum, |sum, row| sum.wrapping_add(keys.of(row.cast_signed())));
            next = end + 1;
            tokio::task::yield_now().await;
        }
        sum
    }
}

/// What a column's numbers are multiples of: odd, so that no two rows have the same, and without pattern (the mixing steps
/// of splitmix64).
fn factor(column: u32) -> i64 {
    let mut bits = u64::from(column).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) | 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shuffle(bytes: u64, columns: u32) -> Shuffle {
        Shuffle::new(bytes, columns, vec![Keys::Uniform]).unwrap()
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let refused = |bytes, columns, keys| Shuffle::new(bytes, columns, keys).unwrap_err().to_string();
        let uniform = || vec![Keys::Uniform];
        assert!(refused(1 << 20, 0, uniform()).contains("0 columns"));
        assert!(refused(1 << 20, 257, uniform()).contains("1 to 256"));
        assert!(refused(63, 8, uniform()).contains("64B to 64TiB"));
        assert!(refused((64 << 40) + 1, 8, uniform()).contains("64B to 64TiB"));
        assert!(refused(1 << 20, 8, vec![]).contains("no keys"));
        assert!(
            refused(1 << 20, 8, vec![Keys::Zipf(2.0), Keys::Zipf(2.0)]).contains("zipf-2 are there twice")
        );
    }

    #[test]
    fn the_checksum_stands_for_the_parameters() {
        let of = |bytes, columns| shuffle(bytes, columns).info();
        assert_eq!((of(1 << 20, 8).rows, of(1 << 20, 8).bytes), (16_384, 1 << 20));
        // The rest of a row does not count.
        assert_eq!(of((1 << 20) + 63, 8), of(1 << 20, 8));
        assert_ne!(of(1 << 20, 8).checksum, of(1 << 20, 4).checksum);
        assert_ne!(of(1 << 20, 8).checksum, of(1 << 21, 8).checksum);
    }

    #[test]
    fn columns_are_multiples_without_pattern() {
        let factors: Vec<i64> = (1..COLUMNS_MAX).map(factor).collect();
        assert!(factors.iter().all(|factor| factor % 2 != 0 && factor.unsigned_abs() > 1 << 32));
        let sql = shuffle(1 << 10, 2).sql(Keys::Uniform);
        assert!(
            sql.contains("sum(c1) AS c1") && sql.ends_with("generate_series(1, 64) DISTRIBUTE BY c0)"),
            "{sql}"
        );
    }

    #[tokio::test]
    async fn sums_are_those_of_the_rows() {
        for (rows, keys) in [(1, Keys::Uniform), (1000, Keys::Zipf(1.1)), (100_000, Keys::Uniform)] {
            let shuffle = Shuffle::new(rows * 24, 3, vec![keys]).unwrap();
            let numbers = 1..=i64::try_from(rows).unwrap();
            let sum = |of: &dyn Fn(i64) -> i64| {
                numbers.clone().fold(0_i64, |sum, row| sum.wrapping_add(of(row))).to_string()
            };
            let multiples = |column| sum(&move |row: i64| row.wrapping_mul(factor(column)));
            let expected = vec![rows.to_string(), sum(&|row| keys.of(row)), multiples(1), multiples(2)];
            assert_eq!(shuffle.expected(keys).await.rows, [expected]);
        }
    }
}
