//! What an executor tells its keeper: a length, a line of JSON, and with a segment its descriptor.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use firesteel_base::{AttemptKey, Epoch, ExecutorId};
use serde::{Deserialize, Serialize};

use crate::pack::Codec;

/// The longest message. That of a map output of a hundred thousand frames is shorter.
pub(super) const NEWS_BYTES_MAX: usize = 64 << 20;

/// What happened in a store.
#[derive(Debug)]
pub(crate) enum News {
    /// The executor begins this life: nothing of an earlier one is there.
    Begun { executor: ExecutorId, epoch: Epoch },
    /// A segment was made.
    Segment { number: u64, memory: OwnedFd },
    /// A segment is used no more.
    SegmentGone { number: u64 },
    /// An attempt has committed.
    Committed { attempt: AttemptKey, lanes: Vec<KeptLane> },
    /// A frame lies in a file and in memory no more.
    Moved { frame: u64, place: KeptPlace },
    /// Attempts were discarded or freed.
    Freed { attempts: Vec<AttemptKey> },
}

/// The frames of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptLane {
    /// Its number.
    pub lane: u32,
    /// Blocks, empty ones included.
    pub partitions: u32,
    /// The blocks that hold frames.
    pub blocks: Vec<(u32, Vec<KeptFrame>)>,
}

/// A frame of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptFrame {
    /// Its number in its store.
    pub frame: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Where it lies.
    pub place: KeptPlace,
}

/// Where a frame lies that somebody else may have to find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeptPlace {
    /// In a segment.
    Segment { number: u64, offset: u64 },
    /// In a file, packed or not.
    File { path: PathBuf, offset: u64, packing: Option<KeptPacking> },
    /// In memory that ends with its process.
    Private,
}

/// How a frame is packed where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptPacking {
    /// With what.
    pub codec: Codec,
    /// Bytes of the packed frame.
    pub bytes: u64,
}

/// A message without what is passed beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Begun { executor: ExecutorId, epoch: Epoch },
    Segment { number: u64 },
    SegmentGone { number: u64 },
    Committed { attempt: AttemptKey, lanes: Vec<KeptLane> },
    Moved { frame: u64, place: KeptPlace },
    Freed { attempts: Vec<AttemptKey> },
}

impl News {
    /// The message, and the descriptor that goes with it.
    pub fn into_message(self) -> (Message, Option<OwnedFd>) {
        match self {
            Self::Begun { executor, epoch } => (Message::Begun { executor, epoch }, None),
            Self::Segment { number, memory } => (Message::Segment { number }, Some(memory)),
            Self::SegmentGone { number } => (Message::SegmentGone { number }, None),
            Self::Committed { attempt, lanes } => (Message::Committed { attempt, lanes }, None),
            Self::Moved { frame, place } => (Message::Moved { frame, place }, None),
            Self::Freed { attempts } => (Message::Freed { attempts }, None),
        }
    }
}

impl Message {
    /// Its bytes, the length first.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, self).expect("plain data becomes JSON");
        let length = u32::try_from(bytes.len() - 4).expect("a message is shorter than 4 GiB");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }
}
