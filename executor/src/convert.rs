//! Between wire messages and the types of shuffle and engine; what drivers send and hear of blocks too.

use std::ops::Range;

use firesteel_base::{AttemptKey, Epoch, ExecutorId, StageId};
use firesteel_engine::run::{StageInput, TaskError, TaskMetrics};
use firesteel_protocol::{MalformedMessage, required, v1};
use firesteel_shuffle::{BlockKey, Holder, KeysOf, LaneSizes, LanesOf, MapOutput, Part, SizesParts, Slice};

pub(crate) fn holder(wire: &v1::ExecutorRef) -> Result<Holder, MalformedMessage> {
    let id = required(wire.id.as_ref(), "ExecutorRef.id")?;
    Ok(Holder {
        executor: ExecutorId::try_from(id)?,
        epoch: Epoch(wire.epoch),
        address: wire.shuffle_address.clone(),
        keeper: wire.keeper_address.clone(),
    })
}

fn wire_holder(holder: &Holder) -> v1::ExecutorRef {
    v1::ExecutorRef {
        id: Some((&holder.executor).into()),
        epoch: holder.epoch.0,
        control_address: String::new(),
        shuffle_address: holder.address.clone(),
        keeper_address: holder.keeper.clone(),
    }
}

/// The sizes of what a lane wrote, as they came.
///
/// # Errors
/// When they contradict each other.
pub fn lane_sizes(wire: &v1::LaneOutput) -> Result<LaneSizes, MalformedMessage> {
    let malformed = |reason: String| MalformedMessage::new("LaneOutput", reason);
    if wire.large.len() != wire.large_bytes.len() {
        return Err(malformed("not every large block has a size".to_owned()));
    }
    let parts = SizesParts {
        partitions: wire.partitions,
        rows: wire.rows,
        bytes: wire.bytes,
        large: wire.large.iter().copied().zip(wire.large_bytes.iter().copied()).collect(),
        all: wire.all,
        some: wire.some.to_vec(),
    };
    LaneSizes::from_parts(parts).map_err(|fault| malformed(fault.to_string()))
}

/// The sizes of what a lane wrote, to be sent.
#[must_use]
pub fn wire_lane_sizes(sizes: &LaneSizes) -> v1::LaneOutput {
    let SizesParts { partitions, rows, bytes, large, all, some } = sizes.to_parts();
    let (large, large_bytes) = large.into_iter().unzip();
    v1::LaneOutput { partitions, rows, bytes, large, large_bytes, all, some: some.into() }
}

/// What a lane reads, to be sent.
#[must_use]
pub fn wire_slice(slice: &Slice) -> v1::Slice {
    let Range { start, end } = slice.partitions;
    let whole = v1::Slice { first_partition: start, partitions: end - start, part: None, keys: None };
    match &slice.part {
        None => whole,
        Some(Part::Lanes(LanesOf { stage, lanes })) => {
            let (stage, first_lane) = (stage.0, lanes.start);
            let part = Some(v1::LanesOf { stage, first_lane, lanes: lanes.end - first_lane });
            v1::Slice { part, ..whole }
        }
        Some(Part::Keys(KeysOf { part, parts })) => {
            v1::Slice { partitions: 0, keys: Some(v1::KeysOf { part: *part, parts: *parts }), ..whole }
        }
    }
}

pub(crate) fn slice(wire: &v1::Slice) -> Result<Slice, MalformedMessage> {
    let range = |first: u32, count: u32| match first.checked_add(count) {
        Some(end) if count > 0 => Ok(first..end),
        _ => Err(MalformedMessage::new("Slice", format!("{count} from {first} on"))),
    };
    match (&wire.part, &wire.keys) {
        (None, None) => Ok(Slice::whole(range(wire.first_partition, wire.partitions)?)),
        (Some(part), None) => {
            let lanes = LanesOf { stage: StageId(part.stage), lanes: range(part.first_lane, part.lanes)? };
            let partitions = range(wire.first_partition, wire.partitions)?;
            Ok(Slice { partitions, part: Some(Part::Lanes(lanes)) })
        }
        (None, Some(keys)) if wire.partitions == 0 && keys.part < keys.parts => {
            let keys = KeysOf { part: keys.part, parts: keys.parts };
            Ok(Slice { partitions: range(wire.first_partition, 1)?, part: Some(Part::Keys(keys)) })
        }
        (_, Some(keys)) => {
            Err(MalformedMessage::new("Slice.keys", format!("{} of {}", keys.part, keys.parts)))
        }
    }
}

