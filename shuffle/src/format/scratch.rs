//! Buffers that are used again: memory that is new costs as much to get as to fill.

use arrow_buffer::{Buffer, MutableBuffer};

/// Sizes are rounded up to a multiple of this, and further so that about as many rows find a buffer again.
const STEP_BYTES: usize = 4 << 10;

/// Buffers of one lane for rows on their way into frames.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    free: Vec<MutableBuffer>,
    lent: Vec<Buffer>,
}

impl Scratch {
    /// A buffer of `bytes` bytes, whatever they are.
    pub fn take(&mut self, bytes: usize) -> MutableBuffer {
        let fitting = self.free.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= bytes);
        let best = fitting.min_by_key(|(_, buffer)| buffer.capacity()).map(|(at, _)| at);
        let mut buffer = match best {
            Some(at) => self.free.swap_remove(at),
            None => MutableBuffer::from_len_zeroed(rounded(bytes)),
        };
        buffer.resize(bytes, 0);
        buffer
    }

    /// The buffer, filled, to be shared until [`Scratch::reclaim`].
    pub fn lend(&mut self, buffer: MutableBuffer) -> Buffer {
        let buffer = Buffer::from(buffer);
        self.lent.push(buffer.clone());
        buffer
    }

    /// Takes back what was lent and is no longer in use; lets go of what was not needed since the last time.
    pub fn reclaim(&mut self) {
        self.free = self.lent.drain(..).filter_map(|buffer| buffer.into_mutable().ok()).collect();
    }

    /// Bytes of the buffers that wait to be used again.
    pub fn bytes(&self) -> usize {
        self.free.iter().map(MutableBuffer::capacity).sum()
    }
}

/// At most an eighth more than `bytes`.
fn rounded(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(STEP_BYTES);
    bytes.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_uses_it_and_serves_again() {
        let mut scratch = Scratch::default();
        let mut first = scratch.take(10_000);
        first.fill(7);
        let place = first.as_ptr();
        let (lent, kept) = (scratch.lend(first), scratch.take(500));
        let kept = scratch.lend(kept);
        assert_eq!((lent.len(), &lent[9_990..], scratch.bytes()), (10_000, &[7; 10][..], 0));
        drop(lent);
        scratch.reclaim();
        assert_eq!(scratch.bytes(), rounded(10_000));
        assert_eq!(kept.len(), 500);
        let again = scratch.take(9_000);
        assert_eq!((again.as_ptr(), again.len(), scratch.bytes()), (place, 9_000, 0));
        // What was free and not asked for goes.
        scratch.reclaim();
        assert_eq!(scratch.bytes(), 0);
    }

    #[test]
    fn sizes_are_rounded_by_little() {
        for bytes in [0, 1, 4096, 4097, 100_000, 1 << 20, (1 << 20) + 1, 12_345_678] {
            assert!((bytes..=bytes + STEP_BYTES.max(bytes / 8)).contains(&rounded(bytes)), "{bytes}");
        }
    }
}
