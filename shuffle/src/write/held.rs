//! Batches that wait to be encoded, and which of their rows go to which partition.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, OffsetSizeTrait, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_schema::DataType;

use super::{Assignment, WriteError};
use crate::format::{Piece, Places, Rows, Source};

/// Bytes that a batch, and each of its columns, takes beside its rows, about.
const BATCH_BYTES: usize = 512;

/// Batches of one lane. Nothing that it does costs time or memory for each batch and partition, only for each of both.
#[derive(Debug, Default)]
pub(super) struct Held {
    batches: Vec<Waiting>,
    /// The partition of each row of the batches whose rows go different ways.
    of_rows: Vec<u32>,
    /// Rows by partition.
    counts: Vec<u32>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    batch: RecordBatch,
    to: To,
    bytes: usize,
}

#[derive(Debug, Clone)]
enum To {
    /// All rows to that partition.
    Whole(u32),
    /// Each row to its own; that part of `of_rows`.
    Each(Range<usize>),
}

impl Held {
    pub fn new(partitions: u32) -> Self {
        let counts = vec![0; partitions as usize];
        Self { counts, ..Self::default() }
    }

    /// Holds a batch whose rows come to `bytes` bytes in frames, about, and whose assignment was checked; returns the bytes
    /// that this takes, about.
    pub fn push(&mut self, batch: RecordBatch, assignment: &Assignment<'_>, bytes: usize) -> usize {
        let rows = batch.num_rows();
        let to = match *assignment {
            Assignment::Rows(of_rows) if self.counts.len() > 1 => {
                of_rows.iter().for_each(|&partition| self.counts[partition as usize] += 1);
                let first = self.of_rows.len();
                self.of_rows.extend_from_slice(of_rows);
                To::Each(first..first + rows)
            }
            Assignment::Whole(partition) => To::Whole(partition),
            Assignment::Single | Assignment::Rows(_) => To::Whole(0),
        };
        if let To::Whole(partition) = to {
            self.counts[partition as usize] += rows as u32;
        }
        self.rows += rows;
        self.bytes += bytes;
        let taken = bytes + rows * size_of::<u32>() + BATCH_BYTES * (1 + batch.num_columns());
        self.batches.push(Waiting { batch, to, bytes });
        taken
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that all rows take in frames, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that `rows` rows take in frames, about.
    pub fn bytes_of(&self, rows: usize) -> usize {
        (self.bytes as u128 * rows as u128 / self.rows.max(1) as u128) as usize
    }

    /// Bytes that all rows and what finds their places take when they are ordered, about.
    pub fn ordered_bytes(&self) -> usize {
        // Buffers are up to an eighth larger than needed; strings have offsets, and other columns origins, for a while.
        self.bytes + self.bytes / 8 + self.rows * 2 * size_of::<u32>()
    }

    /// Whether each batch goes to one partition as a whole.
    pub fn is_whole(&self) -> bool {
        self.of_rows.is_empty()
    }

    /// Finds the place of each row in the order of partitions, rows of one partition in the order in which they came: a
    /// counting sort over all batches.
    pub fn place(&mut self) -> Placed {
        let mut starts = Vec::with_capacity(self.counts.len() + 1);
        let mut end = 0;
        starts.push(end);
        starts.extend(self.counts.iter().map(|count| {
            end += count;
            end
        }));
        let mut next = starts.clone();
        let mut firsts = Vec::with_capacity(self.batches.len());
        for Waiting { batch, to, .. } in &self.batches {
            match to {
                To::Whole(partition) => {
                    let place = &mut next[*partition as usize];
                    firsts.push(*place as usize);
                    *place += batch.num_rows() as u32;
                }
                To::Each(range) => {
                    firsts.push(0);
                    self.of_rows[range.clone()].iter_mut().for_each(|row| {
                        let place = &mut next[*row as usize];
                        *row = *place;
                        *place += 1;
                    });
                }
            }
        }
        Placed { starts, firsts, places: std::mem::take(&mut self.of_rows) }
    }

    /// The batches, with the place of each row.
    pub fn sources<'a>(&'a self, placed: &'a Placed) -> Vec<Source<'a>> {
        let sources = self.batches.iter().zip(&placed.firsts).map(|(waiting, first)| {
            let places = match &waiting.to {
                To::Whole(_) => Places::From(*first),
                To::Each(range) => Places::Each(&placed.places[range.clone()]),
            };
            Source { batch: &waiting.batch, places }
        });
        sources.collect()
    }

    /// The batches that go to a partition as a whole, by partition; with the bytes they take in frames, about.
    pub fn whole_pieces(&self) -> Vec<(u32, usize, Piece<'_>)> {
        let pieces = self.batches.iter().filter_map(|waiting| {
            let To::Whole(partition) = waiting.to else { return None };
            let rows = Rows::Range { start: 0, len: waiting.batch.num_rows() };
            Some((partition, waiting.bytes, Piece { batch: &waiting.batch, rows }))
        });
        let mut pieces: Vec<_> = pieces.collect();
        pieces.sort_by_key(|(partition, ..)| *partition);
        pieces
    }

    /// For each place the batch and the row of it that belongs there.
    pub fn origins(&self, placed: &Placed) -> Origins<'_> {
        let mut origins = Origins { held: self, batches: vec![0; self.rows], rows: vec![0; self.rows] };
        for (number, source) in self.sources(placed).into_iter().enumerate() {
            let mut put = |place: usize, row: usize| {
                origins.batches[place] = number as u32;
                origins.rows[place] = row as u32;
            };
            match source.places {
                Places::From(first) => (0..source.batch.num_rows()).for_each(|row| put(first + row, row)),
                Places::Each(places) => {
                    places.iter().enumerate().for_each(|(row, &place)| put(place as usize, row));
                }
            }
        }
        origins
    }

