//! Which partitions each lane of a stage reads: small ones together, skewed ones in parts.

use std::ops::Range;

use firesteel_base::StageId;
use firesteel_engine::stage::adapt::{AdaptLimits, Adapts};
use firesteel_shuffle::{KeysOf, LaneSizes, LanesOf, Part, Slice};

/// A partition is skewed when it has so many times the bytes of the median one.
const SKEW: u64 = 4;

/// Beyond so many bytes, what a lane costs is nothing beside what it does.
const TOGETHER_MAX: u64 = 16 << 20;

/// An exchange that a stage is divided as.
pub(super) struct Divided<'a> {
    /// The stage that wrote it.
    pub stage: StageId,
    /// Bytes of each partition.
    pub bytes: Vec<u64>,
    /// The lanes that wrote it.
    pub lanes: Vec<&'a LaneSizes>,
}

/// What each lane reads of exchanges that are divided alike; none when that is as planned.
pub(super) fn decide(adapts: &Adapts, inputs: &[Divided<'_>]) -> Option<Vec<Slice>> {
    let partitions = inputs.first()?.bytes.len();
    let total = |partition: usize| inputs.iter().map(|input| input.bytes[partition]).sum::<u64>();
    let totals: Vec<_> = (0..partitions).map(total).collect();
    let limits = &adapts.limits;
    let by_lanes = inputs
        .iter()
        .find(|input| Some(input.stage) == adapts.splits)
        .map(|input| (input, skewed_above(limits.split_above, &input.bytes)));
    let by_key = adapts.by_key.then(|| skewed_above(limits.split_above, &totals));
    let bytes_max = together_max(limits, totals.iter().sum());
    let is_several = |parts: &Vec<Part>| parts.len() > 1;
    let mut groups = Groups { slices: Vec::new(), open: 0..0, bytes: 0, bytes_max };
    for (number, &total) in (0..).zip(&totals) {
        let of_lanes = by_lanes.map(|(input, above)| lane_parts(input, number, above, total));
        let of_keys = || by_key.map(|above| key_parts(total, above, limits.key_parts_max));
        match of_lanes.filter(is_several).or_else(of_keys).filter(is_several) {
            Some(parts) => groups.close_with(number, parts),
            None => groups.add(number, total),
        }
    }
    groups.close();
    let slices = groups.slices;
    let as_planned = slices.len() == partitions && count_divided(&slices).0 == 0;
    (!as_planned).then_some(slices)
}

/// Partitions that are read in parts, and how many of them by key.
pub(super) fn count_divided(slices: &[Slice]) -> (u32, u32) {
    let count = |is_first: fn(&Part) -> bool| {
        let firsts = slices.iter().filter_map(|slice| slice.part.as_ref()).filter(|part| is_first(part));
        u32::try_from(firsts.count()).expect("partitions fit in 32 bits")
    };
    let by_key = count(|part| matches!(part, Part::Keys(keys) if keys.part == 0));
    let by_lanes = count(|part| matches!(part, Part::Lanes(of) if of.lanes.start == 0));
    (by_lanes + by_key, by_key)
}

/// Up to how many bytes are read together of `bytes` in all. What a lane costs however little it reads is worth its while only
/// as long as there are few for each core.
fn together_max(limits: &AdaptLimits, bytes: u64) -> u64 {
    if limits.merge_below == 0 {
        return 0;
    }
    let for_few_lanes = bytes / limits.merge_beyond.max(1);
    limits.merge_below.max(for_few_lanes.min(TOGETHER_MAX))
}

/// From how many bytes on a partition is skewed.
fn skewed_above(split_above: u64, bytes: &[u64]) -> u64 {
    if split_above == 0 {
        return u64::MAX;
    }
    let mut sorted = bytes.to_vec();
    sorted.sort_unstable();
    split_above.max(SKEW * sorted[sorted.len() / 2])
}

/// How many lanes should read a partition: a part of a skewed one is about as large as the median partition.
fn parts_wanted(bytes: u64, skewed_above: u64) -> u64 {
    if bytes > skewed_above { bytes.div_ceil((skewed_above / SKEW).max(1)) } else { 1 }
}

/// The lanes that wrote a skewed partition in consecutive runs of about the same bytes, each of which one lane reads. What else of
/// the `total` bytes is in the partition is read again with each run, and must not become more than what is divided.
fn lane_parts(input: &Divided<'_>, partition: u32, skewed_above: u64, total: u64) -> Vec<Part> {
    let bytes = input.bytes[partition as usize];
    let others = total - bytes;
    let wanted = parts_wanted(bytes, skewed_above);
    let affordable = 1 + bytes.checked_div(others).unwrap_or(u64::MAX - 1);
    let count = wanted.min(affordable).min(input.lanes.len() as u64).max(1);
    let mut parts = Vec::new();
    let (mut start, mut seen) = (0, 0);
    for (lane, sizes) in (1..).zip(&input.lanes) {
        seen += sizes.bytes_of(partition);
        let is_last = lane as usize == input.lanes.len();
        // Whether so many parts as have been made, and this one, should have come to here.
        let is_due = u128::from(seen) * u128::from(count) >= u128::from(bytes) * (parts.len() as u128 + 1);
        if is_last || (is_due && (parts.len() as u64 + 1) < count) {
            parts.push(Part::Lanes(LanesOf { stage: input.stage, lanes: start..lane }));
            start = lane;
        }
    }
    parts
}

/// The keys of a skewed partition in parts, each of which one lane picks out of all of its bytes.
fn key_parts(bytes: u64, skewed_above: u64, parts_max: u32) -> Vec<Part> {
    let wanted = parts_wanted(bytes, skewed_above);
    let parts = u32::try_from(wanted).map_or(parts_max, |wanted| wanted.min(parts_max));
    (0..parts).map(|part| Part::Keys(KeysOf { part, parts })).collect()
}

/// Neighbouring partitions that are read together.
struct Groups {
    slices: Vec<Slice>,
    open: Range<u32>,
    bytes: u64,
    bytes_max: u64,
}

impl Groups {
    fn add(&mut self, partition: u32, bytes: u64) {
        if self.open.is_empty() || self.bytes_max == 0 || self.bytes + bytes > self.bytes_max {
            self.close();
            self.open = partition..partition;
        }
        self.open.end = partition + 1;
        self.bytes += bytes;
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.slices.push(Slice::whole(self.open.clone()));
        }
        (self.open, self.bytes) = (0..0, 0);
    }

    fn close_with(&mut self, partition: u32, parts: Vec<Part>) {
        self.close();
        let partitions = partition..partition + 1;
        let part = |part| Slice { partitions: partitions.clone(), part: Some(part) };
        self.slices.extend(parts.into_iter().map(part));
    }
}

