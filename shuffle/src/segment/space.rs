//! Which parts of a segment are free: first fit, neighbours joined. Pure logic.

use std::collections::BTreeMap;

/// The parts of a segment. Low offsets are taken first, so that memory that was touched before is used again.
#[derive(Debug)]
pub(super) struct Space {
    /// Bytes by offset; no two touch.
    free: BTreeMap<u64, u64>,
    /// No free part is larger.
    largest: u64,
    /// Bytes taken.
    live: u64,
    /// Bytes from the start on that were taken at some time: behind these there are pages.
    warm: u64,
}

/// A part that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Its first byte.
    pub offset: u64,
    /// How many of its bytes, from its end, were never taken before.
    pub cold: u64,
}

impl Space {
    pub fn new(bytes: u64) -> Self {
        Self { free: BTreeMap::from([(0, bytes)]), largest: bytes, live: 0, warm: 0 }
    }

    /// Takes `bytes`, which are more than 0.
    pub fn take(&mut self, bytes: u64) -> Option<Taken> {
        if bytes > self.largest {
            return None;
        }
        let fits = self.free.iter().find(|(_, size)| **size >= bytes).map(|(at, size)| (*at, *size));
        let Some((offset, size)) = fits else {
            self.largest = self.free.values().copied().max().unwrap_or(0);
            return None;
        };
        self.free.remove(&offset);
        if size > bytes {
            self.free.insert(offset + bytes, size - bytes);
        }
        self.live += bytes;
        let cold = (offset + bytes).saturating_sub(self.warm).min(bytes);
        self.warm = self.warm.max(offset + bytes);
        Some(Taken { offset, cold })
    }

    /// Gives back what was taken. What is still cold of it was never touched, and nothing was taken since.
    pub fn give(&mut self, Taken { offset, cold }: Taken, bytes: u64) {
        self.live -= bytes;
        self.warm -= cold;
        let (mut start, mut size) = (offset, bytes);
        if let Some((&before, &length)) = self.free.range(..offset).next_back()
            && before + length == offset
        {
            self.free.remove(&before);
            (start, size) = (before, length + size);
        }
        if let Some(after) = self.free.remove(&(offset + bytes)) {
            size += after;
        }
        self.free.insert(start, size);
        self.largest = self.largest.max(size);
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Bytes that have pages behind them and are not taken.
    pub fn spare(&self) -> u64 {
        self.warm - self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain model: a list of what is taken.
        #[test]
        fn parts_never_overlap_and_come_back(steps in prop::collection::vec((0_usize..8, 1_u64..40), 1..200)) {
            let mut space = Space::new(256);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            let mut warm = 0;
            for (choice, bytes) in steps {
                if choice < 5 {
                    let found = space.take(bytes);
                    taken.sort_unstable();
                    let edges = std::iter::once((0, 0)).chain(taken.iter().copied());
                    let starts = taken.iter().map(|part| part.0).chain([256]);
                    let gap = edges.zip(starts).find(|((at, size), next)| next - (at + size) >= bytes);
                    prop_assert_eq!(found.map(|part| part.offset), gap.map(|((at, size), _)| at + size));
                    if let Some(Taken { offset, cold }) = found {
                        prop_assert_eq!(cold, (offset..offset + bytes).filter(|byte| *byte >= warm).count() as u64);
                        warm = warm.max(offset + bytes);
                        taken.push((offset, bytes));
                    }
                } else if !taken.is_empty() {
                    let (offset, bytes) = taken.swap_remove(choice % taken.len());
                    space.give(Taken { offset, cold: 0 }, bytes);
                }
                let live: u64 = taken.iter().map(|part| part.1).sum();
                prop_assert_eq!((space.spare(), space.is_empty()), (warm - live, live == 0));
            }
            taken.into_iter().for_each(|(offset, bytes)| space.give(Taken { offset, cold: 0 }, bytes));
            prop_assert_eq!(space.take(256).map(|part| part.offset), Some(0));
        }
    }
}
