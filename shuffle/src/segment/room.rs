//! A part of a segment that one frame is written into, and that stays as it is until the last reader has let go.
//!
//! Unsafe is needed to write through a mapping that others read elsewhere.
#![allow(unsafe_code)]

use std::sync::Arc;

use firesteel_base::StageKey;
use rustix::mm::Advice;

use super::{Segment, Segments};

/// Part of a segment, of one owner; given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    pool: Arc<Segments>,
    stage: StageKey,
    home: Home,
    bytes: u64,
}

/// Where in which segment something lies.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// The segment.
    pub segment: Arc<Segment>,
    /// The first byte.
    pub offset: u64,
}

impl Home {
    /// The `bytes` from here on of a segment that another process has left behind. Panics when it is not so long.
    pub fn left_behind(&self, bytes: usize) -> &[u8] {
        let start = self.offset as usize;
        // SAFETY: its owner is gone, and nobody else has ever had a mapping that can be written through.
        unsafe { self.segment.memory().mapping().slice(start..start + bytes) }
    }
}

impl Room {
    pub(super) fn new(
        pool: Arc<Segments>,
        stage: StageKey,
        segment: Arc<Segment>,
        offset: u64,
        bytes: u64,
    ) -> Self {
        Self { pool, stage, home: Home { segment, offset }, bytes }
    }

    /// Where it lies.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Its first byte. Nobody else writes to this part as long as it lives.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.home.segment.memory().mapping().at(self.home.offset as usize).as_ptr()
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        let start = self.home.offset as usize;
        // SAFETY: the part belongs to this room alone, and this process alone has a mapping that can be written through:
        // writing needs `&mut self`, by `as_mut_ptr`.
        unsafe { self.home.segment.memory().mapping().slice(start..start + self.bytes as usize) }
    }

    /// Has the kernel put pages behind the last `bytes` at once.
    pub(super) fn populate_last(&self, bytes: u64) {
        if bytes > 0 {
            let end = self.home.offset + self.bytes;
            let range = (end - bytes) as usize..end as usize;
            self.home.segment.memory().mapping().populate(range, Advice::LinuxPopulateWrite);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.pool.give(self.stage, &self.home.segment, self.home.offset, self.bytes);
    }
}
