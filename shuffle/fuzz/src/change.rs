//! Changes of an input that keep most of a frame as it should be.

use super::common::Numbers;
use super::frame::{PREFIX_BYTES, Parts, put_u64, resize_span, u64_at};
use super::{HEAD_BYTES, MEND_BIT, TYPES, valid};

/// The most rows of a frame that is made anew.
const ROWS_MAX: usize = 12;
/// The largest input: what is larger takes longer and finds no more.
const INPUT_BYTES_MAX: usize = 4096;

/// Changes an input, the same way for the same seed.
pub fn change(input: &mut Vec<u8>, seed: u64) {
    let n = &mut Numbers::new(seed);
    if input.len() < HEAD_BYTES + PREFIX_BYTES || input.len() > INPUT_BYTES_MAX || n.below(64) == 0 {
        *input = anew(n);
        return;
    }
    for _ in 0..=n.below(3) {
        change_once(input, n);
    }
}

fn anew(n: &mut Numbers) -> Vec<u8> {
    let rows = [0, 1, 2, n.below(ROWS_MAX + 1)][n.below(4)];
    valid(n.below(TYPES.len() + 1) as u8, n.below(4) as u8 | MEND_BIT, n.next(), rows)
}

fn change_once(input: &mut Vec<u8>, n: &mut Numbers) {
    match n.below(32) {
        0 => input[0] = n.below(TYPES.len() + 1) as u8,
        1 => input[1] = n.below(4) as u8 | MEND_BIT,
        2 => input[1] ^= MEND_BIT,
        _ => {
            let mut frame = input.split_off(HEAD_BYTES);
            match Parts::of(&frame) {
                Some(parts) => change_frame(&mut frame, &parts, n),
                None => change_byte(&mut frame, 0, n),
            }
            input.append(&mut frame);
        }
    }
}

fn change_frame(frame: &mut Vec<u8>, parts: &Parts, n: &mut Numbers) {
    match n.below(12) {
        0 => change_byte(frame, 0, n),
        1 => change_byte(frame, PREFIX_BYTES, n),
        2 => cut_or_extend(frame, parts, n),
        3 => change_rows(frame, parts, n),
        4 => change_word(frame, parts.root(), 5, n),
        5 | 6 => {
            if let Some(&node) = pick(&parts.nodes, n) {
                change_word(frame, node, 3, n);
            }
        }
        7 => {
            if let Some(&span) = pick(&parts.spans, n) {
                change_word(frame, span, 2, n);
            }
        }
        8 => change_length(frame, parts, n),
        9 => change_byte(frame, parts.payload, n),
        10 => change_value(frame, parts, n),
        _ => copy_within(frame, parts, n),
    }
}

fn pick<'t, T>(all: &'t [T], n: &mut Numbers) -> Option<&'t T> {
    all.get(n.below(all.len()))
}

/// A number that lengths, offsets and counts may be replaced by, near the one that is there or at an edge.
pub fn number(old: u64, n: &mut Numbers) -> u64 {
    match n.below(12) {
        0 => 0,
        1 => old.wrapping_add(1),
        2 => old.wrapping_sub(1),
        3 => old.wrapping_mul(2),
        4 => old / 2,
        5 => old ^ (1 << n.below(64)),
        6 => u64::MAX >> n.below(64),
        7 => 1 << n.below(64),
        8 => i32::MAX as u64 + n.below(2) as u64,
        9 => n.below(200) as u64,
        10 => old.wrapping_add(64),
        _ => n.next(),
    }
}

fn change_byte(frame: &mut [u8], from: usize, n: &mut Numbers) {
    if let Some(rest) = frame.len().checked_sub(from).filter(|rest| *rest > 0) {
        let byte = &mut frame[from + n.below(rest)];
        *byte = [*byte ^ (1 << n.below(8)), byte.wrapping_add(1), 0, 0xFF, n.next() as u8][n.below(5)];
    }
}

/// Changes one of `words` numbers of 64 bits, or half of it.
fn change_word(frame: &mut [u8], at: usize, words: usize, n: &mut Numbers) {
    let at = at + 8 * n.below(words);
    let old = u64_at(frame, at);
    let new = match n.below(3) {
        0 => old & !0xFFFF_FFFF | number(old & 0xFFFF_FFFF, n) & 0xFFFF_FFFF,
        _ => number(old, n),
    };
    put_u64(frame, at, new);
}

fn cut_or_extend(frame: &mut Vec<u8>, parts: &Parts, n: &mut Numbers) {
    let rest = frame.len().saturating_sub(parts.payload);
    if n.below(2) == 0 {
        frame.truncate(frame.len() - n.below(rest + 1));
    } else {
        let len = frame.len() + [1, 64, 128][n.below(3)];
        frame.resize(len, n.next() as u8);
    }
}

/// Changes the number of rows everywhere.
fn change_rows(frame: &mut [u8], parts: &Parts, n: &mut Numbers) {
    let old = u64_at(frame, parts.root() + 8);
    let new = number(old, n);
    put_u64(frame, parts.root() + 8, new);
    for &node in parts.nodes.iter().filter(|_| n.below(4) > 0) {
        if u64_at(frame, node) == old {
            put_u64(frame, node, new);
        }
    }
}

/// Gives a buffer another length, and all that lies behind it another place.
fn change_length(frame: &mut Vec<u8>, parts: &Parts, n: &mut Numbers) {
    if parts.spans.is_empty() {
        return;
    }
    let span = n.below(parts.spans.len());
    let old = u64_at(frame, parts.spans[span] + 8) as usize;
    let step = [1, 2, 4, 8, 16, old][n.below(6)];
    let bytes = if n.below(2) == 0 { old.saturating_sub(step) } else { old.saturating_add(step) };
    if bytes <= INPUT_BYTES_MAX {
        resize_span(frame, parts, span, bytes);
    }
}

/// Changes an offset, a key, a view: what stands at a multiple of four in a buffer.
fn change_value(frame: &mut [u8], parts: &Parts, n: &mut Numbers) {
    let words = frame.len().saturating_sub(parts.payload) / 8;
    let at = parts.payload + 8 * n.below(words.max(1)) + 4 * n.below(2);
    let old = u64_at(frame, at);
    put_u64(frame, at, old & !0xFFFF_FFFF | number(old & 0xFFFF_FFFF, n) & 0xFFFF_FFFF);
}

fn copy_within(frame: &mut [u8], parts: &Parts, n: &mut Numbers) {
    let rest = frame.len().saturating_sub(parts.payload);
    let len = [1, 4, 8, 16, 64][n.below(5)];
    if rest > len {
        let (from, to) = (n.below(rest - len), n.below(rest - len));
        frame.copy_within(parts.payload + from..parts.payload + from + len, parts.payload + to);
    }
}
