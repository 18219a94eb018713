//! How much a lane wrote for each partition, in little memory.
//!
//! A driver keeps this of every lane of a job. A size for each partition would make that the product of map outputs and
//! partitions; what is kept here is which blocks may hold rows, which of these are much larger than the others, and what
//! the others have together: at most about 1.5 KiB, however many partitions there are. With few partitions it is exact.

use std::ops::Range;

use crate::key::LaneOutput;

/// So many blocks of a lane are kept with their sizes: all of them when they are no more, else the largest.
const LARGE_MAX: usize = 32;
/// Bits that tell which blocks hold rows. Where there are more partitions, a bit stands for several: that of an empty block
/// among them is asked for in vain.
const BITS_MAX: u32 = 8192;

/// Which blocks of a lane hold rows, and roughly how many bytes each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneSizes {
    partitions: u32,
    rows: u64,
    bytes: u64,
    others: Others,
    /// Bytes of each of these.
    even_share: u64,
    /// Blocks that hold rows and their bytes, ascending. The last block of a lane, which may tell keys, is never missing.
    large: Box<[(u32, u64)]>,
}

/// The blocks beside the large ones that hold rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Others {
    /// None.
    #[default]
    None,
    /// Every one.
    All,
    /// Those in the groups of partitions whose bit is set.
    Some(Box<[u8]>),
}

/// Sizes as they travel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SizesParts {
    /// Blocks, empty ones included.
    pub partitions: u32,
    /// Rows of all blocks.
    pub rows: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
    /// Blocks whose sizes are known, ascending.
    pub large: Vec<(u32, u64)>,
    /// Whether all others hold rows.
    pub all: bool,
    /// A bit for each group of partitions in which others hold rows, the lowest first; empty when all do, or none.
    pub some: Vec<u8>,
}

/// What is no account of a lane's blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sizes of a lane's blocks make no sense: {0}")]
pub struct MalformedSizes(String);

impl LaneSizes {
    /// The sizes of what a lane wrote.
    #[must_use]
    pub fn of(output: &LaneOutput) -> Self {
        let partitions = u32::try_from(output.partitions.len()).expect("partitions fit in 32 bits");
        let blocks = (0..).zip(&output.partitions).filter(|(_, block)| block.rows > 0);
        let sizes: Vec<(u32, u64)> = blocks.map(|(partition, block)| (partition, block.bytes)).collect();
        let others = match sizes.len() {
            few if few <= LARGE_MAX => Others::None,
            all if all == output.partitions.len() => Others::All,
            _ => Others::some(sizes.iter().map(|(partition, _)| *partition), partitions),
        };
        let total = output.total();
        Self::new(partitions, total.rows, total.bytes, others, largest(sizes, partitions))
    }

    /// The bytes of `large` are part of `bytes`.
    fn new(partitions: u32, rows: u64, bytes: u64, others: Others, large: Box<[(u32, u64)]>) -> Self {
        let mut sizes = Self { partitions, rows, bytes, others, even_share: 0, large };
        let counted = sizes.large.iter().filter(|(p, _)| {
            let is_inner = p.saturating_add(1) < partitions;
            is_inner && sizes.others.holds(*p, partitions)
        });
        let others = sizes.others.count(partitions) - counted.count() as u64;
        let known: u64 = sizes.large.iter().map(|(_, bytes)| bytes).sum();
        sizes.even_share = (bytes - known).checked_div(others).unwrap_or(0);
        sizes
    }

