//! The thread that writes behind: it gathers frames into pieces, copies them into buffers of the disks, and notes what has
//! been written.

use std::io;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use firesteel_base::StageKey;
use firesteel_hw::pages::Pages;
use firesteel_hw::scratch::ScratchError;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::Behind;
use super::paths::{Paths, Written, piece_bytes};
use crate::format::ALIGNMENT;
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::file::{FileRange, FrameFile, Piece, Stored};
use crate::store::share::{Choice, Shares};

/// Small frames are gathered until a piece has so many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// And never more than a buffer of a disk takes, unless it is one frame.
const PIECE_BYTES_MAX: usize = 2 << 20;
/// Frames of other stages that are looked past for another one of the same.
const PASSED_MAX: usize = 64;

/// What lies between frames that do not end at a multiple of their alignment.
static GAP: [u8; ALIGNMENT] = [0; ALIGNMENT];

pub(super) fn start(behind: &Arc<Behind>) -> io::Result<()> {
    let ends = Ends(Arc::clone(behind));
    let body = move || {
        let ends = ends;
        futures::executor::block_on(run(&ends.0));
    };
    std::thread::Builder::new().name("write-behind".to_owned()).spawn(body).map(drop)
}

/// Says that the thread has ended, however it does.
struct Ends(Arc<Behind>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.state.lock().is_over = true;
        self.0.progress.notify_all();
    }
}

async fn run(behind: &Behind) {
    let disks = behind.disks.iter().map(AsRef::as_ref);
    let mut paths = Paths::new(disks, behind.in_flight_max());
    let mut running = FuturesUnordered::new();
    while !behind.state.lock().is_stopping {
        while let Some(write) = behind.begin(&mut paths) {
            running.push(write.run());
            // It is on its way while the next piece is gathered, which takes its time when that is packed.
            while let Some(Some(done)) = running.next().now_or_never() {
                behind.end(&mut paths.shares, done);
            }
        }
        let mut signal = pin!(behind.signal.notified().fuse());
        futures::select_biased! {
            done = running.select_next_some() => behind.end(&mut paths.shares, done),
            () = signal => {}
        }
    }
}

/// Frames of one stage that are written at once.
struct Gathered {
    stage: StageKey,
    frames: Vec<(Arc<Cell>, Bytes)>,
    bytes: usize,
}

impl Gathered {
    fn new(cell: Arc<Cell>, frame: Bytes) -> Self {
        let (stage, bytes) = (cell.stage(), aligned(&frame));
        Self { stage, frames: vec![(cell, frame)], bytes }
    }

    fn takes(&self, cell: &Cell, frame: &Bytes) -> bool {
        cell.stage() == self.stage && self.bytes + aligned(frame) <= PIECE_BYTES_MAX
    }

    fn frame_bytes(&self) -> u64 {
        self.frames.iter().map(|(_, frame)| frame.len() as u64).sum()
    }

    fn cells(&self, written: &[Written]) -> Vec<(Weak<Cell>, Stored)> {
        let cells = self.frames.iter().map(|(cell, _)| Arc::downgrade(cell));
        cells.zip(written.iter().map(|frame| frame.stored)).collect()
    }
}

/// What is written: the frames, each starting at a multiple of their alignment.
fn parts(written: &[Written]) -> Vec<&[u8]> {
    let parts = written.iter().flat_map(|Written { bytes, .. }| {
        let gap = aligned(bytes) - bytes.len();
        [bytes.as_ref(), &GAP[..gap]]
    });
    parts.collect()
}

pub(super) fn aligned(frame: &Bytes) -> usize {
    frame.len().next_multiple_of(ALIGNMENT)
}

/// A piece on its way.
struct Write {
    disk: usize,
    file: Arc<FrameFile>,
    pages: Pages,
    sent: Sent,
}

/// What becomes of it.
struct Sent {
    bytes: u64,
    frame_bytes: u64,
    cells: Vec<(Weak<Cell>, Stored)>,
}

struct Done {
    disk: usize,
    sent: Sent,
    result: Result<Arc<Piece>, ScratchError>,
}

impl Write {
    async fn run(self) -> Done {
        let Self { disk, file, pages, sent } = self;
        let result = file.append(pages, sent.bytes).await;
        Done { disk, sent, result }
    }
}

impl Behind {
    /// The next piece to be written; none when nothing needs to be or no disk can take more.
    fn begin(&self, paths: &mut Paths) -> Option<Write> {
        #[cfg(test)]
        self.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        loop {
            if mem::take(&mut self.state.lock().is_retried) {
                paths.shares.forgive();
            }
            if !self.is_due() {
                return None;
            }
            match paths.shares.choose(Instant::now()) {
                Choice::Busy => return None,
                Choice::Failed if self.fail(&paths.shares) => return None,
                // Somebody new waits.
                Choice::Failed => {}
                Choice::Disk(disk) => {
                    if let Some(write) = self.begin_on(disk, paths)? {
                        return Some(write);
                    }
                }
            }
        }
    }

