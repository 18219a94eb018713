//! A few bits for each whole number of a range.

use datafusion::arrow::datatypes::DataType;
use datafusion::execution::memory_pool::MemoryReservation;

/// `BITS` bits for each number of a range that grows with what is asked for, in memory that is counted. `BITS` divides 64.
#[derive(Debug)]
pub(super) struct ValueTable<const BITS: u32> {
    /// The first number that has a place, a multiple of the numbers of a word.
    first: i64,
    words: Vec<u64>,
    /// The widest range of numbers that have places.
    values_max: i64,
    memory: MemoryReservation,
}

/// Whether columns of that type hold numbers that have places.
#[must_use]
pub fn is_of_whole_numbers(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int32 | DataType::Int64 | DataType::Date32)
}

impl<const BITS: u32> ValueTable<BITS> {
    const VALUES_A_WORD: i64 = 64 / BITS as i64;

    /// A table without places.
    pub(super) fn new(values_max: i64, memory: MemoryReservation) -> Self {
        Self { first: 0, words: Vec::new(), values_max, memory }
    }

    /// The first number that has a place.
    pub(super) fn first(&self) -> i64 {
        self.first
    }

    /// The bits of all places, those of the first number lowest.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The word that holds the bits of `value`, and how far up in it they lie. The number must have a place.
    pub(super) fn place(&self, value: i64) -> (usize, i64) {
        let place = value - self.first;
        let word = (place / Self::VALUES_A_WORD) as usize;
        (word, place % Self::VALUES_A_WORD * i64::from(BITS))
    }

    /// The word at that place of [`ValueTable::place`].
    pub(super) fn word(&mut self, word: usize) -> &mut u64 {
        &mut self.words[word]
    }

    /// Makes places for all numbers from `least` to `most`; false when there are too many of them, or no memory.
    pub(super) fn cover(&mut self, least: i64, most: i64) -> bool {
        // The last place and not the one after it, which no number may name.
        let last = self.first + (self.words.len() as i64 * Self::VALUES_A_WORD - 1);
        if !self.words.is_empty() && self.first <= least && most <= last {
            return true;
        }
        let (least, most) = match self.words.is_empty() {
            true => (least, most),
            false => (least.min(self.first), most.max(last)),
        };
        // In 128 bits, where no range of 64-bit numbers overflows.
        if i128::from(most) - i128::from(least) >= i128::from(self.values_max) {
            return false;
        }
        let first = least.div_euclid(Self::VALUES_A_WORD).saturating_mul(Self::VALUES_A_WORD);
        let (Some(before), Some(span)) = (least.checked_sub(first), most.checked_sub(first)) else {
            return false;
        };
        debug_assert!((0..Self::VALUES_A_WORD).contains(&before));
        self.grow(first, span)
    }

    /// Makes places from `first` on for at least `span` numbers after it.
    fn grow(&mut self, first: i64, span: i64) -> bool {
        // Keys that ascend through a file would have it grow with each batch: room for as many again spares most of that.
        let room = i64::MAX / Self::VALUES_A_WORD - first.div_euclid(Self::VALUES_A_WORD);
        let words = 2 * (span / Self::VALUES_A_WORD) + 1;
        let words = words.min(self.values_max / Self::VALUES_A_WORD + 1).min(room);
        let words = words.max(span / Self::VALUES_A_WORD + 1) as usize;
        if self.memory.try_resize(words * size_of::<u64>()).is_err() {
            return false;
        }
        let mut grown = vec![0; words];
        if !self.words.is_empty() {
            let shift = ((self.first - first) / Self::VALUES_A_WORD) as usize;
            grown[shift..shift + self.words.len()].copy_from_slice(&self.words);
        }
        (self.first, self.words) = (first, grown);
        true
    }
}
