//! Frames that another executor has written, taken over as they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use firesteel_base::AttemptKey;

use super::{Attempt, BlockStore, FRAMES, Lane, StoreError};
use crate::format::FrameBuffer;

impl BlockStore {
    /// Begins to take over what an attempt has written elsewhere: lanes of so many partitions. What was begun before of it, and
    /// not committed, is forgotten; `None` when all of it is here.
    pub(crate) fn begin_taking(
        &self,
        attempt: AttemptKey,
        partitions: impl IntoIterator<Item = u32>,
    ) -> Option<Vec<Arc<Lane>>> {
        let mut attempts = self.attempts.lock();
        if attempts.get(&attempt).is_some_and(|known| known.committed) {
            return None;
        }
        let lane =
            |(number, partitions)| Arc::new(Lane::new(attempt, number, partitions, Arc::clone(&self.counts)));
        let lanes: Vec<_> = (0..).zip(partitions).map(lane).collect();
        let known = lanes.iter().map(|lane| (lane.name().1, Arc::clone(lane))).collect();
        let before = attempts.insert(attempt, Attempt { committed: false, lanes: known });
        drop(attempts);
        before.into_iter().for_each(Attempt::discard);
        Some(lanes)
    }

    /// Adds a frame to a block as it came, whose checksum was found right: in memory when there is room or room can be made,
    /// else in a file. May block the thread while room is made.
    pub(crate) fn take_frame(&self, lane: &Lane, partition: u32, frame: &[u8]) -> Result<(), StoreError> {
        let bytes = frame.len() as u64;
        let fits = self.make_memory_fit(bytes)?;
        let mut grant = self.budget.open(FRAMES);
        let room = self.room_for(lane, bytes, fits, &mut grant)?;
        let fits = fits && room.is_some();
        let mut buffer = room.unwrap_or_else(|| {
            grant.grow_unchecked(bytes);
            FrameBuffer::new(frame.len())
        });
        buffer.put(frame);
        self.put(lane, partition, buffer.freeze(Some(grant)), fits)
    }

    /// The attempts of which something is here, committed or not.
    #[must_use]
    pub fn attempts(&self) -> BTreeSet<AttemptKey> {
        self.attempts.lock().keys().copied().collect()
    }
}
