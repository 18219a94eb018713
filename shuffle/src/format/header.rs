//! Prefix and header of a frame.

use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::{ALIGNMENT, FRAME_BYTES_MAX, FormatError, HEADER_BYTES_MAX, VERSION};

/// Bytes of the prefix; the header follows.
pub const PREFIX_BYTES: usize = 32;
/// `FSF1` as text.
const MAGIC: u32 = u32::from_le_bytes(*b"FSF1");
/// Where the checksummed bytes start: the lengths, the header and the buffers.
const CHECKED_FROM: usize = 16;

/// The codec id of buffers that are not compressed.
pub(super) const CODEC_NONE: u64 = 0;

/// What a frame holds. `nodes` are the columns and their children in depth-first order, `spans` their buffers in the
/// same order; which belong together follows from the schema.
#[derive(Debug, Default, Archive, Serialize)]
pub(super) struct Header {
    /// Fingerprint of the schema.
    pub fingerprint: u64,
    /// Rows of the batch.
    pub rows: u64,
    /// How the buffers are compressed.
    pub codec: u64,
    /// Columns and children.
    pub nodes: Vec<Node>,
    /// Buffers.
    pub spans: Vec<Span>,
}

/// One array.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub(super) struct Node {
    /// Its length.
    pub rows: u64,
    /// How many of its rows are null.
    pub nulls: u64,
    /// How many data buffers it has beyond those that its type fixes (views).
    pub variadic: u64,
}

/// One buffer.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub(super) struct Span {
    /// Where it starts, in bytes from the first buffer's start.
    pub offset: u64,
    /// Its length in bytes, without padding.
    pub bytes: u64,
}

impl Header {
    /// The archived form.
    pub fn archive(&self) -> Result<AlignedVec, FormatError> {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(self)
            .map_err(|error| FormatError::malformed(format!("header: {error}")))?;
        check_limit("bytes of a frame's header", bytes.len() as u64, u64::from(HEADER_BYTES_MAX))?;
        Ok(bytes)
    }
}

/// The prefix, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    pub checksum: u64,
    pub header_bytes: u32,
    pub payload_bytes: u64,
}

impl Prefix {
    /// The prefix's bytes, the checksum left zero.
    pub fn unsigned(header_bytes: u32, payload_bytes: u64) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..20].copy_from_slice(&header_bytes.to_le_bytes());
        bytes[24..32].copy_from_slice(&payload_bytes.to_le_bytes());
        bytes
    }

    /// Reads and checks a prefix.
    pub fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        let Some(bytes) = bytes.first_chunk::<PREFIX_BYTES>() else {
            return Err(FormatError::Length { expected: PREFIX_BYTES as u64, found: bytes.len() as u64 });
        };
        let magic = u32_at(bytes, 0);
        if magic != MAGIC {
            return Err(FormatError::Magic { found: magic });
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(FormatError::Version { found: version });
        }
        if bytes[6..8] != [0; 2] || bytes[20..24] != [0; 4] {
            return Err(FormatError::malformed("reserved bytes of the prefix are not zero"));
        }
        let prefix = Self {
            checksum: u64_at(bytes, 8),
            header_bytes: u32_at(bytes, 16),
            payload_bytes: u64_at(bytes, 24),
        };
        check_limit("bytes of a frame's header", prefix.header_bytes.into(), HEADER_BYTES_MAX.into())?;
        check_limit("bytes of a frame", prefix.payload_bytes, FRAME_BYTES_MAX)?;
        Ok(prefix)
    }

    /// Where the buffers start.
    pub fn payload_start(&self) -> usize {
        payload_start(self.header_bytes as usize)
    }

    /// Bytes of the whole frame.
    pub fn frame_bytes(&self) -> u64 {
        self.payload_start() as u64 + self.payload_bytes
    }
}

/// Where the buffers start after a header of that many bytes.
pub(super) fn payload_start(header_bytes: usize) -> usize {
    (PREFIX_BYTES + header_bytes).next_multiple_of(ALIGNMENT)
}

