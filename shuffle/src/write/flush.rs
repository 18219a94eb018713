//! Encoding what a lane holds, partition by partition.
//!
//! Rows of many partitions are first brought into the order of their partitions, column by column, in buffers that the lane
//! keeps; frames are then copies of what lies together. Where there are few partitions, or no memory for these buffers, or
//! values that do not go into one array, the rows of each partition are gathered from the batches straight into its frames.

use arrow_array::RecordBatch;

use crate::format::{FormatError, FramePlan, Piece, Rows, Scratch, fingerprint, order};

use super::WriteError;
use super::held::{Held, Placed, batch_bytes};
use super::lane::LaneWriter;

/// The size that frames should have: large enough for the wire, small enough for a cache.
pub(super) const FRAME_BYTES_TARGET: usize = 1 << 20;
/// The most rows of a frame, which becomes one batch of its reader.
const FRAME_ROWS_MAX: usize = 32 << 10;
/// A frame that turns out larger than this (rows of very different sizes) is cut in two.
const FRAME_BYTES_CUT: usize = 8 << 20;
/// From this many partitions on, ordering the rows first takes less time than gathering them.
const ORDER_FROM: u32 = 8;

impl LaneWriter {
    /// Encodes all that is held.
    pub(super) fn flush(&mut self) -> Result<(), WriteError> {
        let mut held = std::mem::take(&mut self.held);
        let (done, placed) = if held.is_whole() {
            (self.flush_whole(&held), None)
        } else {
            let placed = held.place();
            (self.flush_placed(&mut held, &placed), Some(placed))
        };
        held.clear(placed);
        self.held = held;
        self.grant.shrink(self.grant.bytes());
        done
    }

    /// Batches that go to one partition each are encoded as they are.
    fn flush_whole(&mut self, held: &Held) -> Result<(), WriteError> {
        for same in held.whole_pieces().chunk_by(|(a, ..), (b, ..)| a == b) {
            let bytes = same.iter().map(|(_, bytes, _)| bytes).sum();
            let pieces: Vec<_> = same.iter().map(|(.., piece)| *piece).collect();
            self.add_frames(same[0].0, &pieces, bytes)?;
        }
        Ok(())
    }

    fn flush_placed(&mut self, held: &mut Held, placed: &Placed) -> Result<(), WriteError> {
        if self.lane.partitions() < ORDER_FROM || !self.scratch_granted(held) {
            return self.flush_gathered(held, placed);
        }
        let ordered = order(&held.sources(placed), held.rows(), placed.parts(), &mut self.scratch);
        let done = match ordered {
            Ok(ordered) => {
                // What the rows came from is not needed any more.
                held.drop_batches();
                self.grant.shrink(self.grant.bytes());
                placed.partitions().try_for_each(|(partition, places)| {
                    let (start, len) = (places.start, places.len());
                    let piece = Piece { batch: &ordered, rows: Rows::Range { start, len } };
                    self.add_frames(partition, &[piece], held.bytes_of(len))
                })
            }
            // Values that do not go into one array, such as those of too many dictionaries.
            Err(_) => self.flush_gathered(held, placed),
        };
        self.scratch.reclaim();
        self.count_scratch();
        done
    }

    fn flush_gathered(&mut self, held: &Held, placed: &Placed) -> Result<(), WriteError> {
        let origins = held.origins(placed);
        placed.partitions().try_for_each(|(partition, places)| {
            let bytes = held.bytes_of(places.len());
            self.add_frames(partition, &origins.pieces(places), bytes)
        })
    }

    /// Whether the budget has room for a copy of what is held.
    fn scratch_granted(&mut self, held: &Held) -> bool {
        let bytes = held.ordered_bytes() as u64;
        let granted = self.scratch_grant.try_grow(bytes.saturating_sub(self.scratch_grant.bytes())).is_ok();
        if !granted {
            self.let_go_of_scratch();
        }
        granted
    }

