//! Which partition a row goes to.

use arrow_array::ArrayRef;
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::ArrowError;

/// Replaces `out` by the partition of each row, given the rows' hashes.
///
/// The *high* bits of a remixed hash decide (Lemire's multiply-shift), so that hash tables over the same hashes, which
/// use the low bits, stay evenly filled within a partition.
///
/// # Panics
/// When `partitions` is zero.
pub fn hash_assignment(hashes: &[u64], partitions: u32, out: &mut Vec<u32>) {
    assert!(partitions > 0, "an exchange has at least one partition");
    out.clear();
    let scale = u64::from(partitions);
    out.extend(hashes.iter().map(|hash| {
        let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        ((mixed * scale) >> 32) as u32
    }));
}

/// Partitions by sort order: partition `i` holds the rows that are not less than `i` of the split points, that is
/// between split point `i - 1` (inclusive) and split point `i` (exclusive).
#[derive(Debug)]
pub struct RangePartitioner {
    converter: RowConverter,
    splits: Rows,
}

impl RangePartitioner {
    /// A partitioner of `split_points.rows + 1` partitions. `split_points` are the sort columns of the split points,
    /// in the order and with the types of `sort`; they are put in order here.
    ///
    /// # Errors
    /// When a sort type has no row form, or the columns do not have these types.
    pub fn new(sort: Vec<SortField>, split_points: &[ArrayRef]) -> Result<Self, ArrowError> {
        let converter = RowConverter::new(sort)?;
        let unsorted = converter.convert_columns(split_points)?;
        let mut order: Vec<usize> = (0..unsorted.num_rows()).collect();
        order.sort_by(|&a, &b| unsorted.row(a).cmp(&unsorted.row(b)));
        let mut splits = converter.empty_rows(unsorted.num_rows(), 0);
        order.into_iter().for_each(|row| splits.push(unsorted.row(row)));
        Ok(Self { converter, splits })
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.splits.num_rows() + 1).expect("an exchange has fewer than 2^32 partitions")
    }

    /// Replaces `out` by the partition of each row of the sort `columns`.
    ///
    /// # Errors
    /// When the columns do not have the types of the sort.
    pub fn assign(&self, columns: &[ArrayRef], out: &mut Vec<u32>) -> Result<(), ArrowError> {
        let rows = self.converter.convert_columns(columns)?;
        out.clear();
        out.extend(rows.iter().map(|row| self.partition_of(row.as_ref())));
        Ok(())
    }

    fn partition_of(&self, row: &[u8]) -> u32 {
        let (mut low, mut high) = (0, self.splits.num_rows());
        while low < high {
            let middle = low.midpoint(high);
            if self.splits.row(middle).as_ref() <= row { low = middle + 1 } else { high = middle }
        }
        low as u32
    }
}

/// Deals rows, or whole batches, to partitions in turn.
#[derive(Debug, Clone)]
pub struct RoundRobin {
    partitions: u32,
    next: u32,
}

impl RoundRobin {
    /// Deals to `partitions` partitions, `first` first; start lanes at different ones to keep small outputs even.
    ///
    /// # Panics
    /// When `partitions` is zero.
    #[must_use]
    pub fn new(partitions: u32, first: u32) -> Self {
        assert!(partitions > 0, "an exchange has at least one partition");
        Self { partitions, next: first % partitions }
    }

    /// The partition of the next whole batch.
    pub fn next_partition(&mut self) -> u32 {
        let partition = self.next;
        self.next = if partition + 1 == self.partitions { 0 } else { partition + 1 };
        partition
    }

    /// Replaces `out` by the partition of each of the next `rows` rows.
    pub fn assign(&mut self, rows: usize, out: &mut Vec<u32>) {
        out.clear();
        out.extend((0..rows).map(|_| self.next_partition()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::{DataType, SortOptions};
    use std::sync::Arc;

    #[test]
    fn hashes_spread_evenly_over_any_number_of_partitions() {
        // Consecutive numbers stand for a poor hash; the remix must cope.
        let hashes: Vec<u64> = (0..100_000).collect();
        for partitions in [1, 2, 3, 7, 64, 1000] {
            let mut out = vec![9; 3];
            hash_assignment(&hashes, partitions, &mut out);
            let mut counts = vec![0_u32; partitions as usize];
            out.iter().for_each(|&partition| counts[partition as usize] += 1);
            let fair = 100_000 / partitions;
            assert!(counts.iter().all(|&n| n >= fair / 2 && n <= fair * 2), "{partitions}: {counts:?}");
        }
    }

    #[test]
    fn ranges_follow_the_sort_order_with_nulls_and_descending_columns() {
        let sort = vec![
            SortField::new_with_options(DataType::Utf8, SortOptions { descending: true, nulls_first: false }),
            SortField::new(DataType::Int64),
        ];
        let splits: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["f", "m"])), // not in order: m comes first in descending order
            Arc::new(Int64Array::from(vec![0, 5])),
        ];
        let ranges = RangePartitioner::new(sort, &splits).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![
                Some("z"),
                Some("m"),
                Some("m"),
                Some("g"),
                Some("f"),
                Some("a"),
                None,
            ])),
            Arc::new(Int64Array::from(vec![9, 4, 5, 0, -1, 0, 0])),
        ];
        let mut out = Vec::new();
        ranges.assign(&columns, &mut out).unwrap();
        assert_eq!((ranges.partitions(), out), (3, vec![0, 0, 1, 1, 1, 2, 2]));
    }

    #[test]
    fn no_split_point_means_one_partition() {
        let none: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
        let ranges = RangePartitioner::new(vec![SortField::new(DataType::Int64)], &[none]).unwrap();
        let mut out = Vec::new();
        ranges.assign(&[Arc::new(Int64Array::from(vec![1, 2]))], &mut out).unwrap();
        assert_eq!((ranges.partitions(), out), (1, vec![0, 0]));
    }

    #[test]
    fn round_robin_goes_on_where_it_stopped() {
        let mut robin = RoundRobin::new(3, 2);
        let mut out = Vec::new();
        robin.assign(4, &mut out);
        assert_eq!((out, robin.next_partition()), (vec![2, 0, 1, 2], 0));
    }
}
