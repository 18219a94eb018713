//! Blocks of more than 4 GiB: what counts their bytes has 64 bits. One frame stands for all of theirs.

use std::sync::Arc;

use arrow_schema::Schema;
use bytes::Bytes;
use firesteel_base::{AttemptKey, ByteSize, JobId, MemoryBudget, StageId};

use super::{BlockStore, Cell, StoreConfig};
use crate::format::Frame;
use crate::key::{BlockKey, BlockStat, LaneOutput};

#[test]
fn blocks_pass_two_and_four_gigabytes() {
    const FRAME_BYTES: usize = 64 << 20;
    let budget = MemoryBudget::new(ByteSize(1 << 40));
    let store = BlockStore::new(StoreConfig { budget, memory_max: 1 << 40, scratch: vec![] }).unwrap();
    let attempt = AttemptKey::new(JobId(1), StageId(0), 0, 0);
    let writer = store.writer(attempt, 0, Arc::new(Schema::empty()), 2);
    let lane = Arc::clone(&store.attempts.lock()[&attempt].lanes[&0]);
    // Memory that is never touched is never there.
    let frame = Bytes::from(vec![0; FRAME_BYTES]);
    let mut stat = BlockStat::default();
    for _ in 0..80 {
        lane.push(1, Cell::resident(&lane, Frame { bytes: frame.clone(), home: None }, 0));
        stat.bytes += FRAME_BYTES as u64;
    }
    assert_eq!(store.usage().memory_bytes, 5 << 30);
    let block = writer.finish().map(|_| store.commit(&attempt)).unwrap();
    assert_eq!(block, Ok(()));
    let frames = store.frames(&BlockKey { producer: attempt, lane: 0, partition: 1 }).unwrap();
    assert_eq!(frames.iter().map(|cell| cell.bytes()).sum::<u64>(), 5 << 30);
    assert_eq!(LaneOutput { partitions: vec![stat, stat] }.total().bytes, 10 << 30);
    store.discard(&attempt);
    drop((frames, lane));
    assert_eq!(store.usage().memory_bytes, 0);
}
