//! What is in flight: owned here from the submission until the kernel has let go of it.

use std::io;
use std::rc::Rc;
use std::task::Waker;

use tokio::sync::OwnedSemaphorePermit;

use super::file::Opened;
use super::{OperationError, RingFile};
use crate::pages::{PAGE_BYTES, Pages};

/// Names an entry of the slab. An entry that is used again has another generation, so that a completion which comes too late
/// finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The user data of what is not in the slab: cancelling.
    pub(super) const CANCELLING: u64 = u64::MAX;

    pub(super) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_user_data(data: u64) -> Self {
        let [index, generation] = [data as u32, (data >> 32) as u32];
        Self { index, generation }
    }
}

/// A map from keys to `T`.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            u32::try_from(self.entries.len() - 1).expect("as many as a ring has operations at most")
        });
        let (generation, place) = &mut self.entries[index as usize];
        *place = Some(value);
        Key { index, generation: *generation }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.entries.get_mut(key.index as usize)?;
        if *generation == key.generation { value.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let (generation, place) = &mut self.entries[key.index as usize];
        // The last one is left out: with its index it could read like the mark of cancelling.
        *generation = if *generation >= u32::MAX - 1 { 0 } else { *generation + 1 };
        self.free.push(key.index);
        place.take()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let used = self.entries.iter().enumerate().filter(|(_, (_, value))| value.is_some());
        used.map(|(index, (generation, _))| Key { index: index as u32, generation: *generation })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// Bytes on their way between pages and a file.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) direction: Direction,
    pub(super) file: Rc<Opened>,
    pub(super) pages: Pages,
    pub(super) at: u64,
    pub(super) done: usize,
    interruptions: u32,
}

/// How often in a row an operation may come back interrupted before that counts as a failure.
const INTERRUPTIONS_MAX: u32 = 16;

/// What follows from the result of an operation.
pub(super) enum Next {
    /// The rest is still to be done.
    GoOn,
    /// It is over.
    Over(io::Result<usize>),
}

impl Transfer {
    pub(super) fn new(direction: Direction, file: &RingFile, pages: Pages, at: u64) -> Self {
        Self { direction, file: Rc::clone(&file.opened), pages, at, done: 0, interruptions: 0 }
    }

    /// What it is to do, without the pages.
    pub(super) fn beginning(&self) -> Beginning {
        Beginning { direction: self.direction, file: Rc::clone(&self.file), at: self.at }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.done == self.pages.len()
    }

    pub(super) fn into_pages(self) -> Pages {
        self.pages
    }

    /// Notes what the kernel says: bytes, or an error below zero.
    pub(super) fn note(&mut self, result: i32) -> Next {
        match usize::try_from(result) {
            Ok(0) if self.direction == Direction::Write => Next::Over(Err(io::ErrorKind::WriteZero.into())),
            Ok(0) => Next::Over(Ok(self.done)),
            Ok(bytes) => self.advance(bytes),
            Err(_) => self.failed(io::Error::from_raw_os_error(-result)),
        }
    }

    fn advance(&mut self, bytes: usize) -> Next {
        self.done += bytes;
        self.interruptions = 0;
        assert!(self.done <= self.pages.len(), "the kernel moved more bytes than there was room for");
        // Past the page cache a file ends where less than a sector came, and asking on from there would be an error.
        let ended =
            self.direction == Direction::Read && self.file.direct && !bytes.is_multiple_of(SECTOR_BYTES);
        if self.is_whole() || ended { Next::Over(Ok(self.done)) } else { Next::GoOn }
    }

    fn failed(&mut self, fault: io::Error) -> Next {
        let again = matches!(fault.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock);
        if again && self.interruptions < INTERRUPTIONS_MAX {
            self.interruptions += 1;
            return Next::GoOn;
        }
        Next::Over(Err(fault))
    }

    pub(super) fn fault(&self, source: io::Error) -> OperationError {
        let operation = match self.direction {
            Direction::Read => "read",
            Direction::Write => "write",
        };
        OperationError { operation, path: self.file.path.clone(), at: self.at, source }
    }
}

/// A transfer without its pages.
pub(super) struct Beginning {
    direction: Direction,
    file: Rc<Opened>,
    at: u64,
}

impl Beginning {
    pub(super) fn with(self, pages: Pages) -> Transfer {
        let Self { direction, file, at } = self;
        Transfer { direction, file, pages, at, done: 0, interruptions: 0 }
    }
}

/// The least that direct input and output moves.
const SECTOR_BYTES: usize = 512;
const _: () = assert!(PAGE_BYTES.is_multiple_of(SECTOR_BYTES));

/// An operation from its submission until its result was taken.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) transfer: Transfer,
    /// What it came to, once the kernel has let go of it.
    pub(super) result: Option<io::Result<usize>>,
    pub(super) waker: Option<Waker>,
    /// Its future was dropped: nobody takes the result.
    pub(super) abandoned: bool,
    pub(super) _permit: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_entry_that_was_removed_finds_nothing() {
        let mut slab = Slab::new();
        let old = slab.insert("a");
        assert_eq!(slab.remove(old), Some("a"));
        let new = slab.insert("b");
        assert_eq!((new.index, slab.capacity()), (old.index, 1));
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get_mut(new), Some(&mut "b"));
        assert_eq!(Key::from_user_data(new.user_data()), new);
        assert_eq!(slab.keys().collect::<Vec<_>>(), [new]);
        assert!(slab.get_mut(Key::from_user_data(Key::CANCELLING)).is_none());
    }

    #[test]
    fn generations_go_round_without_the_mark_of_cancelling() {
        let mut slab = Slab::new();
        let key = slab.insert(());
        slab.entries[0].0 = u32::MAX - 1;
        let last = Key { generation: u32::MAX - 1, ..key };
        assert_eq!(slab.remove(last), Some(()));
        assert_eq!(slab.insert(()), key);
    }
}
