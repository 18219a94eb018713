//! What an operator wants to read in the log.

use tracing::info;

use crate::machine::message::Note;

pub(super) fn record(note: &Note) {
    match note {
        Note::WorkerChanged { worker, state, reason } => info!(%worker, state, reason, "worker"),
        Note::ExecutorUp { executor, epoch } => info!(%executor, %epoch, "executor up"),
        Note::ExecutorGone { executor, epoch, reason } => info!(%executor, %epoch, reason, "executor gone"),
        Note::JobAdded { job, name } => info!(%job, name, "job added"),
    }
}
