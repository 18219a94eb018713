//! Which blocks a lane reads of an exchange, of which some may still be written.

use std::ops::Range;

use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use firesteel_base::StageId;
use firesteel_shuffle::{BlockKey, Holder, MapOutput, Part, Slice};
use futures::stream::{self, Stream};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::watch;

use super::ReadKind;
use crate::run::Arrived;

/// What one partition of a read wants of an exchange.
pub(super) struct Wanted {
    pub stage: StageId,
    pub kind: ReadKind,
    /// What it reads, where that is not the exchange's partition of its number.
    pub slice: Option<Slice>,
    /// Its number.
    pub partition: usize,
}

impl Wanted {
    /// The blocks that hold rows, as the outputs come that they are in. Ends when all have come.
    pub fn blocks(
        self,
        arrived: watch::Receiver<Arrived>,
    ) -> impl Stream<Item = Result<(Holder, BlockKey)>> + Send {
        let state = (self, arrived, 0, false);
        let come = stream::try_unfold(state, |(wanted, mut arrived, seen, ended)| async move {
            if ended {
                return Ok::<_, DataFusionError>(None);
            }
            let needs_all = wanted.needs_all();
            let has_more = |now: &Arrived| now.is_complete || (!needs_all && now.outputs.len() > seen);
            let (blocks, seen, ended) = {
                let now = arrived.wait_for(has_more).await.map_err(|_| gone(wanted.stage))?;
                (wanted.blocks_in(&now.outputs[seen..])?, now.outputs.len(), now.is_complete)
            };
            Ok(Some((blocks, (wanted, arrived, seen, ended))))
        });
        come.map_ok(|blocks| stream::iter(blocks).map(Ok)).try_flatten()
    }

    /// Whether lanes are counted over all outputs, so that none may be missing.
    fn needs_all(&self) -> bool {
        let part = self.slice.as_ref().and_then(|slice| slice.part.as_ref());
        matches!(self.kind, ReadKind::Lane) || matches!(part, Some(Part::Lanes(_)))
    }

    fn blocks_in(&self, outputs: &[MapOutput]) -> Result<Vec<(Holder, BlockKey)>> {
        let mut outputs: Vec<_> = outputs.iter().collect();
        outputs.sort_by_key(|output| output.producer.task.task);
        let mut blocks = Vec::new();
        let mut lanes_before = 0;
        for output in outputs {
            for (lane, written) in output.lanes.iter().enumerate() {
                let wanted = self.partitions_of_lane(lanes_before + lane);
                if wanted.end > written.partitions() {
                    let producer = output.producer;
                    return internal_err!("{producer} has no partition {}", wanted.end - 1);
                }
                let filled = wanted.filter(|&partition| written.holds(partition));
                blocks.extend(filled.map(|partition| {
                    let key = BlockKey { producer: output.producer, lane: number(lane), partition };
                    (output.holder.clone(), key)
                }));
            }
            lanes_before += output.lanes.len();
        }
        Ok(blocks)
    }

