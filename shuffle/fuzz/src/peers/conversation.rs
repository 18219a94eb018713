//! What one side says, as the messages that it comes to.

use super::super::frame::{put_u64, u32_at, u64_at};
use super::{HELLO_BYTES, Numbers, number, wire};

/// The kinds of messages over TCP behind whose head bytes follow: requests and chunks.
const WITH_BYTES: [u8; 2] = [1, 5];
/// Bytes of a request before the name.
const REQUEST_BYTES: usize = 56;

/// The messages over TCP, the last of which may be a part of one.
pub fn over_tcp(bytes: &[u8]) -> Vec<Vec<u8>> {
    split(bytes, |rest| {
        let has_bytes = rest.first().is_some_and(|kind| WITH_BYTES.contains(kind));
        wire::HEAD + if has_bytes { u32_at(rest, 4) as usize } else { 0 }
    })
}

/// The messages of a client in shared memory.
pub fn in_shared_memory(bytes: &[u8]) -> Vec<Vec<u8>> {
    split(bytes, |rest| match u32_at(rest, 0) {
        1 => REQUEST_BYTES + u32_at(rest, 4) as usize,
        _ => 8 + 8 * u32_at(rest, 4) as usize,
    })
}

/// The first part is what may be a greeting, the others are messages, of as many bytes as `length` says.
fn split(bytes: &[u8], length: impl Fn(&[u8]) -> usize) -> Vec<Vec<u8>> {
    let (hello, mut rest) = bytes.split_at(bytes.len().min(HELLO_BYTES));
    let mut parts = vec![hello.to_vec()];
    while !rest.is_empty() {
        let (message, behind) = rest.split_at(length(rest).min(rest.len()));
        parts.push(message.to_vec());
        rest = behind;
    }
    parts
}

/// Changes messages once: what they say, or which there are. `others` are ones that may be said too.
pub fn change(parts: &mut Vec<Vec<u8>>, others: &[Vec<u8>], n: &mut Numbers) {
    // The greeting stays where it is, and mostly as it is.
    let at = if n.below(24) == 0 { 0 } else { n.below(parts.len().max(2) - 1) + 1 };
    match n.below(10) {
        0 if at > 0 && at < parts.len() => _ = parts.remove(at),
        1 if at < parts.len() => parts.insert(at + 1, parts[at].clone()),
        2 if at > 0 && at < parts.len() => {
            let other = n.below(parts.len() - 1) + 1;
            parts.swap(at, other);
        }
        3 | 4 if others.len() > 1 => {
            let other = others[n.below(others.len() - 1) + 1].clone();
            parts.insert(at.clamp(1, parts.len()), other);
        }
        choice => {
            if let Some(part) = parts.get_mut(at).filter(|part| !part.is_empty()) {
                change_message(part, choice, n);
            }
        }
    }
}

fn change_message(message: &mut Vec<u8>, choice: usize, n: &mut Numbers) {
    let length = message.len();
    match choice {
        5 => message[n.below(length)] = n.next() as u8,
        6 if n.below(4) == 0 => message.truncate(n.below(length)),
        // What follows has as many bytes as is said.
        7 if length > wire::HEAD => {
            let said = (length - wire::HEAD) as u64;
            let word = u64_at(message, 0) & u64::from(u32::MAX) | said << 32;
            put_u64(message, 0, word);
        }
        _ => change_word(message, n),
    }
}

/// Replaces a number of 8, 16, 32 or 64 bits, most often of the first few, by one near it or at an edge.
fn change_word(message: &mut [u8], n: &mut Numbers) {
    let bytes = [1, 2, 4, 8][n.below(4)];
    let reach = if n.below(8) == 0 { message.len() } else { message.len().min(REQUEST_BYTES + wire::HEAD) };
    let at = n.below(reach) / bytes * bytes;
    let old = u64_at(message, at);
    let mask = u64::MAX >> (64 - 8 * bytes);
    put_u64(message, at, old & !mask | number(old & mask, n) & mask);
}
