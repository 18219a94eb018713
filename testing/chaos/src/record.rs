//! What has come of a run so far: shared by all who watch it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::promise::{Befallen, Excuse};
use crate::schedule::Fault;
use crate::story::{About, Story};

/// Why a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its time is over.
    Time,
    /// A promise was not kept.
    Breach,
    /// Somebody interrupted it.
    Interrupted,
}

/// Numbers of a run.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Queries with a right answer.
    pub right: u64,
    /// Queries that ended with an error that they may end with.
    pub excused: BTreeMap<Excuse, u64>,
    /// The longest that a query took.
    pub longest: Duration,
    /// Faults that hit somebody.
    pub faults: u64,
    /// Faults whose target was not there.
    pub missed: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let excused: u64 = self.excused.values().sum();
        write!(f, "{} faults, {} right answers, {excused} errors that may be", self.faults, self.right)?;
        for (excuse, count) in &self.excused {
            write!(f, " ({count} {excuse})")?;
        }
        write!(f, ", longest query {:.1} s", self.longest.as_secs_f64())
    }
}

/// All that is noted.
#[derive(Debug, Default)]
pub struct Noted {
    /// Numbers.
    pub counts: Counts,
    /// What befell the cluster.
    pub befallen: Vec<Befallen>,
    /// Promises that were not kept.
    pub breaches: Vec<String>,
    end: Option<End>,
}

impl Noted {
    /// Why the run ended; none while it lasts.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.end
    }
}

/// The record.
#[derive(Debug)]
pub struct Record {
    /// The story that goes with it.
    pub story: Story,
    keeps_going: bool,
    noted: Mutex<Noted>,
    ended: Condvar,
}

impl Record {
    /// An empty one. One that keeps going does not end with the first breach.
    #[must_use]
    pub fn new(story: Story, keeps_going: bool) -> Self {
        Self { story, keeps_going, noted: Mutex::default(), ended: Condvar::new() }
    }

    /// What is noted.
    pub fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a promise that was not kept.
    pub fn breach(&self, what: impl Into<String>) {
        let what = what.into();
        self.story.tell(About::Breach, &what);
        self.noted().breaches.push(what);
        if !self.keeps_going {
            self.end(End::Breach);
        }
    }

    /// Ends the run. The first reason stands, but who interrupts it waits for nothing any more.
    pub fn end(&self, why: End) {
        let end = &mut self.noted().end;
        if end.is_none() || why == End::Interrupted {
            *end = Some(why);
        }
        self.ended.notify_all();
    }

    /// Whether the run has ended, and why.
    #[must_use]
    pub fn has_ended(&self) -> Option<End> {
        self.noted().end
    }

    /// Waits, but no longer than the run lasts. Returns whether it still does.
    pub fn pause(&self, span: Duration) -> bool {
        let deadline = Instant::now() + span;
        let mut noted = self.noted();
        while noted.end.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            noted = self.ended.wait_timeout(noted, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    /// Notes that a fault begins. Returns its place among those that befell.
    pub fn befalls(&self, fault: &Fault) -> usize {
        let from = self.story.now();
        let befallen = &mut self.noted().befallen;
        befallen.push(Befallen { fault: fault.clone(), from, to: None });
        befallen.len() - 1
    }

    /// Notes that one has ended.
    pub fn passes(&self, place: usize) {
        let now = self.story.now();
        if let Some(one) = self.noted().befallen.get_mut(place) {
            one.to = Some(now);
        }
    }
}
