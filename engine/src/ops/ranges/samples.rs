//! What a lane that writes sorted rows tells of their keys.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array, UInt64Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_expr::LexOrdering;

use super::{KEY_BYTES_MAX, SAMPLES_MAX, SortKeys};

/// Rows between two samples at first; twice as many each time that there are too many samples.
const INTERVAL: u64 = 64;
/// Bytes that a sample takes beside its key, about.
const SAMPLE_BYTES: usize = 32;

/// Samples of one lane's rows, taken as these are written: the keys of rows that lie evenly apart, the first row among them.
///
/// Which rows are sampled follows from their number alone. So a lane that writes the same rows a second time, in other batches
/// and frames, tells the same keys.
pub struct LaneSamples {
    keys: SortKeys,
    interval: u64,
    rows: u64,
    taken: Vec<(u64, Box<[u8]>)>,
    memory: MemoryReservation,
}

impl LaneSamples {
    /// None yet of rows that are sorted by `ordering`.
    ///
    /// # Errors
    /// When rows in that order cannot be divided into ranges.
    pub fn try_new(ordering: &LexOrdering, schema: &Schema, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let keys = SortKeys::try_new(ordering, schema)?;
        let memory = MemoryConsumer::new("SortSamples").register(pool);
        Ok(Self { keys, interval: INTERVAL, rows: 0, taken: Vec::new(), memory })
    }

    /// Takes samples of the lane's next rows.
    ///
    /// # Errors
    /// When the rows are not those of the schema, or memory is short.
    pub fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let end = self.rows + batch.num_rows() as u64;
        let next = self.rows.next_multiple_of(self.interval);
        let sampled: Vec<u64> = (next..end).step_by(self.interval as usize).collect();
        if !sampled.is_empty() {
            let places = sampled.iter().map(|row| row - self.rows);
            let rows = take_record_batch(batch, &UInt64Array::from_iter_values(places))?;
            let keys = self.keys.of(&rows)?;
            let cut = |key: &[u8]| Box::from(&key[..key.len().min(KEY_BYTES_MAX)]);
            self.taken.extend(sampled.into_iter().zip(keys.iter().map(|key| cut(key.data()))));
            while self.taken.len() > SAMPLES_MAX {
                self.interval *= 2;
                self.taken.retain(|(row, _)| row.is_multiple_of(self.interval));
            }
            self.memory.try_resize(self.taken.iter().map(|(_, key)| SAMPLE_BYTES + key.len()).sum())?;
        }
        self.rows = end;
        Ok(())
    }

    /// What is told, when the lane's frames have so many rows each: a row for each sample, with the rows from it to the next, the
    /// frame that it lies in, and its key.
    ///
    /// # Errors
    /// When these are not the frames of the rows that samples were taken of.
    pub fn tell(self, frames: &[u32]) -> Result<RecordBatch> {
        let in_frames: u64 = frames.iter().map(|rows| u64::from(*rows)).sum();
        if in_frames != self.rows {
            return internal_err!("samples were taken of {} rows, and {in_frames} written", self.rows);
        }
        let ends = self.taken.iter().skip(1).map(|(row, _)| *row).chain([self.rows]);
        let rows =
            UInt64Array::from_iter_values(self.taken.iter().zip(ends).map(|((row, _), end)| end - row));
        let (mut frame, mut frame_end) = (0, 0);
        let frames = self.taken.iter().map(|(row, _)| {
            while frame_end <= *row {
                frame_end += u64::from(frames[frame as usize]);
                frame += 1;
            }
            frame - 1
        });
        let frames = UInt32Array::from_iter_values(frames);
        let keys = BinaryArray::from_iter_values(self.taken.iter().map(|(_, key)| key));
        let columns: Vec<ArrayRef> = vec![Arc::new(rows), Arc::new(frames), Arc::new(keys)];
        Ok(RecordBatch::try_new(told_schema(), columns)?)
    }
}

/// The columns of what is told.
pub(super) fn told_schema() -> SchemaRef {
    let rows = Field::new("rows", DataType::UInt64, false);
    let frame = Field::new("frame", DataType::UInt32, false);
    let key = Field::new("key", DataType::Binary, false);
    Arc::new(Schema::new(vec![rows, frame, key]))
}

/// What one lane told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) samples: Vec<Sample>,
}

/// The key of one row of a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// The rows from it to the next sample, or the lane's end.
    pub rows: u64,
    /// The frame that it lies in.
    pub frame: u32,
    /// Its key, of which there may be more when it has [`KEY_BYTES_MAX`] bytes.
    pub key: Box<[u8]>,
}

