//! The same exchange as other engines do it: batches are held as long as a lane of ours holds them, and the rows of each partition
//! are gathered into one batch by `interleave`.

pub mod flight;
pub mod ipc;

use arrow_array::RecordBatch;
use arrow_select::interleave::interleave_record_batch;

/// Batches are held until they come to so many bytes, as by a lane of ours.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Gathers the rows of all `batches` by partition, and gives each partition's rows out, one batch for each time that held
/// batches are gathered. `places` says the partition of each row of a batch.
pub fn scatter(
    batches: &[RecordBatch],
    partitions: u32,
    mut places: impl FnMut(&RecordBatch, &mut Vec<u32>),
    mut give: impl FnMut(u32, RecordBatch),
) {
    let (mut first, mut held_bytes) = (0, 0);
    let mut rows: Vec<Vec<(usize, usize)>> = vec![Vec::new(); partitions as usize];
    let mut of_rows = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        places(batch, &mut of_rows);
        for (row, partition) in of_rows.iter().enumerate() {
            rows[*partition as usize].push((number - first, row));
        }
        held_bytes += batch.get_array_memory_size();
        if held_bytes >= HELD_BYTES_MAX || number + 1 == batches.len() {
            let held: Vec<_> = batches[first..=number].iter().collect();
            for (partition, rows) in (0..).zip(&mut rows).filter(|(_, rows)| !rows.is_empty()) {
                give(partition, interleave_record_batch(&held, rows).expect("rows of these batches"));
                rows.clear();
            }
            (first, held_bytes) = (number + 1, 0);
        }
    }
}
