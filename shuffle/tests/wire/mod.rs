//! Messages over TCP as `PROTOCOL.md` has them, byte by byte, for peers that do not keep to it.
#![allow(dead_code)] // each test program uses its part

use firesteel_shuffle::BlockKey;

/// What a server greets with.
pub const HELLO: &[u8] = b"FSS1\x04\0\0\0";
/// Bytes of a head.
pub const HEAD: usize = 24;

/// A head.
pub fn head(kind: u8, flags: u8, status: u16, length: u32, id: u64, number: u64) -> Vec<u8> {
    let mut bytes = vec![kind, flags];
    bytes.extend(status.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(id.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes
}

/// Asks `host3/e0` in its third life for a block.
pub fn request(id: u64, window: u64, key: &BlockKey) -> Vec<u8> {
    let task = key.producer.task;
    let mut bytes = Vec::new();
    for number in [1_u32, 8] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [3, task.stage.job.0] {
        bytes.extend(number.to_le_bytes());
    }
    let attempt = key.producer.attempt;
    for number in [task.stage.stage.0, task.task, attempt, key.lane, key.partition, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(id.to_le_bytes());
    bytes.extend(b"host3/e0");
    [head(1, 0, 0, bytes.len() as u32, id, window), bytes].concat()
}

pub fn credit(id: u64, bytes: u64) -> Vec<u8> {
    head(2, 0, 0, 0, id, bytes)
}

pub fn cancel(id: u64) -> Vec<u8> {
    head(3, 0, 0, 0, id, 0)
}

pub fn reply(id: u64, status: u16, frames: u64) -> Vec<u8> {
    head(4, 0, status, 0, id, frames)
}

/// A part of a frame, of zeros.
pub fn chunk(id: u64, is_first: bool, length: u32, frame_bytes: u64) -> Vec<u8> {
    let head = head(5, u8::from(is_first), 0, length, id, frame_bytes);
    [head, vec![0; length as usize]].concat()
}

pub fn end(id: u64, status: u16) -> Vec<u8> {
    head(6, 0, status, 0, id, 0)
}

/// What a server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub kind: u8,
    pub is_first: bool,
    pub status: u16,
    pub length: usize,
    pub id: u64,
    pub number: u64,
}

impl Said {
    pub fn read(bytes: &[u8; HEAD]) -> Self {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        Self {
            kind: bytes[0],
            is_first: bytes[1] == 1,
            status: u16::from_le_bytes([bytes[2], bytes[3]]),
            length: u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize,
            id: number(8),
            number: number(16),
        }
    }
}
