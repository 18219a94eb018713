//! What stands before the compressed bytes of a frame, byte by byte as `FORMAT.md` has it.

use super::{Codec, FRAME_BYTES_MAX};
use crate::format::FormatError;

/// Bytes of an envelope; the compressed bytes follow.
pub const ENVELOPE_BYTES: usize = 24;
/// `FSP1` as text.
const MAGIC: [u8; 4] = *b"FSP1";
/// The version of the envelope that this build writes and reads.
const VERSION: u16 = 1;

/// What a packed frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Envelope {
    pub codec: Codec,
    /// Bytes of the frame.
    pub frame_bytes: usize,
    /// Bytes that follow the envelope.
    pub packed_bytes: usize,
}

impl Envelope {
    pub fn write(self) -> [u8; ENVELOPE_BYTES] {
        let mut bytes = [0; ENVELOPE_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.codec.number().to_le_bytes());
        bytes[8..16].copy_from_slice(&(self.frame_bytes as u64).to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.packed_bytes as u64).to_le_bytes());
        bytes
    }

    /// The envelope of a packed frame, and the compressed bytes behind it.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), FormatError> {
        let Some((envelope, packed)) = bytes.split_first_chunk::<ENVELOPE_BYTES>() else {
            return Err(FormatError::Packed(format!("it has {} bytes", bytes.len())));
        };
        let [m0, m1, m2, m3, v0, v1, c0, c1, lengths @ ..] = *envelope;
        let (magic, version) = ([m0, m1, m2, m3], u16::from_le_bytes([v0, v1]));
        if magic != MAGIC || version != VERSION {
            return Err(FormatError::Packed(format!("it starts with {magic:02x?}, version {version}")));
        }
        let number = u16::from_le_bytes([c0, c1]);
        let codec = Codec::ALL.into_iter().find(|codec| codec.number() == number);
        let codec = codec.ok_or_else(|| FormatError::Packed(format!("it has the unknown codec {number}")))?;
        let (lengths, _) = lengths.as_chunks::<8>();
        let (frame_bytes, packed_bytes) = (u64::from_le_bytes(lengths[0]), u64::from_le_bytes(lengths[1]));
        if packed_bytes != packed.len() as u64 {
            let (expected, found) = (packed_bytes, packed.len() as u64);
            return Err(FormatError::Length { expected, found });
        }
        // None that grows by packing is ever written.
        if !(packed_bytes..=FRAME_BYTES_MAX as u64).contains(&frame_bytes) {
            let fault = format!("a frame of {frame_bytes} bytes in {packed_bytes}");
            return Err(FormatError::Packed(fault));
        }
        let envelope = Self { codec, frame_bytes: frame_bytes as usize, packed_bytes: packed.len() };
        Ok((envelope, packed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_reads_back_as_written_and_what_is_none_is_refused() {
        for codec in Codec::ALL {
            let envelope = Envelope { codec, frame_bytes: 1000, packed_bytes: 3 };
            let bytes = [&envelope.write()[..], b"abc"].concat();
            assert_eq!(Envelope::read(&bytes), Ok((envelope, &b"abc"[..])));
            // Magic, version and codec; a number that is another codec's is that codec's fault to find.
            for at in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 0x40;
                assert!(matches!(Envelope::read(&wrong), Err(FormatError::Packed(_))), "byte {at}");
            }
            for end in 0..bytes.len() {
                assert!(Envelope::read(&bytes[..end]).is_err(), "{end} bytes");
            }
            assert!(Envelope::read(&[&bytes[..], b"d"].concat()).is_err());
        }
    }
}
