//! A frame, and where it lies.
//!
//! ```text
//!   Memory --written--> Both --let_go--> File
//! ```
//!
//! A frame is written to a file while it lies in memory, and it is in memory until its memory is wanted.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use firesteel_base::StageKey;
use parking_lot::Mutex;

use super::Counts;
use super::file::FileRange;
use super::lane::Lane;
use crate::format::Frame;
use crate::keep::{KeptFrame, KeptPlace, News};

/// One frame of a block, wherever it lies now.
#[derive(Debug)]
pub(crate) struct Cell {
    number: u64,
    stage: StageKey,
    bytes: u64,
    place: Mutex<Place>,
    touched: AtomicU64,
    /// There is no memory for it: it goes as soon as it is in its file.
    is_passing: bool,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Place {
    Memory(Frame),
    /// Clean: its memory can be given up at once.
    Both(Frame, FileRange),
    File(FileRange),
}

/// Where a frame is to be had.
#[derive(Debug, Clone)]
pub(crate) enum Loaded {
    /// In memory.
    Memory(Frame),
    /// In a file.
    File(FileRange),
}

impl Cell {
    /// A frame in memory, last used at `now`.
    pub fn resident(lane: &Lane, frame: Frame, now: u64) -> Arc<Self> {
        Self::in_memory(lane, frame, now, false)
    }

    /// A frame for which there is no memory, on its way to a file.
    pub fn passing(lane: &Lane, frame: Frame, now: u64) -> Arc<Self> {
        lane.counts().passing_bytes.fetch_add(frame.bytes.len() as u64, Ordering::Relaxed);
        Self::in_memory(lane, frame, now, true)
    }

    fn in_memory(lane: &Lane, frame: Frame, now: u64, is_passing: bool) -> Arc<Self> {
        let bytes = frame.bytes.len() as u64;
        lane.counts().memory_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self::new(lane, bytes, Place::Memory(frame), now, is_passing)
    }

    /// A frame in a file.
    pub fn in_file(lane: &Lane, range: FileRange, bytes: u64) -> Arc<Self> {
        lane.counts().disk_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self::new(lane, bytes, Place::File(range), 0, false)
    }

    fn new(lane: &Lane, bytes: u64, place: Place, now: u64, is_passing: bool) -> Arc<Self> {
        let counts = Arc::clone(lane.counts());
        let number = counts.frames.fetch_add(1, Ordering::Relaxed);
        let (place, touched) = (Mutex::new(place), AtomicU64::new(now));
        Arc::new(Self { number, stage: lane.stage(), bytes, place, touched, is_passing, counts })
    }

    /// Where somebody else would find it.
    pub fn kept(&self) -> KeptFrame {
        let place = match &*self.place.lock() {
            Place::Memory(Frame { home: Some(home), .. })
            | Place::Both(Frame { home: Some(home), .. }, _) => {
                KeptPlace::Segment { number: home.segment.id(), offset: home.offset }
            }
            Place::Both(_, range) | Place::File(range) => range.kept(),
            Place::Memory(_) => KeptPlace::Private,
        };
        KeptFrame { frame: self.number, bytes: self.bytes, place }
    }

    /// Bytes of the frame.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn stage(&self) -> StageKey {
        self.stage
    }

    pub fn is_passing(&self) -> bool {
        self.is_passing
    }

    pub fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }

    /// Where it lies now; it counts as used now.
    pub fn load(&self) -> Loaded {
        self.touched.store(self.counts.tick(), Ordering::Relaxed);
        match &*self.place.lock() {
            Place::Memory(frame) | Place::Both(frame, _) => Loaded::Memory(frame.clone()),
            Place::File(range) => Loaded::File(range.clone()),
        }
    }

    /// Where in a file it lies, when it is in memory no more: it stays there until it is freed. Does not count as a use of it.
    pub fn left_memory(&self) -> Option<FileRange> {
        match &*self.place.lock() {
            Place::Memory(_) | Place::Both(..) => None,
            Place::File(range) => Some(range.clone()),
        }
    }

    /// Its bytes, when they are in no file yet.
    pub fn unwritten(&self) -> Option<Bytes> {
        match &*self.place.lock() {
            Place::Memory(frame) => Some(frame.bytes.clone()),
            Place::Both(..) | Place::File(_) => None,
        }
    }

    /// Notes that it is in a file too.
    pub fn written(&self, range: FileRange) {
        let mut place = self.place.lock();
        if let Place::Memory(frame) = &*place {
            if range.codec().is_some() {
                self.counts.packing.add(self.bytes, range.bytes());
            }
            *place = Place::Both(frame.clone(), range);
            if !self.is_passing {
                self.counts.clean_bytes.fetch_add(self.bytes, Ordering::Relaxed);
            }
            self.counts.spilled_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }

    /// Lets go of its memory when it is in a file too; returns the bytes of it.
    pub fn let_go(&self) -> u64 {
        let mut place = self.place.lock();
        let Place::Both(_, range) = &*place else { return 0 };
        let range = range.clone();
        self.counts.tell(|| News::Moved { frame: self.number, place: range.kept() });
        let resident = mem::replace(&mut *place, Place::File(range));
        drop(place);
        self.counts.disk_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        self.uncount_memory(true);
        // The budget has it back when nobody looks at it any more.
        drop(resident);
        self.bytes
    }

    fn uncount_memory(&self, is_written: bool) {
        if self.is_passing {
            self.counts.passing_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        } else if is_written {
            self.counts.clean_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.counts.memory_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let (is_written, is_file) = match self.place.get_mut() {
            Place::Memory(_) => (false, false),
            Place::Both(..) => (true, false),
            Place::File(_) => (true, true),
        };
        if is_file {
            self.counts.disk_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        } else {
            self.uncount_memory(is_written);
        }
    }
}
