//! What the manager counts as it happens, for its metrics: over all runs of this process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use firesteel_base::UserError;
use firesteel_metrics::{Histogram, Page, table};

use super::journal::Journal;
use super::journal::records::Change;
use crate::machine::Machine;
use crate::machine::message::{Effect, Note, Refusal};
use crate::machine::show::JobState;

/// Counts of what has happened. They are added to once for an effect, and read when somebody asks.
#[derive(Debug, Default)]
pub struct Counts {
    jobs_added: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    full: AtomicU64,
    too_long: AtomicU64,
    no_drivers: AtomicU64,
    rights: AtomicU64,
    tokens: AtomicU64,
    nodes_lost: AtomicU64,
    executors_gone: AtomicU64,
    grants: AtomicU64,
    placements: AtomicU64,
    placing: Histogram,
    appending: Histogram,
    journal_bytes: AtomicU64,
    journal_failures: AtomicU64,
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// The machine wants this done.
    pub(super) fn effect(&self, effect: &Effect, machine: &Machine) {
        use crate::machine::message::ToDriver::Grant;
        match effect {
            Effect::ToDriver(_, Grant(_)) => one_more(&self.grants),
            Effect::JobEnded(id) => self.ended(machine.job(*id).map(|job| job.state())),
            Effect::Answer(_, Err(refusal)) | Effect::Refuse(_, refusal) => self.refused(refusal),
            Effect::Note(note) => self.noted(note),
            Effect::ToWorker(..)
            | Effect::ToDriver(..)
            | Effect::EndSession(..)
            | Effect::Answer(_, Ok(_))
            | Effect::Keep { .. }
            | Effect::Forget(_) => {}
        }
    }

    fn ended(&self, state: Option<JobState>) {
        match state {
            Some(JobState::Succeeded) => one_more(&self.succeeded),
            Some(JobState::Failed) => one_more(&self.failed),
            Some(JobState::Cancelled) => one_more(&self.cancelled),
            Some(JobState::Queued | JobState::Running) | None => {}
        }
    }

    /// What else is refused is no job.
    fn refused(&self, refusal: &Refusal) {
        match refusal {
            Refusal::Full { .. } => one_more(&self.full),
            Refusal::TooLong { .. } => one_more(&self.too_long),
            Refusal::NoDrivers => one_more(&self.no_drivers),
            Refusal::OtherQueue { .. } => one_more(&self.rights),
            Refusal::IdInUse { .. }
            | Refusal::TooMany { .. }
            | Refusal::UnknownJob(_)
            | Refusal::UnknownWorker { .. }
            | Refusal::LastWorker(_)
            | Refusal::OldWorker { .. }
            | Refusal::WorkerAway(_)
            | Refusal::NotDrained(_)
            | Refusal::Leaving(_)
            | Refusal::OtherUser { .. }
            | Refusal::OtherJob
            | Refusal::NotAdmin => {}
        }
    }

    fn noted(&self, note: &Note) {
        match note {
            Note::WorkerChanged { state: "lost", .. } => one_more(&self.nodes_lost),
            Note::ExecutorGone { .. } => one_more(&self.executors_gone),
            Note::JobAdded { .. } => one_more(&self.jobs_added),
            Note::WorkerChanged { .. } | Note::ExecutorUp { .. } => {}
        }
    }

    /// The machine has drawn its conclusions, which took so long, and has placed so many stages.
    pub(super) fn settled(&self, took: Duration, placed: u64) {
        if placed > 0 {
            self.placements.fetch_add(placed, Ordering::Relaxed);
            self.placing.observe(took);
        }
    }

    /// Writes a change of the journal, and counts it.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub(super) async fn write(&self, journal: &Journal, change: Change) -> Result<(), UserError> {
        let (began, bytes) = (Instant::now(), change.bytes());
        let written = journal.write(change).await;
        match &written {
            Ok(()) => {
                self.appending.observe(began.elapsed());
                self.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(_) => one_more(&self.journal_failures),
        }
        written
    }

    /// A caller showed no token, or one that is not good.
    pub(super) fn token_refused(&self) {
        one_more(&self.tokens);
    }

    pub(super) fn tokens_refused(&self) -> &AtomicU64 {
        &self.tokens
    }

    pub(super) fn put(&self, page: &mut Page) {
        page.put(&table::JOBS_ADDED, &self.jobs_added);
        let ended =
            [("succeeded", &self.succeeded), ("failed", &self.failed), ("cancelled", &self.cancelled)];
        page.put_each(&table::JOBS_ENDED, ended);
        let refused = [
            ("full", &self.full),
            ("too_long", &self.too_long),
            ("no_drivers", &self.no_drivers),
            ("rights", &self.rights),
        ];
        page.put_each(&table::JOBS_REFUSED, refused);
        page.put(&table::NODES_LOST, &self.nodes_lost);
        page.put(&table::EXECUTORS_GONE, &self.executors_gone);
        page.put(&table::GRANTS, &self.grants);
        page.put(&table::PLACEMENTS, &self.placements);
        page.put_times(&table::PLACEMENT_TIME, &self.placing);
        page.put_times(&table::JOURNAL_TIME, &self.appending);
        page.put(&table::JOURNAL_BYTES, &self.journal_bytes);
        page.put(&table::JOURNAL_FAILURES, &self.journal_failures);
    }
}