pub(crate) fn map_output(wire: &v1::MapOutput) -> Result<MapOutput, MalformedMessage> {
    Ok(MapOutput {
        producer: AttemptKey::from(required(wire.producer.as_ref(), "MapOutput.producer")?),
        holder: holder(required(wire.holder.as_ref(), "MapOutput.holder")?)?,
        lanes: wire.lanes.iter().map(lane_sizes).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn stage_input(wire: &v1::StageInput) -> Result<StageInput, MalformedMessage> {
    let outputs = wire.outputs.iter().map(map_output).collect::<Result<_, _>>()?;
    Ok(StageInput { stage: StageId(wire.stage), outputs, coming: wire.coming })
}

pub(crate) fn wire_failure(fault: TaskError) -> v1::Failure {
    let fetch = fault.fetch.map(|(block, holder)| wire_fetch_failure(block, &holder));
    v1::Failure { fetch, ..v1::Failure::of(fault.class, fault.error) }
}

fn wire_fetch_failure(block: BlockKey, holder: &Holder) -> v1::FetchFailure {
    v1::FetchFailure {
        producer: Some(block.producer.into()),
        lane: block.lane,
        partition: block.partition,
        holder: Some(wire_holder(holder)),
    }
}

pub(crate) fn wire_metrics(metrics: &TaskMetrics, elapsed_ms: u64, peak_memory: u64) -> v1::AttemptMetrics {
    let operators = metrics.operators.as_ref();
    v1::AttemptMetrics {
        rows_out: metrics.rows_out,
        bytes_out: metrics.bytes_out,
        bytes_fetched: metrics.bytes_fetched,
        spilled_bytes: metrics.spilled_bytes,
        bytes_read: metrics.bytes_read,
        bytes_copied: metrics.bytes_copied,
        elapsed_ms,
        peak_memory,
        operators_json: operators
            .map(|operators| serde_json::to_string(operators).expect("plain data becomes JSON"))
            .unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "../../fuzz/src"]
mod tests {
    #[path = "change.rs"]
    #[allow(dead_code)] // each test program uses its part
    mod change;

    use change::{Numbers, change_bytes};
    use prost::Message;

    use super::*;

    /// Where an output lies, with numbers that may contradict each other.
    fn input(n: &mut Numbers) -> v1::StageInput {
        let large: Vec<u32> = (0..n.below(4) as u32).map(|at| 3 * at + n.below(3) as u32).collect();
        let lane = v1::LaneOutput {
            partitions: n.number() as u32,
            rows: n.number(),
            bytes: n.number(),
            large_bytes: large.iter().map(|_| n.next() % 100).collect(),
            large,
            all: n.below(2) == 0,
            some: vec![0xff; n.below(3)].into(),
        };
        let id = Some(v1::ExecutorId { worker: "w".to_owned(), index: n.number() as u32 });
        let holder = v1::ExecutorRef { id, epoch: n.number(), ..v1::ExecutorRef::default() };
        let output = v1::MapOutput {
            producer: Some(v1::AttemptKey { job: n.number(), ..v1::AttemptKey::default() }),
            holder: Some(holder),
            lanes: vec![lane],
        };
        v1::StageInput { stage: n.number() as u32, outputs: vec![output], coming: n.below(2) == 0 }
    }

    #[test]
    fn what_drivers_say_of_blocks_is_taken_or_refused() {
        let mut taken = 0;
        for seed in 0..4000 {
            let n = &mut Numbers::new(seed);
            let mut bytes = input(n).encode_to_vec();
            for _ in 0..n.below(3) {
                change_bytes(&mut bytes, n);
            }
            let Ok(wire) = v1::StageInput::decode(bytes.as_slice()) else { continue };
            let Ok(input) = stage_input(&wire) else { continue };
            for sizes in input.outputs.iter().flat_map(|output| &output.lanes) {
                assert_eq!(lane_sizes(&wire_lane_sizes(sizes)).as_ref(), Ok(sizes), "seed {seed}");
                let last = sizes.partitions().saturating_sub(1);
                assert!([0, last].iter().all(|&block| sizes.bytes_of(block) <= sizes.bytes()), "seed {seed}");
                taken += 1;
            }
        }
        assert!(taken > 100, "{taken} lanes");
    }

    #[test]
    fn what_a_lane_reads_is_taken_or_refused() {
        for seed in 0..4000 {
            let n = &mut Numbers::new(seed);
            let mut number = || n.number() as u32;
            let part = v1::LanesOf { stage: number(), first_lane: number(), lanes: number() };
            let wire = v1::Slice {
                first_partition: number(),
                partitions: number(),
                part: Some(part),
                ..v1::Slice::default()
            };
            if let Ok(slice) = slice(&wire) {
                assert_eq!(wire_slice(&slice), wire, "seed {seed}");
            }
        }
    }

    #[test]
    fn slices_come_over_the_wire_as_they_were() {
        let lanes = LanesOf { stage: StageId(3), lanes: 2..5 };
        for wanted in [
            Slice::whole(4..9),
            Slice { partitions: 4..5, part: Some(Part::Lanes(lanes)) },
            Slice { partitions: 4..5, part: Some(Part::Keys(KeysOf { part: 1, parts: 3 })) },
        ] {
            assert_eq!(slice(&wire_slice(&wanted)).unwrap(), wanted);
        }
    }

    /// One that knows nothing of keys would read all of them: as it sees the slice, it is of no partition.
    #[test]
    fn a_slice_of_keys_is_malformed_for_who_does_not_know_them() {
        let part = Some(Part::Keys(KeysOf { part: 0, parts: 2 }));
        let said = wire_slice(&Slice { partitions: 4..5, part });
        let without = v1::Slice { keys: None, ..said };
        assert!(slice(&without).unwrap_err().to_string().contains("0 from 4 on"));
        for (part, parts, partitions) in [(2, 2, 0), (0, 0, 0), (0, 2, 1)] {
            let keys = Some(v1::KeysOf { part, parts });
            assert!(slice(&v1::Slice { keys, partitions, ..said }).is_err(), "{part} of {parts}");
        }
    }
}