/// Writes the checksum into a finished frame. The `seal` is part of it: that of the frame's place in its block.
pub(super) fn sign(frame: &mut [u8], seal: u64) {
    let checksum = xxh3_64_with_seed(&frame[CHECKED_FROM..], seal);
    frame[8..16].copy_from_slice(&checksum.to_le_bytes());
}

/// The checksum of a frame that is still coming, of which each piece is read once more while it is in the cache.
pub(crate) struct Summing {
    hash: Box<Xxh3>,
    seal: u64,
    /// Bytes that are still to come before those that are checked.
    skip: usize,
}

/// What the bytes of a whole frame add up to under a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summed {
    seal: u64,
    checksum: u64,
}

impl Summing {
    /// Of a frame of which nothing has come.
    pub fn new(seal: u64) -> Self {
        Self { hash: Box::new(Xxh3::with_seed(seal)), seal, skip: CHECKED_FROM }
    }

    /// Takes in the next piece.
    pub fn add(&mut self, piece: &[u8]) {
        let skipped = self.skip.min(piece.len());
        self.skip -= skipped;
        self.hash.update(&piece[skipped..]);
    }

    /// The frame is whole.
    pub fn end(self) -> Summed {
        Summed { seal: self.seal, checksum: self.hash.digest() }
    }
}

/// Checks that a frame's bytes are those that were written for that seal. What they were summed up to under it when they
/// came is believed.
pub(super) fn verify(
    frame: &[u8],
    prefix: &Prefix,
    seal: u64,
    summed: Option<Summed>,
) -> Result<(), FormatError> {
    let found = match summed.filter(|summed| summed.seal == seal) {
        Some(summed) => summed.checksum,
        None => xxh3_64_with_seed(&frame[CHECKED_FROM..], seal),
    };
    if found == prefix.checksum {
        Ok(())
    } else {
        Err(FormatError::Checksum { expected: prefix.checksum, found })
    }
}

pub(super) fn check_limit(what: &'static str, found: u64, limit: u64) -> Result<(), FormatError> {
    if found <= limit { Ok(()) } else { Err(FormatError::Limit { what, found, limit }) }
}

fn u32_at(bytes: &[u8; PREFIX_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8; PREFIX_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that are no frame but for where the checksum is.
    fn signed(bytes: &[u8], seal: u64) -> (Vec<u8>, Prefix) {
        let mut frame = [vec![0; CHECKED_FROM], bytes.to_vec()].concat();
        sign(&mut frame, seal);
        let checksum = u64::from_le_bytes(frame[8..16].try_into().unwrap());
        (frame, Prefix { checksum, header_bytes: 0, payload_bytes: 0 })
    }

    fn summed(frame: &[u8], cuts: &[usize], seal: u64) -> Summed {
        let mut summing = Summing::new(seal);
        let mut rest = frame;
        for cut in cuts {
            let (piece, others) = rest.split_at(cut % (rest.len() + 1));
            summing.add(piece);
            rest = others;
        }
        summing.add(rest);
        summing.end()
    }

    proptest! {
        #[test]
        fn pieces_add_up_to_the_checksum_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..3000),
            cuts in prop::collection::vec(any::<usize>(), 0..8),
            seal in any::<u64>(),
            flip in any::<usize>(),
        ) {
            let (mut frame, prefix) = signed(&bytes, seal);
            verify(&frame, &prefix, seal, Some(summed(&frame, &cuts, seal))).unwrap();
            verify(&frame, &prefix, seal, None).unwrap();
            // What was summed up under another seal says nothing, and is not believed.
            verify(&frame, &prefix, seal, Some(summed(&frame, &cuts, seal ^ 1))).unwrap();
            verify(&frame, &prefix, seal ^ 1, Some(summed(&frame, &cuts, seal ^ 1))).unwrap_err();
            if !bytes.is_empty() {
                frame[CHECKED_FROM + flip % bytes.len()] ^= 0x10;
                verify(&frame, &prefix, seal, Some(summed(&frame, &cuts, seal))).unwrap_err();
            }
        }
    }
}
