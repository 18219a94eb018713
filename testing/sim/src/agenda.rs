//! Virtual time: what is due, and when. Time moves only from one due thing to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_base::Timestamp;

/// What is due, by its time; of equals what was planned first.
#[derive(Debug)]
pub struct Agenda<T> {
    now: Timestamp,
    planned: u64,
    due: BTreeMap<(Timestamp, u64), T>,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { now: Timestamp(0), planned: 0, due: BTreeMap::new() }
    }
}

impl<T> Agenda<T> {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Plans something for `at`, or for now when that is over.
    pub fn at(&mut self, at: Timestamp, what: T) {
        self.planned += 1;
        self.due.insert((at.max(self.now), self.planned), what);
    }

    /// Plans something for a while from now.
    pub fn after(&mut self, span: Duration, what: T) {
        self.at(self.now + span, what);
    }

    /// Moves the time to the next due thing and takes it.
    pub fn take_next(&mut self) -> Option<T> {
        let ((at, _), what) = self.due.pop_first()?;
        self.now = at;
        Some(what)
    }

    /// Takes the next due thing, if it is due at that time.
    pub fn take_at(&mut self, at: Timestamp) -> Option<T> {
        let next = self.due.first_entry().filter(|next| next.key().0 == at)?;
        Some(next.remove())
    }

    /// How much is planned.
    #[must_use]
    pub fn planned(&self) -> usize {
        self.due.len()
    }
}
