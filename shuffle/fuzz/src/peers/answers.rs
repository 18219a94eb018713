//! What a server may say over TCP to a client that has said so much: `PROTOCOL.md` once more, as simple as can be.

use std::collections::HashMap;

use super::super::frame::{u32_at, u64_at};
use super::wire::HEAD;

/// What a frame costs of a credit at least.
const FRAME_COST_MIN: u64 = 4096;
/// The most bytes of a frame in one message.
const CHUNK_BYTES_MAX: u64 = 1 << 20;
/// What flags say of a chunk.
const FIRST: u8 = 1;
const PACKED: u8 = 2;

/// The requests of a client by their ids.
pub struct Answers(HashMap<u64, Answer>);

#[derive(Default)]
struct Answer {
    /// All the credit that was given, and what frames took of it.
    credit: u64,
    taken: u64,
    /// `None` before the reply.
    frames_left: Option<u64>,
    /// Bytes missing of the frame that has begun.
    missing: u64,
}

impl Answers {
    /// The answers to these messages, and to a last request.
    pub fn new(said: &[Vec<u8>], last_id: u64, last_credit: u64) -> Self {
        let mut answers = HashMap::<u64, Answer>::new();
        let credits = said.iter().filter(|message| matches!(message.first(), Some(1 | 2)));
        let credits = credits.map(|message| (u64_at(message, 8), u64_at(message, 16)));
        for (id, credit) in credits.chain([(last_id, last_credit)]) {
            let answer = answers.entry(id).or_default();
            answer.credit = answer.credit.saturating_add(credit);
        }
        Self(answers)
    }

    /// Whether all frames of a request have come, or none will.
    pub fn has_ended(&self, id: u64) -> bool {
        self.0.get(&id).is_none_or(|answer| answer.frames_left == Some(0))
    }

    /// Checks what a server says; the bytes that follow.
    pub fn take(&mut self, head: &[u8; HEAD]) -> usize {
        let (id, number) = (u64_at(head, 8), u64_at(head, 16));
        let answer = self.0.get_mut(&id).unwrap_or_else(|| panic!("nobody asked for {id}: {head:?}"));
        let length = u64::from(u32_at(head, 4));
        match head[0] {
            4 => {
                assert!(answer.frames_left.is_none() && length == 0, "{id} was answered: {head:?}");
                answer.frames_left = Some(number);
            }
            5 => answer.take_chunk(head[1], length, number),
            6 => _ = self.0.remove(&id),
            _ => panic!("no message of a server: {head:?}"),
        }
        length as usize
    }
}

impl Answer {
    fn take_chunk(&mut self, flags: u8, length: u64, number: u64) {
        let frames_left = self.frames_left.as_mut().expect("a reply comes before its frames");
        if flags & FIRST != 0 {
            assert!(self.missing == 0 && self.taken < self.credit, "a frame begins without credit");
            let (frame, coming) = if flags & PACKED != 0 {
                (number & u64::from(u32::MAX), number >> 32)
            } else {
                (number, number)
            };
            self.taken += frame.max(FRAME_COST_MIN);
            self.missing = coming;
        }
        assert!((1..=self.missing.min(CHUNK_BYTES_MAX)).contains(&length), "a chunk of {length} bytes");
        self.missing -= length;
        if self.missing == 0 {
            *frames_left = frames_left.checked_sub(1).expect("no more frames come than were said");
        }
    }
}
