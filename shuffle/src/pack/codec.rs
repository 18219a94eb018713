//! The codecs.

use std::cell::RefCell;
use std::fmt;

use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};

use crate::format::FormatError;

/// Of zstd's levels the fastest: what is packed is read once, soon.
const ZSTD_LEVEL: i32 = 1;

/// How a frame is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// LZ4 in its block format.
    Lz4,
    /// Zstandard, level 1.
    Zstd,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Lz4, Self::Zstd];

    /// The number in an envelope.
    pub(super) fn number(self) -> u16 {
        match self {
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    /// Compresses into `max` bytes at most; none when they do not suffice.
    pub(super) fn compress(self, bytes: &[u8], max: usize) -> Option<Vec<u8>> {
        let packed = match self {
            Self::Lz4 => lz4_flex::block::compress(bytes),
            Self::Zstd => {
                let mut packed = Vec::with_capacity(max);
                // What it lacks is room, or memory for itself: either way the frame stays as it is.
                zstd_compress(bytes, &mut packed).ok()?;
                packed
            }
        };
        (packed.len() <= max).then_some(packed)
    }

    /// Decompresses into `place`; how many bytes there are of it.
    pub(super) fn decompress(self, packed: &[u8], place: &mut [u8]) -> Result<usize, FormatError> {
        match self {
            Self::Lz4 => lz4_flex::block::decompress_into(packed, place).map_err(|fault| damaged(&fault)),
            Self::Zstd => zstd_decompress(packed, place).map_err(|fault| damaged(&fault)),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

fn damaged(fault: &dyn fmt::Display) -> FormatError {
    FormatError::Packed(fault.to_string())
}

// A context is some hundred KiB that are set up anew otherwise, for every frame.
thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn zstd_compress(bytes: &[u8], packed: &mut Vec<u8>) -> std::io::Result<usize> {
    COMPRESSOR.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(Compressor::new(ZSTD_LEVEL)?),
        };
        context.compress_to_buffer(bytes, packed)
    })
}

fn zstd_decompress(packed: &[u8], place: &mut [u8]) -> std::io::Result<usize> {
    DECOMPRESSOR.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(Decompressor::new()?),
        };
        context.decompress_to_buffer(packed, place)
    })
}

/// Some of the codecs: those that a reader understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Codecs {
    pub lz4: bool,
    pub zstd: bool,
}

impl Codecs {
    /// None of them.
    pub const NONE: Self = Self { lz4: false, zstd: false };
    /// All of them.
    pub const ALL: Self = Self { lz4: true, zstd: true };

    /// Whether this one is among them.
    pub fn has(self, codec: Codec) -> bool {
        match codec {
            Codec::Lz4 => self.lz4,
            Codec::Zstd => self.zstd,
        }
    }
}