    /// Lets go of the batches and stays the same in all else.
    pub fn drop_batches(&mut self) {
        self.batches.clear();
    }

    /// Forgets all rows.
    pub fn clear(&mut self, placed: Option<Placed>) {
        self.batches.clear();
        self.counts.fill(0);
        self.of_rows = placed.map(|placed| placed.places).unwrap_or_default();
        self.of_rows.clear();
        (self.rows, self.bytes) = (0, 0);
    }
}

/// Where rows go in the order of partitions.
#[derive(Debug)]
pub(super) struct Placed {
    /// The places of partition `p` are `starts[p]..starts[p + 1]`.
    starts: Vec<u32>,
    /// For each batch that goes to one partition as a whole, the place of its first row.
    firsts: Vec<usize>,
    /// The places of all other batches' rows.
    places: Vec<u32>,
}

impl Placed {
    /// How many partitions have rows.
    pub fn parts(&self) -> usize {
        self.partitions().count()
    }

    /// Each partition that has rows, with their places.
    pub fn partitions(&self) -> impl Iterator<Item = (u32, Range<usize>)> {
        let places = self.starts.windows(2).map(|pair| pair[0] as usize..pair[1] as usize);
        (0..).zip(places).filter(|(_, places)| !places.is_empty())
    }
}

/// Where the rows that lie in the order of partitions come from.
pub(super) struct Origins<'a> {
    held: &'a Held,
    batches: Vec<u32>,
    rows: Vec<u32>,
}

impl Origins<'_> {
    /// The rows of these places: one piece for each batch that some of them come from.
    pub fn pieces(&self, places: Range<usize>) -> Vec<Piece<'_>> {
        let mut rows = &self.rows[places.clone()];
        let of_batches = self.batches[places].chunk_by(|a, b| a == b);
        of_batches
            .map(|same| {
                let (first, rest) = rows.split_at(same.len());
                rows = rest;
                Piece { batch: &self.held.batches[same[0] as usize].batch, rows: Rows::Take(first) }
            })
            .collect()
    }
}

/// Refuses an assignment that does not fit the batch or the exchange.
pub(super) fn check_assignment(
    assignment: &Assignment<'_>,
    rows: usize,
    partitions: u32,
) -> Result<(), WriteError> {
    let highest = match *assignment {
        Assignment::Rows(of_rows) if of_rows.len() != rows => {
            let found = of_rows.len();
            return Err(WriteError::Assignment(format!("{found} partitions are named for {rows} rows")));
        }
        Assignment::Rows(of_rows) => of_rows.iter().copied().max(),
        Assignment::Whole(partition) => Some(partition),
        Assignment::Single => Some(0),
    };
    match highest {
        Some(partition) if partition >= partitions => {
            Err(WriteError::Assignment(format!("partition {partition} of {partitions} does not exist")))
        }
        _ => Ok(()),
    }
}

