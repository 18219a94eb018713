//! Faults of the real system that the simulator has found and that are not mended yet.
//!
//! The world keeps from drawing them, so that what else is wrong can be seen. With [`Options::shows_known`](crate::Options) it
//! behaves as the real system does.
//!
//! **A manager that was started anew is taken for the one before.** A driver tells them apart by the number under which its job
//! is opened again: a number that is not above the old one is of a manager that counts from the start (`job_opened` in
//! `driver/src/shell/manager_messages.rs`). When other drivers were quicker, the number is above, and the job goes on as if the
//! manager had only been away. Then two things go wrong. The new manager's leases count from the start too, and a grant under a
//! number that the job's machine has seen is ignored: its slots are never used nor given back, and the job never ends. And the
//! job's attempts go on under its old number, which the new manager may give to another driver's job: on an executor the two
//! share their attempts' and their blocks' names. Seeds 0, 73 and 124 show it. A name of the manager's life in its welcome would
//! tell them apart.

use crate::channel::Proc;

/// Whether a driver takes the manager that it reaches now for the one at which its query was opened.
#[must_use]
pub fn is_same_manager(shows_known: bool, opened_at: Option<Proc>, now: Option<Proc>) -> bool {
    shows_known || opened_at == now
}
