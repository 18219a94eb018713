//! The messages over TCP, where one connection carries many requests: each begins with a head of one size.

use super::{NAME_BYTES_MAX, REQUEST_BYTES, Status, WireError, u32_in, u64_in};

/// Bytes of the head that every message begins with.
pub const HEAD_BYTES: usize = 24;
/// The most bytes of a frame in one message.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The most requests under way over one connection.
pub const REQUESTS_MAX: usize = 4096;
/// The most credit that a request may have.
pub const CREDIT_MAX: u64 = 1 << 40;
/// What a frame costs of a window at least, so that tiny ones are bounded in number too.
pub const FRAME_COST_MIN: u64 = 1 << 12;

const REQUEST: u8 = 1;
const CREDIT: u8 = 2;
const CANCEL: u8 = 3;
const REPLY: u8 = 4;
const CHUNK: u8 = 5;
const END: u8 = 6;
const FLAG_FIRST: u8 = 1;
const FLAG_PACKED: u8 = 2;

/// What a frame of so many bytes takes of a window.
pub fn frame_cost(bytes: u64) -> u64 {
    bytes.max(FRAME_COST_MIN)
}

/// What a frame that comes has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSize {
    /// Bytes of the frame.
    pub frame_bytes: u64,
    /// When it comes packed, the bytes that come; both are below 2^32 then.
    pub packed_bytes: Option<u64>,
}

impl FrameSize {
    /// A frame that comes as it is.
    pub fn plain(frame_bytes: u64) -> Self {
        Self { frame_bytes, packed_bytes: None }
    }

    /// Bytes that come.
    pub fn coming(self) -> u64 {
        self.packed_bytes.unwrap_or(self.frame_bytes)
    }

    fn number(self) -> u64 {
        let packed = self.packed_bytes.unwrap_or(0);
        debug_assert!(packed <= self.frame_bytes && (packed == 0 || self.frame_bytes >> 32 == 0));
        self.frame_bytes | packed << 32
    }

    fn read(number: u64, is_packed: bool) -> Self {
        if !is_packed {
            return Self::plain(number);
        }
        Self { frame_bytes: number & u64::from(u32::MAX), packed_bytes: Some(number >> 32) }
    }
}

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMessage {
    /// Asks for a block; `length` bytes follow, a [`super::Request`].
    Request { id: u64, window: u64, length: usize },
    /// Lets the server send so many bytes more.
    Credit { id: u64, bytes: u64 },
    /// Wants no more of that.
    Cancel { id: u64 },
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerMessage {
    /// How a request went, and how many frames will come.
    Reply { id: u64, status: Status, frames: u32 },
    /// A part of a frame: `length` bytes follow.
    Chunk { id: u64, is_first: bool, length: usize, size: FrameSize },
    /// No more will come: as was asked ([`Status::Ok`]), or because a file cannot be read.
    End { id: u64, status: Status },
}

/// The fields of a head.
struct Head {
    kind: u8,
    flags: u8,
    status: u16,
    length: u32,
    id: u64,
    number: u64,
}

impl Head {
    fn new(kind: u8, id: u64) -> Self {
        Self { kind, flags: 0, status: 0, length: 0, id, number: 0 }
    }

    fn write(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0] = self.kind;
        bytes[1] = self.flags;
        bytes[2..4].copy_from_slice(&self.status.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; HEAD_BYTES]) -> Self {
        Self {
            kind: bytes[0],
            flags: bytes[1],
            status: super::u16_in(bytes, 2),
            length: u32_in(bytes, 4),
            id: u64_in(bytes, 8),
            number: u64_in(bytes, 16),
        }
    }

    /// The length of what follows, which must lie within `allowed`.
    fn length_within(&self, allowed: std::ops::RangeInclusive<usize>) -> Result<usize, WireError> {
        let length = self.length as usize;
        if allowed.contains(&length) {
            return Ok(length);
        }
        Err(WireError::Unknown { what: "the length of a message", found: length as u64 })
    }

    fn unknown(&self) -> WireError {
        WireError::Unknown { what: "the kind of message", found: self.kind.into() }
    }
}