/// Bytes that a batch takes in frames, about: what its rows use, not what its buffers hold.
pub(super) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column_bytes(column.as_ref())).sum()
}

fn column_bytes(column: &dyn Array) -> usize {
    let rows = column.len();
    let nulls = column.nulls().map_or(0, |_| rows.div_ceil(8));
    let fixed = |width: usize| rows * width + nulls;
    match column.data_type() {
        DataType::Utf8View => 16 * rows + column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => 16 * rows + column.as_binary_view().total_buffer_bytes_used(),
        DataType::Struct(_) => {
            nulls
                + column.as_struct().columns().iter().map(|child| column_bytes(child.as_ref())).sum::<usize>()
        }
        // Arrow takes all items for a slice's, and of views inside only the views.
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            fixed(size_of::<i32>()) + items_bytes(list.values().as_ref(), list.offsets())
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            fixed(size_of::<i64>()) + items_bytes(list.values().as_ref(), list.offsets())
        }
        DataType::Map(_, _) => {
            let map = column.as_map();
            fixed(size_of::<i32>()) + items_bytes(map.entries(), map.offsets())
        }
        DataType::FixedSizeList(_, _) => nulls + column_bytes(column.as_fixed_size_list().values().as_ref()),
        other => match other.primitive_width() {
            Some(width) => fixed(width),
            None => {
                column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
            }
        },
    }
}

/// Bytes of those items of lists that their offsets name.
fn items_bytes<O: OffsetSizeTrait>(items: &dyn Array, offsets: &OffsetBuffer<O>) -> usize {
    let (first, end) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    column_bytes(items.slice(first, end - first).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int32Array};
    use std::sync::Arc;

    fn numbers(range: Range<i32>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int32Array::from_iter_values(range));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    fn held() -> Held {
        let mut held = Held::new(5);
        held.push(numbers(0..5), &Assignment::Rows(&[2, 0, 2, 3, 0]), 20);
        held.push(numbers(5..7), &Assignment::Whole(2), 8);
        held.push(numbers(7..9), &Assignment::Rows(&[0, 2]), 8);
        held
    }

    #[test]
    fn rows_are_placed_by_partition_and_keep_their_order_within() {
        let mut held = held();
        let placed = held.place();
        assert_eq!(placed.places, vec![3, 0, 4, 8, 1, 2, 7]);
        assert_eq!(placed.firsts, vec![0, 5, 0]);
        assert_eq!(placed.partitions().collect::<Vec<_>>(), vec![(0, 0..3), (2, 3..8), (3, 8..9)]);
    }

    #[test]
    fn pieces_name_the_batches_that_have_rows_and_no_others() {
        let mut held = held();
        let placed = held.place();
        let origins = held.origins(&placed);
        let pieces = |places| {
            let pieces = origins.pieces(places);
            pieces
                .iter()
                .map(|piece| (piece.batch.num_rows(), format!("{:?}", piece.rows)))
                .collect::<Vec<_>>()
        };
        let take = |batch, rows: &str| (batch, format!("Take({rows})"));
        assert_eq!(pieces(0..3), vec![take(5, "[1, 4]"), take(2, "[0]")]);
        assert_eq!(pieces(3..8), vec![take(5, "[0, 2]"), take(2, "[0, 1]"), take(2, "[1]")]);
    }

    #[test]
    fn what_was_let_go_of_is_forgotten() {
        let mut held = held();
        let placed = held.place();
        held.clear(Some(placed));
        assert!(held.is_whole() && held.rows() == 0 && held.bytes() == 0);
        held.push(numbers(0..1), &Assignment::Rows(&[4]), 4);
        assert_eq!(held.place().partitions().collect::<Vec<_>>(), vec![(4, 0..1)]);
    }

    #[test]
    fn an_assignment_that_does_not_fit_is_refused() {
        let fault = |assignment, rows| check_assignment(&assignment, rows, 3).unwrap_err().to_string();
        assert!(fault(Assignment::Rows(&[0, 3]), 2).contains("partition 3 of 3"));
        assert!(fault(Assignment::Whole(4), 2).contains("partition 4 of 3"));
        assert!(fault(Assignment::Rows(&[0]), 2).contains("1 partitions are named for 2 rows"));
        assert_eq!(check_assignment(&Assignment::Rows(&[2, 0]), 2, 3), Ok(()));
    }
}
