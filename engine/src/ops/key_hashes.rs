//! Hashes of rows' keys: by them rows are divided, when they are written and once more when a partition is read in parts.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::exec_err;
use datafusion::common::hash_utils::create_hashes;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::Partitioning;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;
use firesteel_shuffle::KeysOf;
use firesteel_shuffle::partition::part_assignment;

/// Hashes each row's key. The seed is fixed, so that both sides of a join agree across processes.
pub(crate) struct KeyHashes {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    hashes: Vec<u64>,
}

impl KeyHashes {
    /// Of keys that are made of these expressions.
    pub fn new(exprs: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { exprs, hashes: Vec::new() }
    }

    /// One hash for each row.
    pub fn of(&mut self, batch: &RecordBatch) -> Result<&[u64]> {
        let rows = batch.num_rows();
        let keys = self.exprs.iter().map(|expr| expr.evaluate(batch)?.into_array(rows));
        let keys: Vec<ArrayRef> = keys.collect::<Result<_>>()?;
        self.hashes.clear();
        self.hashes.resize(rows, 0);
        create_hashes(&keys, REPARTITION_RANDOM_STATE.random_state(), &mut self.hashes)?;
        Ok(&self.hashes)
    }
}

/// The rows of an exchange's partition whose keys are in one part of it.
pub(super) struct KeyPart {
    keys: KeyHashes,
    partitions: u32,
    wanted: KeysOf,
    parts: Vec<u32>,
}

impl KeyPart {
    /// Of an exchange that is divided as `partitioning`.
    ///
    /// # Errors
    /// When that is not by hash, or into too many parts.
    pub fn try_new(partitioning: &Partitioning, wanted: KeysOf) -> Result<Self> {
        let Partitioning::Hash(exprs, partitions) = partitioning else {
            return exec_err!("a task was told to read some keys of rows that are not divided by key");
        };
        let partitions = u32::try_from(*partitions).ok();
        match partitions.filter(|partitions| partitions.checked_mul(wanted.parts).is_some()) {
            Some(partitions) if wanted.part < wanted.parts => {
                Ok(Self { keys: KeyHashes::new(exprs.clone()), partitions, wanted, parts: Vec::new() })
            }
            _ => exec_err!("a task was told to read part {} of {}", wanted.part, wanted.parts),
        }
    }

    /// Those of `batch`, which has rows of one partition.
    pub fn rows_of(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let KeysOf { part, parts } = self.wanted;
        part_assignment(self.keys.of(batch)?, self.partitions, parts, &mut self.parts);
        let is_wanted = BooleanBuffer::collect_bool(self.parts.len(), |row| self.parts[row] == part);
        Ok(filter_record_batch(batch, &BooleanArray::new(is_wanted, None))?)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    fn by_hash(partitions: usize) -> Partitioning {
        Partitioning::Hash(vec![Arc::new(Column::new("k", 0))], partitions)
    }

    #[test]
    fn every_row_is_in_one_part_with_all_rows_of_its_key() {
        let keys: ArrayRef =
            Arc::new(Int64Array::from_iter((0..3000).map(|n| (n % 7 > 0).then_some(n % 100))));
        let batch = RecordBatch::try_from_iter([("k", keys)]).unwrap();
        let mut seen = Vec::new();
        for part in 0..4 {
            let wanted = KeysOf { part, parts: 4 };
            let rows = KeyPart::try_new(&by_hash(3), wanted).unwrap().rows_of(&batch).unwrap();
            let keys: std::collections::BTreeSet<_> =
                rows.column(0).as_primitive::<Int64Type>().iter().collect();
            seen.extend(keys);
            assert!(rows.num_rows() > 0);
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!((seen.len(), count), (101, 101), "a key is in two parts");
    }

    #[test]
    fn what_is_not_divided_by_key_has_no_parts_and_neither_do_more_partitions_than_can_be() {
        let refused = |partitioning: &Partitioning, part, parts| {
            KeyPart::try_new(partitioning, KeysOf { part, parts }).err().unwrap().to_string()
        };
        assert!(refused(&Partitioning::RoundRobinBatch(3), 0, 2).contains("not divided by key"));
        assert!(refused(&by_hash(3), 2, 2).contains("part 2 of 2"));
        assert!(refused(&by_hash(1 << 20), 0, 1 << 12).contains("part 0 of 4096"));
    }
}
