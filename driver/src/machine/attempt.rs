//! An attempt, from its launch to its last report.
//!
//! ```text
//!              first report                 finished, failed, lost
//!   Launched ---------------> Started ------------------------------> (forgotten)
//!      |                         |                                         ^
//!      +------ cancelled --------+-----------> Cancelling -----------------+
//! ```
//!
//! A cancelled attempt holds its slot until the executor says that it has ended.

use firesteel_base::{AttemptKey, LeaseId, Timestamp};

use super::Life;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptState {
    Launched,
    Started,
    Cancelling,
}

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub key: AttemptKey,
    pub life: Life,
    pub lease: LeaseId,
    pub state: AttemptState,
    /// When it was launched.
    pub since: Timestamp,
    pub rows: u64,
    pub bytes: u64,
    /// Some of its input is still to come.
    pub early: bool,
}

impl Attempt {
    pub fn launched(now: Timestamp, key: AttemptKey, life: Life, lease: LeaseId, early: bool) -> Self {
        Self { key, life, lease, state: AttemptState::Launched, since: now, rows: 0, bytes: 0, early }
    }

    /// The executor has said that it runs.
    pub fn start(&mut self) {
        self.state = match self.state {
            AttemptState::Launched | AttemptState::Started => AttemptState::Started,
            AttemptState::Cancelling => AttemptState::Cancelling,
        };
    }

    /// True while its outcome is still wanted.
    pub fn counts(&self) -> bool {
        match self.state {
            AttemptState::Launched | AttemptState::Started => true,
            AttemptState::Cancelling => false,
        }
    }
}
