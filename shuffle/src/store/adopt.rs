//! A store of what an executor left behind.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use firesteel_base::{ByteSize, MemoryBudget};

use super::file::{FileRange, LeftFile, Stored};
use super::{Attempt, BlockStore, Cell, Lane, StoreConfig};
use crate::format::Frame;
use crate::keep::{Estate, KeptFrame, KeptLane, KeptPacking, KeptPlace};
use crate::pack;
use crate::segment::{Home, Segment};

impl BlockStore {
    /// A store that holds what an executor left behind, committed, and nothing else. A block of which a frame cannot be
    /// had is not among it.
    pub(crate) fn adopt(estate: Estate) -> Arc<Self> {
        // What is taken over has its memory already.
        let budget = MemoryBudget::new(ByteSize(u64::MAX));
        let config = StoreConfig { budget, memory_max: u64::MAX, scratch: Vec::new() };
        let store = Self::new(config).expect("a store without folders needs nothing");
        let Estate { segments, attempts, .. } = estate;
        let mut remains = Remains::new(segments);
        let mut adopted = store.attempts.lock();
        for (key, lanes) in attempts {
            let lanes = lanes.into_iter().map(|kept| {
                let lane = Arc::new(Lane::new(key, kept.lane, kept.partitions, Arc::clone(&store.counts)));
                remains.fill(&lane, kept);
                lane.finish();
                (lane.name().1, lane)
            });
            adopted.insert(key, Attempt { committed: true, lanes: lanes.collect() });
        }
        drop(adopted);
        store
    }
}

/// Segments and files of an executor that is gone, opened as they are needed.
struct Remains {
    passed: HashMap<u64, OwnedFd>,
    segments: HashMap<u64, Option<Arc<Segment>>>,
    files: HashMap<PathBuf, Option<Arc<LeftFile>>>,
}

impl Remains {
    fn new(passed: HashMap<u64, OwnedFd>) -> Self {
        Self { passed, segments: HashMap::new(), files: HashMap::new() }
    }

    fn fill(&mut self, lane: &Lane, kept: KeptLane) {
        for (partition, frames) in kept.blocks {
            if partition >= kept.partitions {
                continue;
            }
            let cells: Option<Vec<_>> = frames.iter().map(|frame| self.cell(lane, frame)).collect();
            match cells {
                Some(cells) => cells.into_iter().for_each(|cell| lane.push(partition, cell)),
                None => lane.lose(partition),
            }
        }
    }

    /// A frame; none, when it cannot be had.
    fn cell(&mut self, lane: &Lane, kept: &KeptFrame) -> Option<Arc<Cell>> {
        match &kept.place {
            KeptPlace::Segment { number, offset } => {
                let segment = self.segment(*number)?;
                let home = Home { segment, offset: *offset };
                let bytes = Bytes::from_owner(LeftFrame::new(home.clone(), kept.bytes)?);
                Some(Cell::resident(lane, Frame { bytes, home: Some(home) }, 0))
            }
            KeptPlace::File { path, offset, packing } => {
                let range = FileRange::left(&self.file(path)?, *offset, stored(kept.bytes, *packing)?);
                Some(Cell::in_file(lane, range, kept.bytes))
            }
            KeptPlace::Private => None,
        }
    }

    fn segment(&mut self, number: u64) -> Option<Arc<Segment>> {
        let passed = &mut self.passed;
        let open = || {
            let opened = Segment::left_behind(number, passed.remove(&number)?);
            opened.inspect_err(|fault| tracing::warn!(fault, "shared memory of an executor is lost")).ok()
        };
        self.segments.entry(number).or_insert_with(open).clone()
    }

    fn file(&mut self, path: &Path) -> Option<Arc<LeftFile>> {
        let open = || match File::open(path) {
            Ok(file) => Some(Arc::new(LeftFile { path: path.to_owned(), file })),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a shuffle file of an executor is lost");
                None
            }
        };
        self.files.entry(path.to_owned()).or_insert_with(open).clone()
    }
}

/// How a frame of so many bytes lies in a file; none, when it cannot lie there so.
fn stored(frame_bytes: u64, packing: Option<KeptPacking>) -> Option<Stored> {
    let Some(KeptPacking { codec, bytes }) = packing else {
        return Some(Stored { bytes: usize::try_from(frame_bytes).ok()?, codec: None });
    };
    let can_be = bytes <= frame_bytes && frame_bytes <= pack::FRAME_BYTES_MAX as u64;
    can_be.then_some(Stored { bytes: bytes as usize, codec: Some(codec) })
}

/// A frame in a segment that another process has left behind: nobody writes there any more.
struct LeftFrame {
    home: Home,
    bytes: usize,
}

impl LeftFrame {
    /// None when the segment is not so long.
    fn new(home: Home, bytes: u64) -> Option<Self> {
        let end = home.offset.checked_add(bytes)?;
        (end <= home.segment.memory().mapping().len() as u64).then_some(Self { home, bytes: bytes as usize })
    }
}

impl AsRef<[u8]> for LeftFrame {
    fn as_ref(&self) -> &[u8] {
        self.home.left_behind(self.bytes)
    }
}
