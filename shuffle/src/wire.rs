//! The messages between fetcher and block server, byte by byte as `PROTOCOL.md` has them. Numbers are little endian.

mod multiplexed;
mod shared;

use std::ops::Range;

use firesteel_base::{AttemptKey, Epoch, ExecutorId, JobId, StageId};

use crate::key::BlockKey;
use crate::pack::Codecs;
pub use multiplexed::*;
pub use shared::*;

/// The version of the protocol that this build speaks.
pub const VERSION: u16 = 4;
/// `FSS1` as text: the first bytes of either side.
pub const MAGIC: [u8; 4] = *b"FSS1";

/// Bytes of a greeting.
pub const HELLO_BYTES: usize = 8;
/// Bytes of a request before the holder's name.
pub const REQUEST_BYTES: usize = 56;
/// Bytes of a reply in shared memory.
pub const REPLY_BYTES: usize = 32;
/// The longest name of a holder, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

const REQUEST_BLOCK: u32 = 1;
const FLAG_BUSY: u16 = 1;
const FLAG_SHARES: u16 = 2;
const FLAG_LZ4: u16 = 4;
const FLAG_ZSTD: u16 = 8;
const FLAG_TLS_ONLY: u16 = 16;

/// A message that does not follow the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not this protocol.
    #[error("the greeting starts with {0:02x?}")]
    Magic([u8; 4]),
    /// Another version of this protocol.
    #[error("the peer speaks version {0} of the block protocol, this build version {VERSION}")]
    Version(u16),
    /// A number that means nothing.
    #[error("{what} is {found}")]
    Unknown {
        /// Which number.
        what: &'static str,
        /// What it is.
        found: u64,
    },
}

/// The first message of either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hello {
    /// Set by a server that takes no more connections.
    pub busy: bool,
    /// Set by a client that wants to know where memory is shared, and by a server whose offer follows.
    pub shares: bool,
    /// How frames may be packed that a client gets over TCP.
    pub codecs: Codecs,
    /// Set by a server that a client without TLS has come to, and that serves over TLS alone.
    pub is_tls_only: bool,
}

impl Hello {
    pub fn write(self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
        let codecs = flag(self.codecs.lz4, FLAG_LZ4) | flag(self.codecs.zstd, FLAG_ZSTD);
        let of_server = flag(self.busy, FLAG_BUSY) | flag(self.is_tls_only, FLAG_TLS_ONLY);
        let flags = of_server | flag(self.shares, FLAG_SHARES) | codecs;
        bytes[6..8].copy_from_slice(&flags.to_le_bytes());
        bytes
    }

    pub fn read(bytes: &[u8; HELLO_BYTES]) -> Result<Self, WireError> {
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if magic != MAGIC {
            return Err(WireError::Magic(magic));
        }
        let flags = u16_in(bytes, 6);
        let has = |flag: u16| flags & flag != 0;
        let codecs = Codecs { lz4: has(FLAG_LZ4), zstd: has(FLAG_ZSTD) };
        match u16_in(bytes, 4) {
            VERSION => Ok(Self {
                busy: has(FLAG_BUSY),
                shares: has(FLAG_SHARES),
                codecs,
                is_tls_only: has(FLAG_TLS_ONLY),
            }),
            other => Err(WireError::Version(other)),
        }
    }
}

/// Asks for a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Echoed in the reply.
    pub id: u64,
    /// The block.
    pub key: BlockKey,
    /// The first frame wanted; more than 0 when no earlier one is, or a transfer goes on that was cut.
    pub first_frame: u32,
    /// Who should hold it, in which life.
    pub holder: ExecutorId,
    pub epoch: Epoch,
}

/// The part of a request before the holder's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    pub id: u64,
    pub key: BlockKey,
    pub first_frame: u32,
    pub epoch: Epoch,
    pub name_bytes: usize,
}

impl Request {
    pub fn write(&self) -> Vec<u8> {
        let name = self.holder.to_string();
        let mut bytes = Vec::with_capacity(REQUEST_BYTES + name.len());
        let task = self.key.producer.task;
        bytes.extend_from_slice(&REQUEST_BLOCK.to_le_bytes());
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&task.stage.job.0.to_le_bytes());
        for number in [
            task.stage.stage.0,
            task.task,
            self.key.producer.attempt,
            self.key.lane,
            self.key.partition,
            self.first_frame,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes
    }
}

