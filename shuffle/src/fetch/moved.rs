//! Map outputs that have moved: whoever was told of the place before finds them at the new one.

use std::collections::HashMap;

use firesteel_base::{AttemptKey, JobId};
use parking_lot::Mutex;

use crate::key::Holder;

/// Where map outputs are held that moved, by who wrote them.
#[derive(Debug, Default)]
pub(super) struct Moved(Mutex<HashMap<AttemptKey, Holder>>);

impl Moved {
    pub fn note(&self, producer: AttemptKey, holder: Holder) {
        self.0.lock().insert(producer, holder);
    }

    /// Where the output is held, when that is not at `known`.
    pub fn from(&self, producer: &AttemptKey, known: &Holder) -> Option<Holder> {
        self.0.lock().get(producer).filter(|holder| *holder != known).cloned()
    }

    pub fn forget_job(&self, job: JobId) {
        self.0.lock().retain(|producer, _| producer.job() != job);
    }
}
