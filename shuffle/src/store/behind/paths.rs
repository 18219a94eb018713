//! The disks as paths: which one gets the next piece, and how it is packed for it.

use std::time::Duration;

use bytes::Bytes;

use super::thread::aligned;
use crate::pack::{Codec, Codecs, Compression, Judge, Sample, Tried};
use crate::store::disk::Disk;
use crate::store::file::Stored;
use crate::store::share::Shares;

/// What is known of the disks of a store.
pub(super) struct Paths {
    pub shares: Shares,
    judges: Vec<Judge>,
}

/// What is written of a frame.
pub(super) struct Written {
    pub bytes: Bytes,
    pub stored: Stored,
}

impl Written {
    fn plain(frame: &Bytes) -> Self {
        Self { stored: Stored { bytes: frame.len(), codec: None }, bytes: frame.clone() }
    }

    fn packed(bytes: Bytes, codec: Codec) -> Self {
        Self { stored: Stored { bytes: bytes.len(), codec: Some(codec) }, bytes }
    }
}

/// Bytes of a piece of these frames.
pub(super) fn piece_bytes(frames: &[Written]) -> usize {
    frames.iter().map(|frame| aligned(&frame.bytes)).sum()
}

impl Paths {
    /// Of disks of which each may have `in_flight_max` bytes in flight.
    pub fn new<'a>(disks: impl Iterator<Item = &'a Disk>, in_flight_max: u64) -> Self {
        let judges: Vec<_> = disks.map(|disk| Judge::new(setting(disk), Codecs::ALL)).collect();
        Self { shares: Shares::new(judges.len(), in_flight_max), judges }
    }

    /// How the next piece for a disk is packed, if it is.
    pub fn choose(&mut self, disk: usize) -> Option<Codec> {
        let judge = &mut self.judges[disk];
        judge.set_speed(self.shares.speed(disk));
        judge.choose()
    }

    /// What is written of these frames.
    pub fn pack<'a>(
        &mut self,
        disk: usize,
        codec: Option<Codec>,
        frames: impl Iterator<Item = &'a Bytes>,
    ) -> Vec<Written> {
        let Some(codec) = codec else { return frames.map(Written::plain).collect() };
        let judge = &mut self.judges[disk];
        judge.was_idle(self.shares.is_nearly_idle(disk));
        let mut all = Sample { codec, frame_bytes: 0, packed_bytes: 0, spent: Duration::ZERO };
        let pack = |frame: &Bytes| {
            let Tried { packed, sample } = Tried::pack(codec, frame);
            all.frame_bytes += sample.frame_bytes;
            all.packed_bytes += sample.packed_bytes;
            all.spent += sample.spent;
            packed.map_or_else(|| Written::plain(frame), |packed| Written::packed(packed, codec))
        };
        let written = frames.map(pack).collect();
        judge.learn(all);
        written
    }
}

/// Packing brings nothing where files lie in memory, however slow that may look at times.
fn setting(disk: &Disk) -> Compression {
    match disk.compression() {
        Compression::Auto if disk.is_memory() => Compression::None,
        setting => setting,
    }
}
