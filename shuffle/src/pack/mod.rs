//! Packed frames: whole frames, compressed for a link or a disk that is slower than packing them.
//!
//! ```text
//!   frame --pack--> envelope | compressed bytes --slow link or disk--> --unpack--> frame, checked as any other
//! ```
//!
//! Whether a path packs, and with what, is its setting's choice ([`Compression`]) or comes out of what was measured
//! (`Judge`): what the path carries, and what packing takes and brings. The frame within keeps its checksum, so what
//! was damaged while it was packed is an error, never a wrong row.
//!
//! Guarantees of unpacking: it reads no byte outside of what it is given, and takes no more memory than the envelope
//! says, which is [`FRAME_BYTES_MAX`] at most.

mod codec;
mod counts;
mod envelope;
mod judge;
mod setting;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::format::{FormatError, FrameBuffer};
pub use codec::Codec;
pub(crate) use codec::Codecs;
pub use counts::Packing;
pub(crate) use counts::PackingCounts;
pub use envelope::ENVELOPE_BYTES;
use envelope::Envelope;
pub(crate) use judge::Judge;
pub use setting::{Compression, ParseCompressionError};

/// The largest frame that is packed, in bytes: a writer's frames are smaller, unless a row is as large. It bounds what
/// a packed frame may grow to, and how long a thread is busy with one.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// The smallest frame that is packed: of less there is nothing to be had.
const FRAME_BYTES_MIN: usize = 1 << 10;
/// A packed frame has at most so many hundredths of its frame's bytes, or it is not worth unpacking.
const PERCENT_MAX: usize = 90;

/// Packs a whole frame. `None` when it is too small or too large, or does not shrink by a tenth at least.
#[must_use]
pub fn pack(codec: Codec, frame: &[u8]) -> Option<Bytes> {
    if !is_packable(frame.len() as u64) {
        return None;
    }
    let packed_max = frame.len() * PERCENT_MAX / 100 - ENVELOPE_BYTES;
    let packed = codec.compress(frame, packed_max)?;
    let envelope = Envelope { codec, frame_bytes: frame.len(), packed_bytes: packed.len() };
    Some([&envelope.write()[..], &packed].concat().into())
}

/// Whether a frame of so many bytes is packed at all.
pub(crate) fn is_packable(frame_bytes: u64) -> bool {
    (FRAME_BYTES_MIN as u64..=FRAME_BYTES_MAX as u64).contains(&frame_bytes)
}

/// The frame in a packed frame, at a multiple of the format's alignment in memory of its own.
///
/// # Errors
/// When the bytes are not exactly a packed frame.
pub fn unpack(packed: &[u8]) -> Result<Bytes, FormatError> {
    let (envelope, packed) = Envelope::read(packed)?;
    let mut frame = FrameBuffer::zeroed(envelope.frame_bytes);
    let written = envelope.codec.decompress(packed, frame.written_mut())?;
    if written != envelope.frame_bytes {
        let (expected, found) = (envelope.frame_bytes as u64, written as u64);
        return Err(FormatError::Packed(format!("it gives {found} bytes instead of {expected}")));
    }
    Ok(frame.freeze(None).bytes)
}

/// Bytes of the frame in a packed frame, as its envelope says.
///
/// # Errors
/// As [`unpack`], without looking at the compressed bytes.
pub(crate) fn frame_bytes(packed: &[u8]) -> Result<u64, FormatError> {
    Ok(Envelope::read(packed)?.0.frame_bytes as u64)
}

/// What packing took and brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub codec: Codec,
    /// Bytes before.
    pub frame_bytes: u64,
    /// Bytes after: as many when nothing shrank.
    pub packed_bytes: u64,
    pub spent: Duration,
}

/// What came of packing a frame.
#[derive(Debug)]
pub(crate) struct Tried {
    /// None: it stays as it is.
    pub packed: Option<Bytes>,
    pub sample: Sample,
}

