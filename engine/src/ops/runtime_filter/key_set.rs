//! The values of a join's key, as a set that travels.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::kernels::aggregate::{max, min};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Int32Type, Int64Type, ToByteSlice,
};
use datafusion::common::{exec_datafusion_err, exec_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use roaring::RoaringBitmap;

use super::table::ValueTable;

/// The widest range of values of a set: 64 MiB, and as numbers of 32 bits they travel.
const VALUES_MAX: i64 = 1 << 29;
const BITS_A_WORD: usize = u64::BITS as usize;

/// A set of whole numbers, a bit for each number of the range that they lie in. NULL is never in it.
#[derive(Debug)]
pub struct KeySet {
    table: ValueTable<1>,
}

impl KeySet {
    /// An empty set, whose bits are counted in `memory`.
    pub(super) fn new(memory: MemoryReservation) -> Self {
        Self { table: ValueTable::new(VALUES_MAX, memory) }
    }

    /// Adds the values of `column`; false when they range too widely, or memory is short. Some of them may be in it then.
    ///
    /// # Errors
    /// When the column is not of whole numbers.
    pub(super) fn add(&mut self, column: &ArrayRef) -> Result<bool> {
        match column.data_type() {
            DataType::Int32 => Ok(self.add_typed::<Int32Type>(column)),
            DataType::Int64 => Ok(self.add_typed::<Int64Type>(column)),
            DataType::Date32 => Ok(self.add_typed::<Date32Type>(column)),
            other => internal_err!("no set of keys has values of {other}"),
        }
    }

    fn add_typed<T: ArrowPrimitiveType>(&mut self, column: &ArrayRef) -> bool
    where
        T::Native: Into<i64>,
    {
        let values = column.as_primitive::<T>();
        let (Some(least), Some(most)) = (min(values), max(values)) else { return true };
        if !self.table.cover(least.into(), most.into()) {
            return false;
        }
        match values.nulls().filter(|nulls| nulls.null_count() > 0) {
            // What lies under a NULL is no value, and may lie anywhere.
            Some(nulls) => nulls.valid_indices().for_each(|row| self.insert(values.value(row).into())),
            None => values.values().iter().for_each(|value| self.insert((*value).into())),
        }
        true
    }

    /// Adds a value that has a place.
    fn insert(&mut self, value: i64) {
        let (word, shift) = self.table.place(value);
        *self.table.word(word) |= 1 << shift;
    }

    /// Whether each of the values of `column` is in the set.
    ///
    /// # Errors
    /// When the column is not of whole numbers.
    pub(super) fn contains(&self, column: &ArrayRef) -> Result<BooleanArray> {
        match column.data_type() {
            DataType::Int32 => Ok(self.contains_typed::<Int32Type>(column)),
            DataType::Int64 => Ok(self.contains_typed::<Int64Type>(column)),
            DataType::Date32 => Ok(self.contains_typed::<Date32Type>(column)),
            other => internal_err!("no set of keys has values of {other}"),
        }
    }

    fn contains_typed<T: ArrowPrimitiveType>(&self, column: &ArrayRef) -> BooleanArray
    where
        T::Native: Into<i64>,
    {
        let values = column.as_primitive::<T>();
        let (first, words, natives) = (self.table.first(), self.table.words(), values.values());
        let found = BooleanBuffer::collect_bool(natives.len(), |row| {
            // A number below the first one wraps around to one that has no place either.
            let place = natives[row].into().wrapping_sub(first) as u64 as usize;
            words.get(place / BITS_A_WORD).is_some_and(|word| word >> (place % BITS_A_WORD) & 1 == 1)
        });
        let found = match values.nulls() {
            Some(nulls) => &found & nulls.inner(),
            None => found,
        };
        BooleanArray::new(found, None)
    }

    /// The set as it travels: its first place, and the distances of the values from there in Roaring's portable format.
    ///
    /// # Errors
    /// When it does not go into memory.
    pub(super) fn encode(&self) -> Result<(i64, Vec<u8>)> {
        // The bytes of a word with the lowest bits come first.
        const { assert!(cfg!(target_endian = "little")) };
        let mut distances = RoaringBitmap::from_lsb0_bytes(0, self.table.words().to_byte_slice());
        distances.optimize();
        let mut encoded = Vec::with_capacity(distances.serialized_size());
        distances
            .serialize_into(&mut encoded)
            .map_err(|fault| exec_datafusion_err!("encoding a set of keys: {fault}"))?;
        Ok((self.table.first(), encoded))
    }

    /// Adds the values of a set that has travelled; false when they range too widely, or memory is short.
    ///
    /// # Errors
    /// When the bytes are no set of keys.
    pub(super) fn add_encoded(&mut self, first: i64, encoded: &[u8]) -> Result<bool> {
        let distances = RoaringBitmap::deserialize_from(encoded)
            .map_err(|fault| exec_datafusion_err!("not a set of keys: {fault}"))?;
        let (Some(least), Some(most)) = (distances.min(), distances.max()) else { return Ok(true) };
        let value = |distance: u32| first.checked_add(i64::from(distance));
        let (Some(least), Some(most)) = (value(least), value(most)) else {
            return exec_err!("not a set of keys: its values leave the range of 64 bits");
        };
        if !self.table.cover(least, most) {
            return Ok(false);
        }
        distances.iter().for_each(|distance| self.insert(first + i64::from(distance)));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Date32Array, Int32Array, Int64Array, StringArray};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};

    use super::*;

    fn set(memory_bytes: usize) -> KeySet {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory_bytes));
        KeySet::new(MemoryConsumer::new("test").register(&pool))
    }

    fn longs(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
        Arc::new(Int64Array::from_iter(values))
    }

    fn found(set: &KeySet, values: &[i64]) -> Vec<bool> {
        set.contains(&longs(values.iter().copied().map(Some))).unwrap().values().iter().collect()
    }

    fn travelled(set: &KeySet) -> KeySet {
        let (first, bytes) = set.encode().unwrap();
        let mut arrived = self::set(1 << 30);
        assert!(arrived.add_encoded(first, &bytes).unwrap());
        arrived
    }

    #[test]
    fn it_holds_what_was_added_whatever_the_order_and_after_travelling() {
        let mut set = set(1 << 30);
        assert_eq!(found(&set, &[0, -1, i64::MIN]), [false; 3]);
        for part in [vec![5_000_000, 70], vec![-3, 64, 63], vec![1_000_000]] {
            assert!(set.add(&longs(part.into_iter().map(Some))).unwrap());
        }
        let asked = [-4, -3, 0, 62, 63, 64, 65, 70, 71, 1_000_000, 5_000_000, 5_000_001, i64::MAX, i64::MIN];
        let expected = asked.map(|value| [-3, 63, 64, 70, 1_000_000, 5_000_000].contains(&value));
        assert_eq!(found(&set, &asked), expected);
        assert_eq!(found(&travelled(&set), &asked), expected);
    }

    #[test]
    fn sets_of_several_lanes_unite() {
        let (mut odd, mut even) = (set(1 << 30), set(1 << 30));
        assert!(odd.add(&longs((0..50_000).map(|n| Some(2 * n + 1)))).unwrap());
        assert!(even.add(&longs((-50_000..0).map(|n| Some(2 * n)))).unwrap());
        let mut all = travelled(&odd);
        let (first, bytes) = even.encode().unwrap();
        assert!(all.add_encoded(first, &bytes).unwrap());
        let asked: Vec<i64> = (-100_010..100_010).collect();
        let expected: Vec<bool> = asked
            .iter()
            .map(|n| if *n < 0 { n % 2 == 0 && *n >= -100_000 } else { n % 2 == 1 && *n < 100_000 })
            .collect();
        assert_eq!(found(&all, &asked), expected);
    }

    #[test]
    fn null_is_in_no_set_and_what_lies_under_it_neither() {
        let mut set = set(1 << 20);
        let values = [Some(3), None, Some(5)];
        assert!(set.add(&longs(values)).unwrap());
        let found = set.contains(&longs([None, Some(0), Some(3), Some(5)])).unwrap();
        assert_eq!(found.values().iter().collect::<Vec<_>>(), [false, false, true, true]);
        assert!(set.add(&longs([None, None])).unwrap());
        assert_eq!(self::found(&travelled(&set), &[0, 3]), [false, true]);
    }

    #[test]
    fn dates_and_small_numbers_are_keys_and_texts_are_not() {
        let mut set = set(1 << 20);
        let dates: ArrayRef = Arc::new(Date32Array::from(vec![8035, -1]));
        assert!(set.add(&dates).unwrap());
        assert_eq!(set.contains(&dates).unwrap().true_count(), 2);
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![8035, 8036]));
        assert_eq!(set.contains(&numbers).unwrap().true_count(), 1);
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["8035"]));
        assert!(set.add(&texts).is_err() && set.contains(&texts).is_err());
    }

    #[test]
    fn values_too_far_apart_or_too_little_memory_are_told() {
        assert!(!set(1 << 30).add(&longs([Some(0), Some(VALUES_MAX)])).unwrap());
        assert!(!set(1 << 30).add(&longs([Some(i64::MIN), Some(i64::MAX)])).unwrap());
        assert!(!set(1000).add(&longs([Some(0), Some(1_000_000)])).unwrap());
        let mut at_the_ends = set(1 << 30);
        assert!(at_the_ends.add(&longs([Some(i64::MAX)])).unwrap());
        assert_eq!(found(&travelled(&at_the_ends), &[i64::MAX, i64::MIN, 0]), [true, false, false]);
    }

    #[test]
    fn bytes_that_are_no_set_are_refused() {
        let (_, good) = {
            let mut set = set(1 << 20);
            assert!(set.add(&longs((0..1000).map(|n| Some(n * 97)))).unwrap());
            set.encode().unwrap()
        };
        for len in 0..good.len() {
            assert!(set(1 << 30).add_encoded(0, &good[..len]).is_err(), "{len} bytes of {}", good.len());
        }
        assert!(set(1 << 30).add_encoded(i64::MAX - 10, &good).is_err());
        let (_, far) = {
            let mut set = set(1 << 30);
            assert!(set.add(&longs([Some(0), Some(VALUES_MAX - 1)])).unwrap());
            set.encode().unwrap()
        };
        assert!(!set(1000).add_encoded(0, &far).unwrap());
    }
}
