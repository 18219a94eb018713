//! Which rows of a held batch go to which partition.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

use super::{Assignment, WriteError};
use crate::format::{Piece, Rows};

/// A batch that waits to be encoded.
#[derive(Debug)]
pub(super) struct Held {
    batch: RecordBatch,
    placed: Placed,
    bytes: usize,
}

#[derive(Debug)]
enum Placed {
    Whole(u32),
    /// Rows ordered by partition; those of partition `p` are `rows[starts[p]..starts[p + 1]]`.
    Sorted {
        rows: Vec<u32>,
        starts: Vec<u32>,
    },
}

impl Held {
    /// Holds a batch, its rows ordered by partition.
    pub fn new(
        batch: &RecordBatch,
        assignment: &Assignment<'_>,
        partitions: u32,
    ) -> Result<Self, WriteError> {
        let placed = match assignment {
            Assignment::Single => Placed::Whole(0),
            Assignment::Whole(partition) if *partition < partitions => Placed::Whole(*partition),
            Assignment::Whole(partition) => return Err(no_partition(*partition, partitions)),
            Assignment::Rows(of_rows) if of_rows.len() != batch.num_rows() => {
                let (found, rows) = (of_rows.len(), batch.num_rows());
                return Err(WriteError::Assignment(format!("{found} partitions are named for {rows} rows")));
            }
            Assignment::Rows(of_rows) if partitions == 1 => {
                of_rows.iter().try_for_each(|&p| if p == 0 { Ok(()) } else { Err(no_partition(p, 1)) })?;
                Placed::Whole(0)
            }
            Assignment::Rows(of_rows) => sort_by_partition(of_rows, partitions)?,
        };
        Ok(Self { batch: batch.clone(), placed, bytes: batch_bytes(batch) })
    }

    /// Bytes that it takes while it is held, about.
    pub fn held_bytes(&self) -> usize {
        let index = match &self.placed {
            Placed::Whole(_) => 0,
            Placed::Sorted { rows, starts } => (rows.len() + starts.len()) * size_of::<u32>(),
        };
        self.bytes + index + 512 * (1 + self.batch.num_columns())
    }

    /// Its rows for a partition.
    pub fn rows_of(&self, partition: u32) -> Rows<'_> {
        match &self.placed {
            Placed::Whole(whole) if *whole == partition => {
                Rows::Range { start: 0, len: self.batch.num_rows() }
            }
            Placed::Whole(_) => Rows::Range { start: 0, len: 0 },
            Placed::Sorted { rows, starts } => {
                let (start, end) = (starts[partition as usize], starts[partition as usize + 1]);
                Rows::Take(&rows[start as usize..end as usize])
            }
        }
    }

    /// Its rows for a partition, with the batch they are of.
    pub fn piece(&self, partition: u32) -> Piece<'_> {
        Piece { batch: &self.batch, rows: self.rows_of(partition) }
    }

    /// Bytes that `rows` of its rows take in frames, about.
    pub fn bytes_of(&self, rows: usize) -> usize {
        self.bytes * rows / self.batch.num_rows().max(1)
    }
}

/// Orders rows by partition, keeping their order within one: a counting sort.
fn sort_by_partition(of_rows: &[u32], partitions: u32) -> Result<Placed, WriteError> {
    let mut starts = vec![0_u32; partitions as usize + 1];
    for &partition in of_rows {
        let count =
            starts.get_mut(partition as usize + 1).ok_or_else(|| no_partition(partition, partitions))?;
        *count += 1;
    }
    for partition in 0..partitions as usize {
        starts[partition + 1] += starts[partition];
    }
    let mut next = starts.clone();
    let mut rows = vec![0_u32; of_rows.len()];
    for (row, &partition) in of_rows.iter().enumerate() {
        let place = &mut next[partition as usize];
        rows[*place as usize] = row as u32;
        *place += 1;
    }
    Ok(Placed::Sorted { rows, starts })
}

fn no_partition(partition: u32, partitions: u32) -> WriteError {
    WriteError::Assignment(format!("partition {partition} of {partitions} does not exist"))
}

/// Bytes that a batch takes in frames, about: what its rows use, not what its buffers hold.
pub(super) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column_bytes(column.as_ref())).sum()
}

fn column_bytes(column: &dyn Array) -> usize {
    match column.data_type() {
        DataType::Utf8View => 16 * column.len() + column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => 16 * column.len() + column.as_binary_view().total_buffer_bytes_used(),
        DataType::Struct(_) => {
            column.as_struct().columns().iter().map(|child| column_bytes(child.as_ref())).sum()
        }
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered_by_partition_and_keep_their_order_within() {
        let Placed::Sorted { rows, starts } = sort_by_partition(&[2, 0, 2, 3, 0], 5).unwrap() else {
            panic!()
        };
        assert_eq!((rows, starts), (vec![1, 4, 0, 2, 3], vec![0, 2, 2, 4, 5, 5]));
    }

    #[test]
    fn a_partition_that_does_not_exist_is_refused() {
        let fault = sort_by_partition(&[0, 3], 3).unwrap_err();
        assert!(fault.to_string().contains("partition 3 of 3"), "{fault}");
    }
}
