//! Where the ranges begin that sorted rows are divided into.

use firesteel_shuffle::{BlockKey, Holder};

use super::samples::{Sample, Told};

/// The ranges of keys of an exchange, and where in the lanes that wrote it their rows lie. It follows from the samples alone: who
/// has the same of all lanes comes to the same.
#[derive(Debug)]
pub(in crate::ops) struct Splits {
    /// The key that each range begins with but the first, which has all before it; ascending. There may be fewer ranges than
    /// partitions: the last partitions have no rows then.
    bounds: Vec<Box<[u8]>>,
    lanes: Vec<LaneRanges>,
}

/// Where the ranges begin in what one lane wrote.
#[derive(Debug)]
struct LaneRanges {
    holder: Holder,
    block: BlockKey,
    /// For each range that may have rows, the first frame that may hold some; `None` when none does.
    first_frames: Vec<Option<u32>>,
}

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    /// The least key in it, unless it has all before `upper`.
    pub lower: Option<Box<[u8]>>,
    /// The least key past it, unless it has all from `lower` on.
    pub upper: Option<Box<[u8]>>,
}

/// A block of sorted rows, and what its lane told of them: nothing when they are all to come into one range.
pub(super) struct Lane {
    pub holder: Holder,
    pub block: BlockKey,
    pub told: Option<Told>,
}

impl Splits {
    /// Divides the rows of `lanes` into `partitions` ranges of about as many rows each.
    pub(super) fn new(lanes: Vec<Lane>, partitions: usize) -> Self {
        let told = lanes.iter().filter_map(|lane| lane.told.as_ref());
        let bounds = bounds(told.map(Told::samples), partitions);
        let ranges = lanes.into_iter().map(|lane| {
            let samples = lane.told.as_ref().map(Told::samples);
            let first_frames = (0..=bounds.len()).map(|range| match samples {
                Some(samples) => first_frame(samples, &nth(&bounds, range)),
                None => Some(0),
            });
            LaneRanges { holder: lane.holder, block: lane.block, first_frames: first_frames.collect() }
        });
        let lanes = ranges.collect();
        Self { bounds, lanes }
    }

    /// The keys of a partition; `None` when it has no rows.
    pub(super) fn range(&self, partition: usize) -> Option<Range> {
        (partition <= self.bounds.len()).then(|| nth(&self.bounds, partition))
    }

    /// The blocks that may hold rows of a partition, with the frame to read them from.
    pub(super) fn blocks(&self, partition: usize) -> impl Iterator<Item = (Holder, BlockKey, u32)> {
        self.lanes.iter().filter_map(move |lane| {
            let first = lane.first_frames.get(partition).copied().flatten()?;
            Some((lane.holder.clone(), lane.block, first))
        })
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let bounds: usize = self.bounds.iter().map(|bound| size_of::<Box<[u8]>>() + bound.len()).sum();
        let of_lane = |lane: &LaneRanges| size_of::<LaneRanges>() + size_of_val(&lane.first_frames[..]);
        bounds + self.lanes.iter().map(of_lane).sum::<usize>()
    }
}

fn nth(bounds: &[Box<[u8]>], range: usize) -> Range {
    let lower = range.checked_sub(1).and_then(|before| bounds.get(before).cloned());
    Range { lower, upper: bounds.get(range).cloned() }
}

/// The first keys of all ranges but the first, so that each has about as many rows as the others. Rows of one key are never divided:
/// a range may come out larger, and others empty.
fn bounds<'a>(lanes: impl Iterator<Item = &'a [Sample]>, partitions: usize) -> Vec<Box<[u8]>> {
    let mut total = 0_u128;
    let mut weights: Vec<(&[u8], u64)> = Vec::new();
    for samples in lanes {
        let mut between = 0;
        for sample in samples {
            total += u128::from(sample.rows);
            // Of the rows between two samples half are expected before whatever key lies between theirs.
            weights.push((&*sample.key, between + (sample.rows - sample.rows / 2)));
            between = sample.rows / 2;
        }
    }
    weights.sort_unstable();
    // Each key with the rows of all before it.
    let mut keys: Vec<(&[u8], u128)> = Vec::new();
    let mut before = 0_u128;
    for same in weights.chunk_by(|one, next| one.0 == next.0) {
        keys.push((same[0].0, before));
        before += same.iter().map(|(_, rows)| u128::from(*rows)).sum::<u128>();
    }
    let nearest = |range: usize| {
        let wanted = total * range as u128 / partitions as u128;
        let after = keys.partition_point(|(_, before)| *before < wanted);
        let end = keys.get(after).map_or(total, |(_, before)| *before);
        // No range begins with the first key, before which there is nothing.
        let is_nearer = after > 1 && wanted - keys[after - 1].1 < end - wanted;
        keys.get(after - usize::from(is_nearer)).map(|(key, _)| Box::from(*key))
    };
    let mut bounds: Vec<_> = (1..partitions).map_while(nearest).collect();
    bounds.dedup();
    bounds
}

/// The first frame of a lane that may hold rows of a range; `None` when none does.
///
/// A sample that was cut is less than a bound only if its whole key is: no bound has more bytes than it.
fn first_frame(samples: &[Sample], range: &Range) -> Option<u32> {
    let first = samples.first()?;
    if range.upper.as_ref().is_some_and(|upper| first.key >= *upper) {
        return None;
    }
    let lower = range.lower.as_deref().unwrap_or_default();
    let before = samples.partition_point(|sample| *sample.key < *lower);
    Some(samples[before.saturating_sub(1)].frame)
}