    /// Begins on a disk: none when there is nothing to write or no buffer, nothing in it when the disk has failed.
    fn begin_on(&self, disk: usize, paths: &mut Paths) -> Option<Option<Write>> {
        let _hands = self.hands.lock();
        let gathered = self.gather()?;
        let codec = paths.choose(disk);
        if codec.is_some() && matches!(self.disks[disk].buffer(gathered.bytes), Ok(None)) {
            // It would be packed in vain.
            self.put_back(gathered);
            return None;
        }
        let written = paths.pack(disk, codec, gathered.frames.iter().map(|(_, frame)| frame));
        let (shares, size, now) = (&mut paths.shares, piece_bytes(&written), Instant::now());
        let bytes = size as u64;
        let mut pages = match self.disks[disk].buffer(size) {
            Ok(Some(pages)) => pages,
            Ok(None) => {
                self.put_back(gathered);
                return None;
            }
            Err(fault) => {
                shares.begin(disk, bytes, now);
                self.note_failed(disk, bytes, &fault, shares);
                self.put_back(gathered);
                return Some(None);
            }
        };
        pages.fill(&parts(&written));
        shares.begin(disk, bytes, now);
        let file = self.files.of(gathered.stage, (disk, &self.disks[disk]));
        let (frame_bytes, cells) = (gathered.frame_bytes(), gathered.cells(&written));
        let sent = Sent { bytes, frame_bytes, cells };
        Some(Some(Write { disk, file, pages, sent }))
    }

    fn is_due(&self) -> bool {
        let mut state = self.state.lock();
        self.note_level(&mut state);
        state.wanted > 0 || state.is_draining
    }

    /// Takes the coldest frames of one stage.
    fn gather(&self) -> Option<Gathered> {
        let mut state = self.state.lock();
        let (mut gathered, mut passed) = (None::<Gathered>, Vec::new());
        while gathered.as_ref().is_none_or(|gathered| gathered.bytes < PIECE_BYTES)
            && passed.len() < PASSED_MAX
        {
            let Some(cell) = state.dirty.pop() else { break };
            let Some(frame) = cell.unwritten() else { continue };
            match &mut gathered {
                None => gathered = Some(Gathered::new(cell, frame)),
                Some(gathered) if gathered.takes(&cell, &frame) => {
                    gathered.bytes += aligned(&frame);
                    gathered.frames.push((cell, frame));
                }
                Some(gathered) => {
                    let is_full = cell.stage() == gathered.stage;
                    passed.push(cell);
                    if is_full {
                        break;
                    }
                }
            }
        }
        state.dirty.put_back(&passed);
        let bytes = gathered.as_ref().map(Gathered::frame_bytes);
        state.in_flight += bytes.unwrap_or(0);
        state.wanted = bytes.map_or(0, |bytes| state.wanted.saturating_sub(bytes));
        // Who waits for what is in flight is told when that is written. Told now he would ask again, and this thread look again,
        // as fast as both can: the kernel's own thread that completes the write would find no time on their core.
        if gathered.is_none() && state.in_flight == 0 {
            self.progress.notify_all();
        }
        gathered
    }

    /// Frames that are not written after all are the coldest still.
    fn put_back(&self, gathered: Gathered) {
        let bytes = gathered.frame_bytes();
        let cells: Vec<_> = gathered.frames.into_iter().map(|(cell, _)| cell).collect();
        self.put_back_cells(&cells, bytes);
    }

    fn put_back_cells(&self, cells: &[Arc<Cell>], bytes: u64) {
        let mut state = self.state.lock();
        state.dirty.put_back(cells);
        state.in_flight -= bytes;
        state.wanted = state.wanted.saturating_add(bytes);
    }

    /// Notes what has become of a piece.
    fn end(&self, shares: &mut Shares, Done { disk, sent, result }: Done) {
        let _hands = self.hands.lock();
        let Sent { bytes, frame_bytes, cells } = sent;
        match result {
            Ok(piece) => {
                shares.written(disk, bytes, Instant::now());
                self.note_written(&piece, &cells, frame_bytes);
            }
            Err(fault) => {
                self.note_failed(disk, bytes, &fault, shares);
                let cells: Vec<_> = cells.iter().filter_map(|(cell, _)| cell.upgrade()).collect();
                self.put_back_cells(&cells, frame_bytes);
            }
        }
        self.progress.notify_all();
    }

    fn note_written(&self, piece: &Arc<Piece>, cells: &[(Weak<Cell>, Stored)], bytes: u64) {
        let mut offset = 0;
        let mut clean = Vec::with_capacity(cells.len());
        for (cell, stored) in cells {
            if let Some(cell) = cell.upgrade() {
                cell.written(FileRange::new(piece, offset, *stored));
                if cell.is_passing() {
                    cell.let_go();
                } else {
                    clean.push(cell);
                }
            }
            offset += stored.bytes.next_multiple_of(ALIGNMENT);
        }
        let mut state = self.state.lock();
        clean.iter().for_each(|cell| state.clean.push(cell));
        state.in_flight -= bytes;
    }

    fn note_failed(&self, disk: usize, bytes: u64, fault: &ScratchError, shares: &mut Shares) {
        let folder = self.disks[disk].folder();
        tracing::warn!(folder = %folder.display(), %fault, "a scratch folder takes no shuffle output");
        shares.failed(disk, bytes, Instant::now(), format!("{}: {fault}", folder.display()));
    }

    /// Tells all who wait that every disk has failed; false when somebody has come since they were tried.
    fn fail(&self, shares: &Shares) -> bool {
        let mut state = self.state.lock();
        if state.is_retried {
            return false;
        }
        if state.wanted > 0 {
            let bytes = mem::take(&mut state.wanted);
            state.fault = Some(StoreError::DiskFull { bytes, reasons: shares.reasons() });
            state.faults += 1;
        }
        self.progress.notify_all();
        true
    }
}