    /// Sizes that have travelled.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn from_parts(parts: SizesParts) -> Result<Self, MalformedSizes> {
        let SizesParts { partitions, rows, bytes, large, all, some } = parts;
        let wrong = |what: String| Err(MalformedSizes(what));
        if large.len() > LARGE_MAX || !large.is_sorted_by(|one, next| one.0 < next.0) {
            return wrong("the large blocks are too many or in disorder".to_owned());
        }
        if large.last().is_some_and(|(partition, _)| *partition >= partitions) {
            return wrong(format!("they speak of more than {partitions} blocks"));
        }
        let others = match (all, some.len()) {
            (true, 0) => Others::All,
            (false, 0) => Others::None,
            (false, len) if len == bits(partitions).div_ceil(8) as usize => Others::Some(some.into()),
            (_, len) => return wrong(format!("{len} bytes tell which of {partitions} blocks hold rows")),
        };
        match large.iter().try_fold(0_u64, |sum, (_, bytes)| sum.checked_add(*bytes)) {
            Some(sum) if sum <= bytes => Ok(Self::new(partitions, rows, bytes, others, large.into())),
            _ => wrong(format!("the large blocks have more than all of the {bytes} bytes")),
        }
    }

    /// The sizes, to travel.
    #[must_use]
    pub fn to_parts(&self) -> SizesParts {
        SizesParts {
            partitions: self.partitions,
            rows: self.rows,
            bytes: self.bytes,
            large: self.large.to_vec(),
            all: self.others == Others::All,
            some: match &self.others {
                Others::Some(bits) => bits.to_vec(),
                Others::None | Others::All => Vec::new(),
            },
        }
    }

    /// Blocks, empty ones included.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Rows of all blocks.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of all blocks.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether no block holds rows; the last is not looked at when it tells keys.
    #[must_use]
    pub fn is_empty(&self, last_tells: bool) -> bool {
        let is_aside = |partition: u32| last_tells && partition + 1 == self.partitions;
        self.others == Others::None && self.large.iter().all(|(partition, _)| is_aside(*partition))
    }

    /// Whether a block holds rows. With more than 8,192 partitions some that do not are said to; never the last.
    #[must_use]
    pub fn holds(&self, partition: u32) -> bool {
        self.large_at(partition).is_some() || self.is_other(partition)
    }

    /// Bytes of a block: exact for large ones and where there are few, else an even share.
    #[must_use]
    pub fn bytes_of(&self, partition: u32) -> u64 {
        match self.large_at(partition) {
            Some(bytes) => bytes,
            None if self.is_other(partition) => self.even_share,
            None => 0,
        }
    }

    fn large_at(&self, partition: u32) -> Option<u64> {
        let found = self.large.binary_search_by_key(&partition, |(partition, _)| *partition).ok()?;
        Some(self.large[found].1)
    }

    /// Whether a block that is not large holds rows.
    fn is_other(&self, partition: u32) -> bool {
        let is_inner = partition.saturating_add(1) < self.partitions;
        is_inner && self.large_at(partition).is_none() && self.others.holds(partition, self.partitions)
    }

    /// Adds the bytes of each block to `sums`, as far as those reach.
    pub fn add_to(&self, sums: &mut [u64]) {
        let inner = self.partitions.saturating_sub(1);
        if self.even_share > 0 {
            let others = (0..inner).zip(&mut *sums).filter(|(p, _)| self.others.holds(*p, self.partitions));
            others.for_each(|(_, sum)| *sum = sum.saturating_add(self.even_share));
        }
        for &(partition, bytes) in &self.large {
            let Some(sum) = sums.get_mut(partition as usize) else { break };
            // Its bit may be set too.
            let counted = partition < inner && self.others.holds(partition, self.partitions);
            *sum = (*sum - if counted { self.even_share.min(*sum) } else { 0 }).saturating_add(bytes);
        }
    }

    /// The same with what is known of `partitions` and of the last block alone, for whoever reads no others.
    #[must_use]
    pub fn within(&self, partitions: Range<u32>) -> Self {
        let partitions = partitions.start..partitions.end.min(self.partitions);
        let last = self.partitions.saturating_sub(1);
        let is_read = |partition: u32| partitions.contains(&partition) || partition == last;
        let mut large: Vec<_> =
            self.large.iter().filter(|(partition, _)| is_read(*partition)).copied().collect();
        let others = partitions.clone().filter(|&partition| self.is_other(partition));
        let others: Vec<_> = others.take(LARGE_MAX + 1 - large.len().min(LARGE_MAX)).collect();
        if large.len() + others.len() > LARGE_MAX {
            return Self { large: large.into(), others: self.others.clone(), ..*self };
        }
        large.extend(others.into_iter().map(|partition| (partition, self.even_share)));
        large.sort_unstable();
        Self { large: large.into(), others: Others::None, even_share: 0, ..*self }
    }

    /// Bytes of memory that this takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let others = match &self.others {
            Others::None | Others::All => 0,
            Others::Some(bits) => bits.len(),
        };
        size_of::<Self>() + others + size_of_val::<[_]>(&self.large)
    }
}

impl Others {
    fn some(filled: impl Iterator<Item = u32>, partitions: u32) -> Self {
        let mut bytes = vec![0_u8; bits(partitions).div_ceil(8) as usize];
        for bit in filled.map(|partition| bit_of(partition, partitions)) {
            bytes[bit / 8] |= 1 << (bit % 8);
        }
        Self::Some(bytes.into())
    }

