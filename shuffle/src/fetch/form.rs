//! What a reader makes of frames: batches, or frames as they are.

use arrow_array::RecordBatch;
use bytes::Bytes;

use crate::format::{Decoder, FormatError, Summed, Trust, check_frame};

/// What is made of frames that have come.
pub(super) trait Form: Send + Sync + 'static {
    /// Of one frame.
    type Item: Send;

    /// Checks a frame as far as `trust` demands, and makes of it what is wanted.
    fn make(
        &self,
        frame: &Bytes,
        trust: Trust,
        seal: u64,
        summed: Option<Summed>,
    ) -> Result<Self::Item, FormatError>;

    /// Rows of it; 0 when they are not looked at.
    fn rows(item: &Self::Item) -> usize;
}

/// Batches.
impl Form for Decoder {
    type Item = RecordBatch;

    fn make(
        &self,
        frame: &Bytes,
        trust: Trust,
        seal: u64,
        summed: Option<Summed>,
    ) -> Result<RecordBatch, FormatError> {
        self.decode_summed(frame, trust, seal, summed)
    }

    fn rows(batch: &RecordBatch) -> usize {
        batch.num_rows()
    }
}

/// Frames as they are.
pub(super) struct Whole;

impl Form for Whole {
    type Item = Bytes;

    fn make(
        &self,
        frame: &Bytes,
        trust: Trust,
        seal: u64,
        summed: Option<Summed>,
    ) -> Result<Bytes, FormatError> {
        check_frame(frame, trust, seal, summed).map(|()| frame.clone())
    }

    fn rows(_: &Bytes) -> usize {
        0
    }
}