#[cfg(test)]
mod tests {
    use firesteel_shuffle::{BlockStat, LaneOutput};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const READ: StageId = StageId(1);
    const SPLIT: StageId = StageId(2);

    fn adapts(merge_below: u64, split_above: u64) -> Adapts {
        let limits = AdaptLimits { merge_below, split_above, ..AdaptLimits::NEVER };
        Adapts { divided: vec![READ, SPLIT], splits: Some(SPLIT), limits, ..Adapts::default() }
    }

    fn lanes(bytes: &[Vec<u64>]) -> Vec<LaneSizes> {
        let block = |&bytes: &u64| BlockStat { rows: bytes.min(1), bytes };
        let lane =
            |bytes: &Vec<u64>| LaneSizes::of(&LaneOutput { partitions: bytes.iter().map(block).collect() });
        bytes.iter().map(lane).collect()
    }

    fn divided(stage: StageId, lanes: &[LaneSizes], partitions: usize) -> Divided<'_> {
        let mut bytes = vec![0; partitions];
        lanes.iter().for_each(|lane| lane.add_to(&mut bytes));
        Divided { stage, bytes, lanes: lanes.iter().collect() }
    }

    fn shown(adapts: &Adapts, read: &[Vec<u64>], split: &[Vec<u64>]) -> Option<String> {
        let partitions = split[0].len();
        let (read, split) = (lanes(read), lanes(split));
        let inputs = [divided(READ, &read, partitions), divided(SPLIT, &split, partitions)];
        let slices = decide(adapts, &inputs)?;
        Some(slices.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn small_neighbours_are_read_together_and_large_ones_as_planned() {
        let read = [vec![1; 6]];
        assert_eq!(shown(&adapts(10, 0), &read, &[vec![1; 6]]).unwrap(), "0..5; 5..6");
        assert_eq!(shown(&adapts(10, 0), &read, &[vec![1, 1, 90, 1, 1, 1]]).unwrap(), "0..2; 2..3; 3..6");
        assert_eq!(shown(&adapts(10, 0), &read, &[vec![90; 6]]), None);
        assert_eq!(shown(&adapts(0, 0), &[vec![0; 3]], &[vec![1, 0, 7]]), None, "never");
        assert_eq!(
            shown(&adapts(10, 0), &[vec![0; 3]], &[vec![0; 3]]).unwrap(),
            "0..3",
            "nothing is read once"
        );
    }

    #[test]
    fn partitions_beyond_what_cores_can_use_are_read_together() {
        let limits = AdaptLimits { merge_below: 10, merge_beyond: 4, ..AdaptLimits::NEVER };
        let adapts = Adapts { limits, ..adapts(0, 0) };
        let few = |bytes: u64| shown(&adapts, &[vec![0; 8]], &[vec![bytes; 8]]);
        assert_eq!(few(100).unwrap(), "0..2; 2..4; 4..6; 6..8");
        assert_eq!(few(TOGETHER_MAX), None, "large ones are read as planned");
        assert_eq!(shown(&adapts, &[vec![0; 4]], &[vec![100; 4]]), None, "no more than cores can use");
    }

    #[test]
    fn a_skewed_partition_is_read_in_parts_of_the_lanes_that_wrote_it() {
        let split = vec![vec![100, 10, 10]; 8];
        let shown = shown(&adapts(0, 200), &[vec![1; 3]], &split).unwrap();
        assert_eq!(
            shown,
            "0..1 of stage 2's lanes 0..1; 0..1 of stage 2's lanes 1..2; 0..1 of stage 2's lanes 2..3; \
             0..1 of stage 2's lanes 3..4; 0..1 of stage 2's lanes 4..5; 0..1 of stage 2's lanes 5..6; \
             0..1 of stage 2's lanes 6..7; 0..1 of stage 2's lanes 7..8; 1..2; 2..3"
                .replace("stage 2", &SPLIT.to_string())
        );
    }

    #[test]
    fn what_would_be_read_again_too_often_bounds_the_parts() {
        let split = vec![vec![100, 10, 10]; 8];
        let parts = |other: u64| {
            let shown = shown(&adapts(0, 200), &[vec![other, 1, 1]], &split);
            shown.map_or(1, |shown| shown.matches(" of ").count())
        };
        assert_eq!((parts(1), parts(400), parts(800), parts(801)), (8, 3, 2, 1));
    }

    fn by_key(parts_max: u32) -> Adapts {
        let limits = AdaptLimits { key_parts_max: parts_max, ..adapts(0, 200).limits };
        Adapts { splits: None, by_key: true, limits, ..adapts(0, 200) }
    }

    #[test]
    fn where_lanes_cannot_be_told_apart_a_skewed_partition_is_read_in_parts_by_key() {
        // The bytes of both inputs count: all of them are divided.
        let shown = |parts_max| shown(&by_key(parts_max), &[vec![300, 10, 10]], &[vec![100, 10, 10]]);
        assert_eq!(shown(3).unwrap(), "0..1 of keys 0/3; 0..1 of keys 1/3; 0..1 of keys 2/3; 1..2; 2..3");
        assert_eq!(shown(100).unwrap().matches("/8;").count(), 8, "a part is as large as others may be");
        assert_eq!((shown(1), shown(0)), (None, None));
    }

    #[test]
    fn lanes_are_told_apart_rather_than_keys_where_that_is_worth_while() {
        let adapts = Adapts { splits: Some(SPLIT), ..by_key(2) };
        let split = vec![vec![100, 10, 10]; 8];
        let shown = |other| shown(&adapts, &[vec![other, 1, 1]], &split).unwrap();
        assert!(shown(1).starts_with(&format!("0..1 of {SPLIT}'s lanes 0..1;")), "{}", shown(1));
        assert_eq!(shown(801), "0..1 of keys 0/2; 0..1 of keys 1/2; 1..2; 2..3");
    }

    #[test]
    fn even_partitions_are_not_skewed_however_large() {
        assert_eq!(shown(&adapts(0, 10), &[vec![1; 3]], &[vec![1000, 1000, 1900]]), None);
    }

    proptest! {
        #[test]
        fn every_lane_of_every_partition_is_read_once(
            split in (1_usize..20).prop_flat_map(|partitions| vec(vec(0_u64..2000, partitions), 1..12)),
            merge_below in 0_u64..4000,
            split_above in 0_u64..4000,
            other in 0_u64..500,
            by_key in any::<bool>(),
            key_parts_max in 0_u32..6,
        ) {
            let partitions = split[0].len();
            let (read, split) = (lanes(&[vec![other; partitions]]), lanes(&split));
            let inputs = [divided(READ, &read, partitions), divided(SPLIT, &split, partitions)];
            let planned = (0..partitions).map(|p| Slice::whole(p as u32..p as u32 + 1)).collect();
            let adapts = adapts(merge_below, split_above);
            let limits = AdaptLimits { key_parts_max, ..adapts.limits };
            let splits = adapts.splits.filter(|_| other < 250);
            let adapts = Adapts { by_key, splits, limits, ..adapts };
            let slices = decide(&adapts, &inputs).unwrap_or(planned);
            for partition in 0..partitions as u32 {
                let of_it = slices.iter().filter(|slice| slice.partitions.contains(&partition));
                let of_it: Vec<_> = of_it.collect();
                let keys: Vec<_> = of_it.iter().filter_map(|slice| slice.keys()).collect();
                let parts = keys.len().max(1);
                for (part, keys) in (0..).zip(&keys) {
                    prop_assert_eq!((keys.part, keys.parts as usize, of_it.len()), (part, parts, parts));
                }
                for lane in 0..split.len() as u32 {
                    let readers = of_it.iter().filter(|slice| slice.reads_lane(SPLIT, lane)).count();
                    prop_assert_eq!(readers, parts, "lane {} of partition {}", lane, partition);
                }
                // The other side is read whole with each part.
                prop_assert!(of_it.iter().all(|slice| slice.reads_lane(READ, 0)));
                prop_assert!(of_it.len() == 1 || of_it.iter().all(|slice| slice.partitions.len() == 1));
            }
            prop_assert!(slices.iter().all(|slice| !slice.partitions.is_empty()));
        }
    }
}