    /// Blocks before the last one that are said to hold rows. There may be billions, and they are not gone through one by one.
    fn count(&self, partitions: u32) -> u64 {
        let inner = u64::from(partitions.saturating_sub(1));
        match self {
            Self::None => 0,
            Self::All => inner,
            Self::Some(bytes) => {
                let group = u64::from(group(partitions));
                let bits =
                    (0..).zip(bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte & (1 << bit) != 0)));
                let starts = bits.filter(|(_, is_set)| *is_set).map(|(bit, _): (u64, bool)| bit * group);
                starts.map(|start| inner.min(start + group).saturating_sub(start)).sum()
            }
        }
    }

    fn holds(&self, partition: u32, partitions: u32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(bytes) => {
                let bit = bit_of(partition, partitions);
                bytes[bit / 8] & (1 << (bit % 8)) != 0
            }
        }
    }
}

/// Bits that tell of so many partitions.
fn bits(partitions: u32) -> u32 {
    partitions.div_ceil(group(partitions))
}

/// Partitions that one bit stands for.
fn group(partitions: u32) -> u32 {
    partitions.div_ceil(BITS_MAX).max(1)
}

fn bit_of(partition: u32, partitions: u32) -> usize {
    (partition / group(partitions)) as usize
}

/// All blocks when they are few, else the largest and the last of the lane's.
fn largest(mut sizes: Vec<(u32, u64)>, partitions: u32) -> Box<[(u32, u64)]> {
    if sizes.len() > LARGE_MAX {
        let is_last = |partition: u32| partition + 1 == partitions;
        sizes.sort_unstable_by_key(|&(partition, bytes)| (!is_last(partition), std::cmp::Reverse(bytes)));
        sizes.truncate(LARGE_MAX);
        sizes.sort_unstable();
    }
    sizes.into()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::key::BlockStat;

    fn lane(bytes: impl IntoIterator<Item = u64>) -> LaneOutput {
        let block = |bytes: u64| BlockStat { rows: bytes.div_ceil(10), bytes };
        LaneOutput { partitions: bytes.into_iter().map(block).collect() }
    }

    fn travelled(sizes: &LaneSizes) -> LaneSizes {
        LaneSizes::from_parts(sizes.to_parts()).unwrap()
    }

    #[test]
    fn few_blocks_are_known_exactly() {
        let bytes = [0, 7, 0, 1 << 40, 12];
        let sizes = travelled(&LaneSizes::of(&lane(bytes)));
        assert_eq!([0, 1, 2, 3, 4, 5].map(|p| sizes.bytes_of(p)), [0, 7, 0, 1 << 40, 12, 0]);
        assert_eq!([0, 1, 4, 5].map(|p| sizes.holds(p)), [false, true, true, false]);
        assert_eq!((sizes.bytes(), sizes.partitions()), (bytes.iter().sum(), 5));
    }

    #[test]
    fn of_many_blocks_the_large_ones_and_the_last_are_known() {
        let mut bytes = vec![1000; 8_000];
        (bytes[17], bytes[7_999], bytes[5]) = (5_000_000, 3, 0);
        let sizes = travelled(&LaneSizes::of(&lane(bytes.iter().copied())));
        assert_eq!([17, 7_999, 5].map(|p| sizes.bytes_of(p)), [5_000_000, 3, 0]);
        assert_eq!(sizes.bytes_of(6_000), 1000);
        assert!(sizes.memory_bytes() < 2000, "{}", sizes.memory_bytes());
    }

    #[test]
    fn a_reader_of_some_partitions_needs_to_know_little() {
        let bytes: Vec<u64> = (0..10_000).map(|p| if p % 3 == 0 { 0 } else { 100 }).collect();
        let all = LaneSizes::of(&lane(bytes));
        let some = travelled(&all.within(40..44));
        for partition in [40, 41, 42, 43, 9_999] {
            assert_eq!(some.holds(partition), all.holds(partition), "{partition}");
        }
        assert!(some.memory_bytes() < 200, "{}", some.memory_bytes());
        assert_eq!(some.bytes_of(41), all.bytes_of(41));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let parts = SizesParts { partitions: 40, rows: 1, bytes: 9, ..Default::default() };
        let refused = |parts: SizesParts| LaneSizes::from_parts(parts).unwrap_err().to_string();
        let large = |large| SizesParts { large, ..parts.clone() };
        assert!(refused(large(vec![(2, 3), (1, 3)])).contains("disorder"));
        assert!(refused(large((0..33).map(|p| (p, 0)).collect())).contains("too many"));
        assert!(refused(large(vec![(40, 1)])).contains("more than 40 blocks"));
        assert!(refused(large(vec![(1, 6), (2, 6)])).contains("more than all of the 9 bytes"));
        assert!(refused(large(vec![(1, u64::MAX), (2, 6)])).contains("more than all"));
        assert!(refused(SizesParts { some: vec![0; 4], ..parts.clone() }).contains("4 bytes tell"));
        assert!(
            refused(SizesParts { some: vec![0; 5], all: true, ..parts.clone() }).contains("5 bytes tell")
        );
    }

    #[test]
    fn of_very_many_blocks_none_that_holds_rows_is_missed() {
        let bytes: Vec<u64> = (0..100_000).map(|p| if p % 97 == 0 { 10 } else { 0 }).collect();
        let sizes = travelled(&LaneSizes::of(&lane(bytes.iter().copied())));
        assert!((0..100_000).all(|p| bytes[p as usize] == 0 || sizes.holds(p)));
        assert!((0..100_000).filter(|&p| sizes.holds(p)).count() < 20_000);
        assert!(!sizes.holds(99_999) && !sizes.holds(100_000));
        assert!(sizes.memory_bytes() < 1700, "{}", sizes.memory_bytes());
    }

    #[test]
    fn billions_of_blocks_are_counted_at_once() {
        let of = |all, some| SizesParts {
            partitions: u32::MAX,
            rows: 1,
            bytes: u64::MAX,
            large: vec![(3, 7), (u32::MAX - 1, 8)],
            all,
            some,
        };
        for parts in [of(true, Vec::new()), of(false, vec![0xff; bits(u32::MAX).div_ceil(8) as usize])] {
            let sizes = LaneSizes::from_parts(parts).unwrap();
            let share = (u64::MAX - 15) / (u64::from(u32::MAX) - 2);
            assert_eq!([0, 3, u32::MAX - 1].map(|p| sizes.bytes_of(p)), [share, 7, 8]);
            let mut sums = vec![u64::MAX; 5];
            sizes.add_to(&mut sums);
            assert!(sums.iter().all(|sum| *sum >= u64::MAX - share));
        }
    }

    /// What a driver keeps of map outputs for ten thousand partitions each.
    #[test]
    fn memory_is_linear_in_map_outputs() {
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 33
        };
        let outputs: Vec<_> = (0..50)
            .map(|_| {
                LaneSizes::of(&lane((0..10_000).map(|_| if random() % 2 == 0 { 0 } else { random() % 5000 })))
            })
            .collect();
        let bytes: usize = outputs.iter().map(LaneSizes::memory_bytes).sum();
        // The worst there is: every second block is empty, without order. Sizes one by one would take 160,000 bytes of each.
        assert!(bytes / outputs.len() < 1_700, "{}", bytes / outputs.len());
        let mut sums = vec![0; 10_000];
        outputs.iter().for_each(|sizes| sizes.add_to(&mut sums));
        let (sum, all) = (sums.iter().sum::<u64>(), outputs.iter().map(LaneSizes::bytes).sum::<u64>());
        assert!(sum <= all && all - sum < 50 * 10_000, "{sum} of {all}");
    }

    proptest! {
        #[test]
        fn no_filled_block_is_missed_and_no_byte_is_made_up(bytes in vec(prop_oneof![Just(0), 1_u64..100_000], 1..200)) {
            let sizes = travelled(&LaneSizes::of(&lane(bytes.iter().copied())));
            let mut sums = vec![0; bytes.len()];
            sizes.add_to(&mut sums);
            for (partition, &bytes) in (0..).zip(&bytes) {
                prop_assert_eq!(sizes.holds(partition), bytes > 0);
                prop_assert_eq!(sizes.bytes_of(partition), sums[partition as usize]);
            }
            prop_assert!(sums.iter().sum::<u64>() <= sizes.bytes());
            if bytes.len() <= LARGE_MAX {
                prop_assert_eq!(sums, bytes);
            }
        }

        #[test]
        fn the_others_are_counted_as_they_are_found(partitions in 0_u32..40_000, bits_set in vec(any::<u8>(), 1..1025)) {
            let some = (0..bits(partitions).div_ceil(8) as usize).map(|at| bits_set[at % bits_set.len()]).collect();
            for others in [Others::None, Others::All, Others::Some(some)] {
                let inner = partitions.saturating_sub(1);
                let found = (0..inner).filter(|&partition| others.holds(partition, partitions)).count();
                prop_assert_eq!(others.count(partitions), found as u64);
            }
        }
    }
}