impl RequestHead {
    pub fn read(bytes: &[u8; REQUEST_BYTES]) -> Result<Self, WireError> {
        let kind = u32_in(bytes, 0);
        if kind != REQUEST_BLOCK {
            return Err(WireError::Unknown { what: "the kind of request", found: kind.into() });
        }
        let name_bytes = u32_in(bytes, 4) as usize;
        if name_bytes > NAME_BYTES_MAX {
            return Err(WireError::Unknown {
                what: "the length of the holder's name",
                found: name_bytes as u64,
            });
        }
        let producer = AttemptKey::new(
            JobId(u64_in(bytes, 16)),
            StageId(u32_in(bytes, 24)),
            u32_in(bytes, 28),
            u32_in(bytes, 32),
        );
        Ok(Self {
            id: u64_in(bytes, 48),
            key: BlockKey { producer, lane: u32_in(bytes, 36), partition: u32_in(bytes, 40) },
            first_frame: u32_in(bytes, 44),
            epoch: Epoch(u64_in(bytes, 8)),
            name_bytes,
        })
    }
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Frames follow.
    Ok = 0,
    /// The block is not here.
    Unknown = 1,
    /// Its attempt has not committed.
    NotCommitted = 2,
    /// The server is another executor, or another life of it.
    Stale = 3,
    /// It lies in a file that cannot be read.
    Unreadable = 4,
    /// It is there, but neither in shared memory nor in a file: TCP carries it.
    NotShared = 5,
}

impl Status {
    fn read(number: u32) -> Result<Self, WireError> {
        Ok(match number {
            0 => Self::Ok,
            1 => Self::Unknown,
            2 => Self::NotCommitted,
            3 => Self::Stale,
            4 => Self::Unreadable,
            5 => Self::NotShared,
            other => return Err(WireError::Unknown { what: "the status", found: other.into() }),
        })
    }
}

/// The answer to a request in shared memory; with [`Status::Ok`] the places of its frames follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    pub id: u64,
    pub status: Status,
    /// Frames that follow.
    pub frames: u32,
    /// Bytes of these frames together.
    pub bytes: u64,
}

impl Reply {
    pub fn write(self) -> [u8; REPLY_BYTES] {
        let mut bytes = [0; REPLY_BYTES];
        bytes[0..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..12].copy_from_slice(&(self.status as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&self.frames.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    pub fn read(bytes: &[u8; REPLY_BYTES]) -> Result<Self, WireError> {
        Ok(Self {
            id: u64_in(bytes, 0),
            status: Status::read(u32_in(bytes, 8))?,
            frames: u32_in(bytes, 12),
            bytes: u64_in(bytes, 16),
        })
    }
}

fn u16_in(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[range(at, 2)].try_into().expect("two bytes"))
}

fn u32_in(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[range(at, 4)].try_into().expect("four bytes"))
}

fn u64_in(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[range(at, 8)].try_into().expect("eight bytes"))
}

fn range(at: usize, len: usize) -> Range<usize> {
    at..at + len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            id: 77,
            key: BlockKey { producer: AttemptKey::new(JobId(7), StageId(2), 14, 1), lane: 3, partition: 9 },
            first_frame: 5,
            holder: "host3/e0".parse().unwrap(),
            epoch: Epoch(42),
        }
    }

    #[test]
    fn messages_read_back_as_written() {
        let bytes = request().write();
        let head = RequestHead::read(bytes[..REQUEST_BYTES].try_into().unwrap()).unwrap();
        let Request { id, key, first_frame, epoch, .. } = request();
        assert_eq!(head, RequestHead { id, key, first_frame, epoch, name_bytes: 8 });
        assert_eq!(&bytes[REQUEST_BYTES..], b"host3/e0");
        let reply = Reply { id: 77, status: Status::Stale, frames: 3, bytes: 1 << 40 };
        assert_eq!(Reply::read(&reply.write()), Ok(reply));
        for bits in 0..32 {
            let [busy, shares, lz4, zstd, is_tls_only] = [1, 2, 4, 8, 16].map(|bit| bits & bit != 0);
            let hello = Hello { busy, shares, codecs: Codecs { lz4, zstd }, is_tls_only };
            assert_eq!(Hello::read(&hello.write()), Ok(hello));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(Hello::read(b"GET / HT"), Err(WireError::Magic(*b"GET ")));
        let mut hello = Hello::default().write();
        hello[4] = 9;
        assert_eq!(Hello::read(&hello), Err(WireError::Version(9)));
        let mut bytes = request().write();
        bytes[4] = 200;
        assert!(RequestHead::read(bytes[..REQUEST_BYTES].try_into().unwrap()).is_err());
        assert!(Reply::read(&[0xff; REPLY_BYTES]).is_err());
    }
}