    /// Counts the scratch buffers as they are now.
    fn count_scratch(&mut self) {
        let (counted, bytes) = (self.scratch_grant.bytes(), self.scratch.bytes() as u64);
        self.scratch_grant.shrink(counted.saturating_sub(bytes));
        self.scratch_grant.grow_unchecked(bytes.saturating_sub(counted));
    }

    pub(super) fn let_go_of_scratch(&mut self) {
        self.scratch = Scratch::default();
        self.scratch_grant.shrink(self.scratch_grant.bytes());
    }

    /// Encodes rows of other columns than the lane's into the last partition, which holds nothing else.
    pub(super) fn flush_aside(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let pieces = [Piece { batch, rows: Rows::Range { start: 0, len: batch.num_rows() } }];
        let of_rows = std::mem::replace(&mut self.fingerprint, fingerprint(batch.schema_ref()));
        let added = self.add_frames(self.lane.partitions() - 1, &pieces, batch_bytes(batch));
        self.fingerprint = of_rows;
        added
    }

    /// Encodes the rows of a partition, which come to `bytes` bytes, about.
    fn add_frames(&mut self, partition: u32, pieces: &[Piece<'_>], bytes: usize) -> Result<(), WriteError> {
        let rows: usize = pieces.iter().map(|piece| piece.rows.len()).sum();
        let frames = (bytes + FRAME_BYTES_TARGET / 2) / FRAME_BYTES_TARGET;
        let frames = frames.max(rows.div_ceil(FRAME_ROWS_MAX)).clamp(1, rows.max(1));
        if frames == 1 {
            return self.add_frame(partition, pieces);
        }
        (0..frames).try_for_each(|frame| {
            let (start, end) = (rows * frame / frames, rows * (frame + 1) / frames);
            self.add_frame(partition, &cut(pieces, start, end - start))
        })
    }

    /// Encodes rows into one frame, or into several when they do not go into one.
    fn add_frame(&mut self, partition: u32, pieces: &[Piece<'_>]) -> Result<(), WriteError> {
        let rows: usize = pieces.iter().map(|piece| piece.rows.len()).sum();
        if rows == 0 {
            return Ok(());
        }
        let plan = match FramePlan::new(self.fingerprint, pieces) {
            Ok(plan) if plan.frame_bytes() <= FRAME_BYTES_CUT || rows == 1 => plan,
            // Too large, or made of dictionaries that do not go into one.
            Ok(_) | Err(FormatError::Limit { .. } | FormatError::Gather(_)) if rows > 1 => {
                self.add_frame(partition, &cut(pieces, 0, rows / 2))?;
                return self.add_frame(partition, &cut(pieces, rows / 2, rows - rows / 2));
            }
            Ok(plan) => plan,
            Err(error) => return Err(error.into()),
        };
        let bytes = self.store.add(&self.lane, partition, plan)?;
        let stat = &mut self.output[partition as usize];
        stat.rows += rows as u64;
        stat.bytes += bytes;
        if partition == 0 {
            self.first_frames.push(u32::try_from(rows).expect("a frame's rows are counted in 32 bits"));
        }
        self.counters.count_frame(bytes);
        Ok(())
    }
}

/// The `len` rows from row `start` on of all pieces together.
fn cut<'a>(pieces: &[Piece<'a>], mut start: usize, mut len: usize) -> Vec<Piece<'a>> {
    let mut cuts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let skipped = start.min(piece.rows.len());
        let taken = len.min(piece.rows.len() - skipped);
        start -= skipped;
        len -= taken;
        if taken > 0 {
            cuts.push(Piece { batch: piece.batch, rows: part_of(piece.rows, skipped, taken) });
        }
    }
    cuts
}

fn part_of(rows: Rows<'_>, skipped: usize, taken: usize) -> Rows<'_> {
    match rows {
        Rows::Range { start, .. } => Rows::Range { start: start + skipped, len: taken },
        Rows::Take(rows) => Rows::Take(&rows[skipped..skipped + taken]),
    }
}