#[cfg(test)]
mod tests {
    use firesteel_base::{AttemptKey, Epoch, JobId, StageId};

    use super::*;

    /// Samples of a lane: keys of one letter, each with its rows and its frame.
    fn lane(number: u32, samples: &[(u8, u64, u32)]) -> Lane {
        let samples = samples.iter().map(|&(key, rows, frame)| Sample { rows, frame, key: Box::new([key]) });
        let producer = AttemptKey::new(JobId(1), StageId(0), number, 0);
        let holder = Holder {
            executor: "w/e0".parse().unwrap(),
            epoch: Epoch(1),
            address: String::new(),
            keeper: String::new(),
        };
        let told = Some(Told { samples: samples.collect() });
        Lane { holder, block: BlockKey { producer, lane: 0, partition: 0 }, told }
    }

    fn starts(splits: &Splits) -> String {
        splits.bounds.iter().map(|bound| bound[0] as char).collect()
    }

    fn read(splits: &Splits, partition: usize) -> Vec<(u32, u32)> {
        let blocks = splits.blocks(partition);
        blocks.map(|(_, block, frame)| (block.producer.task.task, frame)).collect()
    }

    #[test]
    fn ranges_have_about_as_many_rows() {
        let lanes = || {
            vec![
                lane(0, &[(b'a', 10, 0), (b'c', 10, 1), (b'e', 10, 2), (b'g', 10, 2)]),
                lane(1, &[(b'b', 10, 0), (b'd', 10, 3), (b'f', 10, 4), (b'h', 10, 9)]),
            ]
        };
        let splits = Splits::new(lanes(), 4);
        assert_eq!(starts(&splits), "dfh");
        // Rows before a sample that is less than the bound are not read; those after it may be in the range.
        assert_eq!(read(&splits, 0), [(0, 0), (1, 0)]);
        assert_eq!(read(&splits, 1), [(0, 1), (1, 0)]);
        assert_eq!(read(&splits, 2), [(0, 2), (1, 3)]);
        assert_eq!(read(&splits, 3), [(0, 2), (1, 4)]);
        let mut other_order = lanes();
        other_order.reverse();
        assert_eq!(starts(&Splits::new(other_order, 4)), "dfh");
    }

    /// What is not known of each lane must not add up.
    #[test]
    fn no_range_is_much_larger_than_others() {
        let (lanes, rows, partitions) = (8_u32, 20_000_u32, 16);
        let mut keys = Vec::new();
        let told = (0..lanes).map(|number| {
            let mut of_lane: Vec<u32> =
                (0..rows).map(|row| (number * rows + row).wrapping_mul(0x9E37_79B1)).collect();
            of_lane.sort_unstable();
            let sample = |keys: &[u32]| Sample {
                rows: keys.len() as u64,
                frame: 0,
                key: Box::new(keys[0].to_be_bytes()),
            };
            let samples = of_lane.chunks(64).map(sample).collect();
            keys.extend(of_lane);
            Lane { told: Some(Told { samples }), ..lane(number, &[]) }
        });
        let splits = Splits::new(told.collect(), partitions);
        for partition in 0..partitions {
            let Range { lower, upper } = splits.range(partition).unwrap();
            let is_in = |key: &&u32| {
                let key = key.to_be_bytes();
                lower.as_ref().is_none_or(|lower| **lower <= key[..])
                    && upper.as_ref().is_none_or(|upper| key[..] < **upper)
            };
            let found = keys.iter().filter(is_in).count();
            assert!((9_000..11_000).contains(&found), "{found} of 10,000 in range {partition}");
        }
    }

    #[test]
    fn rows_of_one_key_stay_together() {
        let lanes = vec![lane(0, &[(b'a', 1, 0), (b'm', 50, 0), (b'm', 50, 5)]), lane(1, &[(b'm', 99, 0)])];
        let splits = Splits::new(lanes, 4);
        assert_eq!(starts(&splits), "m");
        assert!(splits.range(0).is_some() && splits.range(1).is_some());
        assert_eq!((splits.range(2), splits.range(3)), (None, None));
        assert_eq!(read(&splits, 0), [(0, 0)]);
        assert_eq!(read(&splits, 1), [(0, 0), (1, 0)]);
    }

    #[test]
    fn ranges_that_would_begin_alike_are_one() {
        let lanes = vec![lane(0, &[(b'a', 40, 0), (b'b', 100, 0), (b'c', 20, 0)])];
        let splits = Splits::new(lanes, 8);
        let filled: Vec<_> = (0..8).filter_map(|partition| splits.range(partition)).collect();
        assert!(filled.windows(2).all(|pair| pair[0].upper == pair[1].lower), "{filled:?}");
        assert_eq!((filled[0].lower.clone(), filled.last().unwrap().upper.clone()), (None, None));
    }

    #[test]
    fn what_told_nothing_is_in_the_first_range() {
        let untold = Lane { told: None, ..lane(0, &[]) };
        let splits = Splits::new(vec![untold], 3);
        assert_eq!(splits.range(0), Some(Range { lower: None, upper: None }));
        assert_eq!((splits.range(1), splits.range(2)), (None, None));
        assert_eq!((read(&splits, 0), read(&splits, 1)), (vec![(0, 0)], vec![]));
    }
}