impl Tried {
    /// Packs a frame, and takes the time.
    pub fn pack(codec: Codec, frame: &[u8]) -> Self {
        let begun = Instant::now();
        let packed = pack(codec, frame);
        let (frame_bytes, spent) = (frame.len() as u64, begun.elapsed());
        let packed_bytes = packed.as_ref().map_or(frame_bytes, |packed| packed.len() as u64);
        Self { packed, sample: Sample { codec, frame_bytes, packed_bytes, spent } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(seed: u64, bytes: usize, is_noise: bool) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..bytes)
            .map(|at| if is_noise { next() as u8 } else { (next() % 4) as u8 * (at % 8 / 6) as u8 })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            codec in prop::sample::select(Codec::ALL.to_vec()),
            seed: u64,
            bytes in FRAME_BYTES_MIN..300_000_usize,
        ) {
            let frame = frame(seed, bytes, false);
            let packed = pack(codec, &frame).expect("zeros shrink");
            prop_assert!(packed.len() * 100 <= frame.len() * PERCENT_MAX);
            prop_assert_eq!(frame_bytes(&packed).unwrap(), frame.len() as u64);
            prop_assert_eq!(&unpack(&packed).unwrap()[..], &frame[..]);
        }

        #[test]
        fn damage_is_an_error_or_gives_as_many_bytes(
            codec in prop::sample::select(Codec::ALL.to_vec()),
            seed: u64,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let frame = frame(seed, 20_000, false);
            let mut packed = pack(codec, &frame).unwrap().to_vec();
            for (at, byte) in changes {
                let at = at.index(packed.len());
                packed[at] = byte;
            }
            if let Some(cut) = cut {
                packed.truncate(cut.index(packed.len()));
            }
            if let Ok(found) = unpack(&packed) {
                prop_assert_eq!(found.len() as u64, frame_bytes(&packed).unwrap());
                prop_assert!(cut.is_none(), "a part is never taken for the whole");
            }
        }

        #[test]
        fn any_bytes_behind_an_envelope_are_safe(
            codec in prop::sample::select(Codec::ALL.to_vec()),
            bytes in prop::collection::vec(any::<u8>(), 1..2000),
            frame_bytes in 2000..FRAME_BYTES_MAX,
        ) {
            let envelope = Envelope { codec, frame_bytes, packed_bytes: bytes.len() };
            let found = unpack(&[&envelope.write()[..], &bytes].concat());
            prop_assert!(found.is_err() || found.unwrap().len() == frame_bytes);
        }
    }

    #[test]
    fn what_does_not_shrink_or_is_too_small_or_too_large_stays_as_it_is() {
        for codec in Codec::ALL {
            assert_eq!(pack(codec, &frame(7, 100_000, true)), None);
            assert_eq!(pack(codec, &[0; FRAME_BYTES_MIN - 1]), None);
            assert_eq!(pack(codec, &vec![0; FRAME_BYTES_MAX + 1]), None);
            assert!(pack(codec, &vec![0; FRAME_BYTES_MAX]).is_some());
        }
    }

    #[test]
    fn lies_about_lengths_and_codecs_are_errors() {
        for (codec, other) in [(Codec::Lz4, Codec::Zstd), (Codec::Zstd, Codec::Lz4)] {
            let frame = frame(3, 50_000, false);
            let packed = pack(codec, &frame).unwrap();
            let packed = &packed[ENVELOPE_BYTES..];
            let with = |codec, frame_bytes, packed_bytes| {
                unpack(&[&Envelope { codec, frame_bytes, packed_bytes }.write()[..], packed].concat())
            };
            assert!(with(codec, frame.len(), packed.len()).is_ok());
            // More is there than is said, or less: a bomb is as large as it is said to be and no larger.
            for wrong in [frame.len() - 1, frame.len() + 1, packed.len(), FRAME_BYTES_MAX] {
                assert!(with(codec, wrong, packed.len()).is_err(), "{codec} {wrong}");
            }
            for wrong in [0, packed.len() - 1, packed.len() + 1] {
                assert!(with(codec, frame.len(), wrong).is_err(), "{codec} {wrong}");
            }
            assert!(with(codec, FRAME_BYTES_MAX + 1, packed.len()).is_err());
            assert!(with(codec, usize::MAX, packed.len()).is_err());
            assert!(with(other, frame.len(), packed.len()).is_err());
        }
    }
}
