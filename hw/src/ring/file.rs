//! Files that a ring reads and writes: in its table of registered files while there is room, else by descriptor.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use io_uring::types::Fd;
use io_uring::{IoUring, types};

use super::Ring;
use super::state::Shared;

/// A file of a ring. It is closed when this and all operations on it are gone.
pub struct RingFile {
    pub(super) opened: Rc<Opened>,
}

impl fmt::Debug for RingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.opened.fmt(f)
    }
}

/// An open file, held by its handle and by the operations on it.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) direct: bool,
    file: File,
    place: Option<u32>,
    shared: Weak<Shared>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.place.is_some() { "registered" } else { "by descriptor" };
        write!(f, "RingFile({}, {how})", self.path.display())
    }
}

/// How an operation names its file.
pub(super) enum Target {
    Registered(types::Fixed),
    Descriptor(Fd),
}

impl Opened {
    pub(super) fn target(&self) -> Target {
        match self.place {
            Some(place) => Target::Registered(types::Fixed(place)),
            None => Target::Descriptor(Fd(self.file.as_raw_fd())),
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // A ring that is gone has closed its table.
        if let (Some(place), Some(shared)) = (self.place, self.shared.upgrade()) {
            shared.give_back(place);
        }
    }
}

impl RingFile {
    /// The file, for what is rare and done by system calls.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.opened.file
    }

    /// Its path, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.opened.path
    }

    /// Whether it is in the table of registered files.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.opened.place.is_some()
    }
}

impl Ring {
    /// Takes an open file. `path` is what errors name; `direct` says that it was opened past the page cache.
    #[must_use]
    pub fn adopt(&self, file: File, path: &Path, direct: bool) -> RingFile {
        let place = self.shared.register(&file);
        let opened =
            Opened { path: path.to_owned(), direct, file, place, shared: Rc::downgrade(&self.shared) };
        RingFile { opened: Rc::new(opened) }
    }
}

/// Which places of the table are free.
#[derive(Debug, Default)]
pub(super) struct Table {
    free: RefCell<Vec<u32>>,
    /// Places whose file was let go of, still registered.
    given_back: RefCell<Vec<u32>>,
}

/// Takes a file out of the table.
const NO_FILE: i32 = -1;

impl Table {
    pub(super) fn new(places: u32) -> Self {
        Self { free: RefCell::new((0..places).rev().collect()), given_back: RefCell::default() }
    }

    /// Puts a file into the table; none when it is full or the kernel refuses.
    pub(super) fn put(&self, ring: &IoUring, file: &File) -> Option<u32> {
        self.sweep(ring);
        let place = self.free.borrow_mut().pop()?;
        match ring.submitter().register_files_update(place, &[file.as_raw_fd()]) {
            Ok(_) => Some(place),
            Err(fault) => {
                tracing::warn!(%fault, "cannot register a file with a ring: it is named by descriptor");
                self.free.borrow_mut().push(place);
                None
            }
        }
    }

    pub(super) fn give_back(&self, place: u32) {
        self.given_back.borrow_mut().push(place);
    }

    /// Takes files that were let go of out of the table, which closes them for good.
    pub(super) fn sweep(&self, ring: &IoUring) {
        for place in self.given_back.take() {
            match ring.submitter().register_files_update(place, &[NO_FILE]) {
                Ok(_) => self.free.borrow_mut().push(place),
                Err(fault) => tracing::error!(%fault, place, "a file stays registered with a ring"),
            }
        }
    }
}
