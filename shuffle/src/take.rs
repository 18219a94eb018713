//! Taking a map output over: its blocks are fetched as they are, from wherever they lie, and held here from then on.
//!
//! ```text
//!   holder ──frames, one after another──► checksums ──► BlockStore, under the same name ──all there──► committed
//! ```
//!
//! No frame is decoded or written anew: a frame's seal names the attempt that wrote it, and no holder, so its checksum stays
//! what it was. Until the commit nothing is readable here; the holder before goes on to serve what it has, so that readers find
//! the blocks at either place.

use std::sync::Arc;

use firesteel_base::Class;
use futures::StreamExt;

use crate::fetch::{FetchError, Fetcher};
use crate::key::{BlockKey, MapOutput};
use crate::store::{BlockStore, StoreError};

/// Why a map output could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// A block could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// There is no room for it, or it was freed meanwhile.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TakeError {
    /// What may be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Fetch(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }
}

/// Fetches all blocks of `output` into `store`, uncommitted: [`BlockStore::commit`] makes them readable, and
/// [`BlockStore::discard`] lets go of them. Does nothing when they are committed there already. May block the thread while
/// memory is made.
///
/// # Errors
/// When a block cannot be read, or there is no room for it.
pub async fn take_over(
    fetcher: &Arc<Fetcher>,
    store: &BlockStore,
    output: &MapOutput,
) -> Result<(), TakeError> {
    let partitions = output.lanes.iter().map(|lane| lane.partitions());
    let Some(lanes) = store.begin_taking(output.producer, partitions) else { return Ok(()) };
    for ((number, lane), sizes) in (0..).zip(lanes).zip(&output.lanes) {
        let last = sizes.partitions().saturating_sub(1);
        // The last block may tell keys, whatever its rows.
        let filled = (0..sizes.partitions()).filter(|&partition| sizes.holds(partition) || partition == last);
        for partition in filled {
            let key = BlockKey { producer: output.producer, lane: number, partition };
            let mut frames = fetcher.fetch_frames(output.holder.clone(), key);
            while let Some(frame) = frames.next().await {
                store.take_frame(&lane, partition, &frame?)?;
            }
        }
        store.wait_passed()?;
        lane.finish();
    }
    Ok(())
}