    /// The partitions that are read of a lane, counted over all outputs.
    fn partitions_of_lane(&self, lane: usize) -> Range<u32> {
        match (&self.kind, &self.slice) {
            (ReadKind::Partition, None) => number(self.partition)..number(self.partition + 1),
            (ReadKind::Partition, Some(slice)) if slice.reads_lane(self.stage, number(lane)) => {
                slice.partitions.clone()
            }
            (ReadKind::All { partitions }, _) => 0..number(*partitions),
            (ReadKind::Lane, _) if lane == self.partition => 0..1,
            (ReadKind::Partition | ReadKind::Lane | ReadKind::Range(_), _) => 0..0,
        }
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("lanes and partitions fit in 32 bits")
}

fn gone(stage: StageId) -> DataFusionError {
    DataFusionError::Internal(format!("nobody says any more where the output of {stage} lies"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use firesteel_base::{AttemptKey, Epoch};
    use firesteel_shuffle::{BlockStat, LaneOutput, LaneSizes, LanesOf};
    use futures::FutureExt;

    use super::*;
    use crate::run::{StageInput, TaskInputs};

    const STAGE: StageId = StageId(3);

    fn output(task: u32) -> MapOutput {
        let block = BlockStat { rows: 1, bytes: 10 };
        let lane = || LaneSizes::of(&LaneOutput { partitions: vec![block; 4] });
        MapOutput {
            producer: AttemptKey::new(firesteel_base::JobId(1), STAGE, task, 0),
            holder: Holder {
                executor: "w/e0".parse().unwrap(),
                epoch: Epoch(1),
                address: String::new(),
                keeper: String::new(),
            },
            lanes: vec![lane(), lane()],
        }
    }

    fn input(tasks: &[u32], coming: bool) -> StageInput {
        StageInput { stage: STAGE, outputs: tasks.iter().map(|task| output(*task)).collect(), coming }
    }

    fn wanted(kind: ReadKind, slice: Option<Slice>) -> Wanted {
        Wanted { stage: STAGE, kind, slice, partition: 1 }
    }

    type Block = (u32, u32, u32);

    fn place((_, key): (Holder, BlockKey)) -> Block {
        (key.producer.task.task, key.lane, key.partition)
    }

    /// All that comes without waiting.
    fn ready(blocks: &mut (impl Stream<Item = Result<(Holder, BlockKey)>> + Unpin)) -> (Vec<Block>, bool) {
        let mut come = Vec::new();
        while let Some(next) = blocks.next().now_or_never() {
            match next {
                Some(block) => come.push(place(block.unwrap())),
                None => return (come, true),
            }
        }
        (come, false)
    }

    #[test]
    fn blocks_come_with_their_outputs_each_once_and_then_it_ends() {
        let inputs = TaskInputs::new(vec![input(&[2, 0], true)]);
        let mut blocks = wanted(ReadKind::Partition, None).blocks(inputs.follow(STAGE).unwrap()).boxed();
        assert_eq!(ready(&mut blocks), (vec![(0, 0, 1), (0, 1, 1), (2, 0, 1), (2, 1, 1)], false));
        // Said again, as after a connection was lost.
        inputs.add(input(&[0, 2], true));
        assert_eq!(ready(&mut blocks), (vec![], false));
        inputs.add(input(&[1], false));
        assert_eq!(ready(&mut blocks), (vec![(1, 0, 1), (1, 1, 1)], true));
    }

    #[test]
    fn what_counts_lanes_over_all_outputs_waits_for_all_of_them() {
        let part = LanesOf { stage: STAGE, lanes: 1..3 };
        let slice = Slice { partitions: 2..4, part: Some(Part::Lanes(part)) };
        let cases = [
            (wanted(ReadKind::Lane, None), vec![(0, 1, 0)]),
            (wanted(ReadKind::Partition, Some(slice)), vec![(0, 1, 2), (0, 1, 3), (1, 0, 2), (1, 0, 3)]),
        ];
        for (wanted, expected) in cases {
            let inputs = TaskInputs::new(vec![input(&[1], true)]);
            let mut blocks = wanted.blocks(inputs.follow(STAGE).unwrap()).boxed();
            assert_eq!(ready(&mut blocks), (vec![], false));
            inputs.add(input(&[0], false));
            assert_eq!(ready(&mut blocks), (expected, true));
        }
    }

    #[tokio::test]
    async fn who_waits_for_outputs_is_woken_and_hears_when_none_can_come_any_more() {
        let inputs = TaskInputs::new(vec![input(&[], true)]);
        let mut blocks = wanted(ReadKind::Partition, None).blocks(inputs.follow(STAGE).unwrap()).boxed();
        let reader = tokio::spawn(async move {
            let first = blocks.next().await.unwrap().map(place).unwrap();
            let rest: Vec<_> = blocks.collect().await;
            (first, rest)
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        inputs.add(input(&[0], true));
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(inputs);
        let (first, mut rest) = reader.await.unwrap();
        assert_eq!(first, (0, 0, 1));
        let last = rest.pop().unwrap().unwrap_err().to_string();
        assert!(last.contains("nobody says any more"), "{last}");
        assert_eq!(rest.len(), 1);
    }
}
