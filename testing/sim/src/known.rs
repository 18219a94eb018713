//! Faults of the real system that the simulator has found and that are not mended.
//!
//! The world keeps from drawing them, so that what else is wrong can be seen. With [`Options::shows_known`](crate::Options) it
//! behaves as the real system does.
//!
//! **A manager that keeps nothing counts its jobs from the start.** Without a journal it may give a new job the number of one that
//! runs since before, whose driver has not come back yet. That driver is told so and fails its job, but until then the
//! attempts of both run under one number, and on an executor the two share the names of their attempts and blocks. With
//! `manager.state` numbers never come again.

/// Whether managers of this world find nothing of those before them.
#[must_use]
pub fn keeps_nothing(shows_known: bool) -> bool {
    shows_known
}