impl ClientMessage {
    pub fn write(self) -> [u8; HEAD_BYTES] {
        match self {
            Self::Request { id, window, length } => {
                Head { number: window, length: length as u32, ..Head::new(REQUEST, id) }
            }
            Self::Credit { id, bytes } => Head { number: bytes, ..Head::new(CREDIT, id) },
            Self::Cancel { id } => Head::new(CANCEL, id),
        }
        .write()
    }

    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Result<Self, WireError> {
        let head = Head::read(bytes);
        let credit = |bytes: u64| match bytes {
            1..=CREDIT_MAX => Ok(bytes),
            found => Err(WireError::Unknown { what: "a credit", found }),
        };
        Ok(match head.kind {
            REQUEST => Self::Request {
                id: head.id,
                window: credit(head.number)?,
                length: head.length_within(REQUEST_BYTES..=REQUEST_BYTES + NAME_BYTES_MAX)?,
            },
            CREDIT => Self::Credit { id: head.id, bytes: credit(head.number)? },
            CANCEL => Self::Cancel { id: head.id },
            _ => return Err(head.unknown()),
        })
    }
}

impl ServerMessage {
    pub fn write(self) -> [u8; HEAD_BYTES] {
        match self {
            Self::Reply { id, status, frames } => {
                Head { status: status as u16, number: frames.into(), ..Head::new(REPLY, id) }
            }
            Self::Chunk { id, is_first, length, size } => {
                let first = if is_first { FLAG_FIRST } else { 0 };
                let flags = first | if size.packed_bytes.is_some() { FLAG_PACKED } else { 0 };
                Head { flags, length: length as u32, number: size.number(), ..Head::new(CHUNK, id) }
            }
            Self::End { id, status } => Head { status: status as u16, ..Head::new(END, id) },
        }
        .write()
    }

    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Result<Self, WireError> {
        let head = Head::read(bytes);
        let (id, status) = (head.id, Status::read(head.status.into()));
        Ok(match head.kind {
            REPLY => {
                let too_many = |_| WireError::Unknown { what: "the number of frames", found: head.number };
                Self::Reply { id, status: status?, frames: head.number.try_into().map_err(too_many)? }
            }
            CHUNK => Self::Chunk {
                id,
                is_first: head.flags & FLAG_FIRST != 0,
                length: head.length_within(1..=CHUNK_BYTES_MAX)?,
                size: FrameSize::read(head.number, head.flags & FLAG_PACKED != 0),
            },
            END => Self::End { id, status: status? },
            _ => return Err(head.unknown()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_as_written() {
        let id = 1 << 50;
        for message in [
            ClientMessage::Request { id, window: 1 << 22, length: 64 },
            ClientMessage::Credit { id, bytes: CREDIT_MAX },
            ClientMessage::Cancel { id },
        ] {
            assert_eq!(ClientMessage::read(&message.write()), Ok(message));
            assert!(ServerMessage::read(&message.write()).is_err());
        }
        for message in [
            ServerMessage::Reply { id, status: Status::Stale, frames: u32::MAX },
            ServerMessage::Chunk {
                id,
                is_first: true,
                length: CHUNK_BYTES_MAX,
                size: FrameSize::plain(1 << 28),
            },
            ServerMessage::Chunk { id, is_first: false, length: 1, size: FrameSize::plain(7) },
            ServerMessage::Chunk {
                id,
                is_first: true,
                length: 1,
                size: FrameSize { frame_bytes: 1 << 24, packed_bytes: Some(1 << 23) },
            },
            ServerMessage::End { id, status: Status::Unreadable },
        ] {
            assert_eq!(ServerMessage::read(&message.write()), Ok(message));
            assert!(ClientMessage::read(&message.write()).is_err());
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let credit = |bytes| ClientMessage::read(&ClientMessage::Credit { id: 1, bytes }.write());
        assert!(credit(0).is_err() && credit(CREDIT_MAX + 1).is_err() && credit(u64::MAX).is_err());
        let request =
            |length| ClientMessage::read(&ClientMessage::Request { id: 1, window: 1, length }.write());
        assert!(request(55).is_err() && request(56).is_ok() && request(184).is_ok() && request(185).is_err());
        let chunk = |length| {
            let message = ServerMessage::Chunk { id: 1, is_first: true, length, size: FrameSize::plain(9) };
            ServerMessage::read(&message.write())
        };
        assert!(chunk(0).is_err() && chunk(CHUNK_BYTES_MAX + 1).is_err());
        let mut reply = ServerMessage::Reply { id: 1, status: Status::Ok, frames: 1 }.write();
        reply[20] = 1;
        assert!(ServerMessage::read(&reply).is_err());
        assert!(ServerMessage::read(&[0; HEAD_BYTES]).is_err() && ClientMessage::read(&[0xff; 24]).is_err());
    }
}
