//! The messages of the shared transport: where it is offered, places instead of frames, and leases given up.

use super::{Status, WireError, u16_in, u32_in, u64_in};
use crate::transport::{HOST_BYTES, Host, NAME_BYTES, SocketName};

/// Bytes of an offer.
pub const OFFER_BYTES: usize = HOST_BYTES + NAME_BYTES;
/// Bytes of a place.
pub const PLACE_BYTES: usize = 40;
/// Bytes before the numbers of the leases that are given up, and before the rest of a request.
pub const MESSAGE_HEAD_BYTES: usize = 8;
/// The most leases given up in one message.
pub const RELEASED_MAX: usize = 1024;

/// The kind of message that gives leases up.
pub const RELEASE: u32 = 2;
const KIND_SEGMENT: u16 = 1;
const KIND_FILE: u16 = 2;
const WITH_DESCRIPTOR: u16 = 1;
const PACKED: u16 = 2;

/// Where a server is reached by those with whom it can share memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    pub host: Host,
    pub name: SocketName,
}

impl Offer {
    pub fn write(self) -> [u8; OFFER_BYTES] {
        let mut bytes = [0; OFFER_BYTES];
        bytes[..HOST_BYTES].copy_from_slice(&self.host.0);
        bytes[HOST_BYTES..].copy_from_slice(&self.name.0);
        bytes
    }

    pub fn read(bytes: &[u8; OFFER_BYTES]) -> Self {
        let host = bytes[..HOST_BYTES].try_into().expect("as many bytes");
        let name = bytes[HOST_BYTES..].try_into().expect("as many bytes");
        Self { host: Host(host), name: SocketName(name) }
    }
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In shared memory, which stays as it is while the lease is held.
    Segment { segment: u64, lease: u64 },
    /// In a file; when it is packed there, with the bytes of the frame.
    File { file: u64, packed: Option<u64> },
}

/// What comes instead of a frame; with another status than [`Status::Ok`] none lies anywhere, and no other one follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    pub status: Status,
    /// Bytes that lie there: of the frame, or of the packed frame.
    pub bytes: u64,
    /// Where in the segment or file it starts.
    pub offset: u64,
    /// A descriptor of the segment or file was passed with this message.
    pub with_descriptor: bool,
    pub place: Place,
}

impl FramePlace {
    /// Says that no further frame can be had.
    pub fn failed(status: Status) -> Self {
        Self {
            status,
            bytes: 0,
            offset: 0,
            with_descriptor: false,
            place: Place::File { file: 0, packed: None },
        }
    }

    pub fn write(self) -> [u8; PLACE_BYTES] {
        let (kind, id, last, packed) = match self.place {
            Place::Segment { segment, lease } => (KIND_SEGMENT, segment, lease, 0),
            Place::File { file, packed: None } => (KIND_FILE, file, 0, 0),
            Place::File { file, packed: Some(frame_bytes) } => (KIND_FILE, file, frame_bytes, PACKED),
        };
        let mut bytes = [0; PLACE_BYTES];
        bytes[0..4].copy_from_slice(&(self.status as u32).to_le_bytes());
        bytes[4..6].copy_from_slice(&kind.to_le_bytes());
        let flags = packed | if self.with_descriptor { WITH_DESCRIPTOR } else { 0 };
        bytes[6..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.offset.to_le_bytes());
        bytes[32..40].copy_from_slice(&last.to_le_bytes());
        bytes
    }

    pub fn read(bytes: &[u8; PLACE_BYTES]) -> Result<Self, WireError> {
        let (id, flags, last) = (u64_in(bytes, 16), u16_in(bytes, 6), u64_in(bytes, 32));
        let place = match u16_in(bytes, 4) {
            KIND_SEGMENT => Place::Segment { segment: id, lease: last },
            KIND_FILE => Place::File { file: id, packed: (flags & PACKED != 0).then_some(last) },
            other => return Err(WireError::Unknown { what: "the kind of place", found: other.into() }),
        };
        Ok(Self {
            status: Status::read(u32_in(bytes, 0))?,
            bytes: u64_in(bytes, 8),
            offset: u64_in(bytes, 24),
            with_descriptor: flags & WITH_DESCRIPTOR != 0,
            place,
        })
    }
}

/// Gives leases up, at most [`RELEASED_MAX`]; none named means all, those included whose places were not read.
pub fn write_release(leases: &[u64]) -> Vec<u8> {
    assert!(leases.len() <= RELEASED_MAX, "as many leases as go into one message");
    let mut bytes = Vec::with_capacity(MESSAGE_HEAD_BYTES + 8 * leases.len());
    bytes.extend_from_slice(&RELEASE.to_le_bytes());
    bytes.extend_from_slice(&(leases.len() as u32).to_le_bytes());
    leases.iter().for_each(|lease| bytes.extend_from_slice(&lease.to_le_bytes()));
    bytes
}

/// How many leases the message names that begins like this, 0 for all; `None` when it is no such message.
pub fn released(head: &[u8; MESSAGE_HEAD_BYTES]) -> Result<Option<usize>, WireError> {
    if u32_in(head, 0) != RELEASE {
        return Ok(None);
    }
    match u32_in(head, 4) as usize {
        count if count <= RELEASED_MAX => Ok(Some(count)),
        count => Err(WireError::Unknown { what: "the number of leases in one message", found: count as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_as_written() {
        let offer = Offer { host: Host([7; HOST_BYTES]), name: SocketName([9; NAME_BYTES]) };
        assert_eq!(Offer::read(&offer.write()), offer);
        let files = [None, Some(1 << 20)].map(|packed| Place::File { file: 3, packed });
        for place in [Place::Segment { segment: 1 << 33, lease: 77 }, files[0], files[1]] {
            for with_descriptor in [false, true] {
                let place =
                    FramePlace { status: Status::Ok, bytes: 123, offset: 1 << 40, with_descriptor, place };
                assert_eq!(FramePlace::read(&place.write()), Ok(place));
            }
        }
        let failed = FramePlace::failed(Status::NotShared);
        assert_eq!(FramePlace::read(&failed.write()), Ok(failed));
        let message = write_release(&[5, 6, 7]);
        assert_eq!(released(message[..8].try_into().unwrap()), Ok(Some(3)));
        assert_eq!(u64_in(&message, 24), 7);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(FramePlace::read(&[0; PLACE_BYTES]).is_err());
        assert!(FramePlace::read(&[0xff; PLACE_BYTES]).is_err());
        assert_eq!(released(&[1, 0, 0, 0, 8, 0, 0, 0]), Ok(None));
        assert!(released(&[2, 0, 0, 0, 0, 0, 1, 0]).is_err());
    }
}
