//! Frames in the order in which they were last used.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::cell::Cell;

/// Frames that are gone are looked for when so many were queued, at least.
const SWEEP_MIN: usize = 1024;

/// Frames, those that were used longest ago first; a frame used since it was queued goes round again.
#[derive(Debug, Default)]
pub(super) struct ColdQueue {
    frames: VecDeque<(u64, Weak<Cell>)>,
    /// Frames that were there when those that are gone were last taken out.
    swept: usize,
}

impl ColdQueue {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame that was used just now.
    pub fn push(&mut self, cell: &Arc<Cell>) {
        if self.frames.len() >= SWEEP_MIN.max(2 * self.swept) {
            self.frames.retain(|(_, cell)| cell.strong_count() > 0);
            self.swept = self.frames.len();
        }
        self.frames.push_back((cell.touched(), Arc::downgrade(cell)));
    }

    /// Puts back what was taken and is not to be used after all, in the order in which it was taken.
    pub fn put_back(&mut self, cells: &[Arc<Cell>]) {
        for cell in cells.iter().rev() {
            self.frames.push_front((cell.touched(), Arc::downgrade(cell)));
        }
    }

    /// Takes the coldest frame.
    pub fn pop(&mut self) -> Option<Arc<Cell>> {
        // Every frame may go round once; after that the first is taken even if it was used meanwhile.
        for _ in 0..=self.frames.len() {
            let (queued, cell) = self.frames.pop_front()?;
            let Some(cell) = cell.upgrade() else { continue };
            if cell.touched() == queued {
                return Some(cell);
            }
            self.frames.push_back((cell.touched(), Arc::downgrade(&cell)));
        }
        std::iter::from_fn(|| self.frames.pop_front()).find_map(|(_, cell)| cell.upgrade())
    }
}