impl Told {
    /// Takes what another executor says that its lane told.
    ///
    /// # Errors
    /// When these are more samples than a lane tells, or none that a lane of sorted rows can have.
    pub fn add(&mut self, told: &RecordBatch) -> Result<()> {
        if self.samples.len() + told.num_rows() > SAMPLES_MAX {
            return exec_err!("a lane told more than {SAMPLES_MAX} samples");
        }
        let rows = told.column(0).as_primitive::<UInt64Type>().values();
        let frames = told.column(1).as_primitive::<UInt32Type>().values();
        let keys = told.column(2).as_binary::<i32>();
        for ((rows, frame), key) in rows.iter().zip(frames).zip(keys) {
            let key = key.unwrap_or_default();
            let follows = match self.samples.last() {
                Some(before) => before.frame <= *frame && *before.key <= *key,
                None => *frame == 0,
            };
            if !follows || *rows == 0 || key.len() > KEY_BYTES_MAX {
                return exec_err!("a lane told samples that no sorted rows have");
            }
            self.samples.push(Sample { rows: *rows, frame: *frame, key: key.into() });
        }
        Ok(())
    }

    /// Ascending by key. None but for a lane without rows.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;
    use datafusion::execution::memory_pool::UnboundedMemoryPool;
    use datafusion::physical_expr::PhysicalSortExpr;
    use datafusion::physical_expr::expressions::col;

    use super::*;

    fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(range))]).unwrap()
    }

    fn samples() -> LaneSamples {
        let schema = numbers(0..0).schema();
        let ordering = [PhysicalSortExpr::new_default(col("n", &schema).unwrap())].into();
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        LaneSamples::try_new(&ordering, &schema, &pool).unwrap()
    }

    /// What is told of rows in batches that end at those rows.
    fn told(ends: &[i64], frames: &[u32]) -> Told {
        let mut samples = samples();
        let starts = [0].iter().chain(ends);
        starts.zip(ends).for_each(|(start, end)| samples.take(&numbers(*start..*end)).unwrap());
        let mut told = Told::default();
        told.add(&samples.tell(frames).unwrap()).unwrap();
        told
    }

    #[test]
    fn samples_lie_evenly_apart_whatever_the_batches() {
        let one = told(&[10_000], &[10_000]);
        let many = told(&[1, 63, 65, 65, 9_000, 10_000], &[10_000]);
        assert_eq!(one.samples(), many.samples());
        assert_eq!(one.samples().len(), 10_000_usize.div_ceil(64));
        assert_eq!(one.samples().iter().map(|sample| sample.rows).sum::<u64>(), 10_000);
    }

    #[test]
    fn there_are_never_more_than_a_lane_tells() {
        let rows = 3 << 20;
        let told = told(&[rows], &[u32::try_from(rows).unwrap()]);
        assert!((SAMPLES_MAX / 2..=SAMPLES_MAX).contains(&told.samples().len()));
        assert_eq!(told.samples().iter().map(|sample| sample.rows).sum::<u64>(), rows as u64);
    }

    #[test]
    fn each_is_told_with_its_frame() {
        let told = told(&[256], &[64, 1, 150, 41]);
        let frames: Vec<_> = told.samples().iter().map(|sample| sample.frame).collect();
        assert_eq!(frames, [0, 1, 2, 2]);
        assert!(samples().tell(&[1]).is_err());
        assert_eq!(samples().tell(&[]).unwrap().num_rows(), 0);
    }

    #[test]
    fn what_no_sorted_rows_have_is_refused() {
        let told = |rows: &[u64], frames: &[u32], keys: &[&[u8]]| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt64Array::from(rows.to_vec())),
                Arc::new(UInt32Array::from(frames.to_vec())),
                Arc::new(BinaryArray::from(keys.to_vec())),
            ];
            Told::default().add(&RecordBatch::try_new(told_schema(), columns).unwrap())
        };
        told(&[1, 2], &[0, 3], &[b"a", b"a"]).unwrap();
        for (rows, frames, keys) in [
            ([1, 0], [0, 1], [&b"a"[..], b"b"]),
            ([1, 1], [1, 1], [b"a", b"b"]),
            ([1, 1], [0, 1], [b"b", b"a"]),
            ([1, 1], [0, 0], [b"b", &[255; KEY_BYTES_MAX + 1]]),
        ] {
            assert!(told(&rows, &frames, &keys).is_err(), "{rows:?} {frames:?} {keys:?}");
        }
        assert!(told(&[1; SAMPLES_MAX + 1], &[0; SAMPLES_MAX + 1], &[&b"a"[..]; SAMPLES_MAX + 1]).is_err());
    }
}
