//! The daemon as its metrics are told.

use super::Daemon;
use crate::worker::driver_child::DriverEnd;
use crate::worker::metrics::{Seen, SeenExecutor};

impl Daemon {
    /// What it knows now.
    pub(super) fn seen(&self) -> Seen {
        let executors = self.plan.layouts.iter().map(|layout| SeenExecutor {
            index: layout.index,
            slots: layout.cores.len(),
            ..self.state.seen(layout.index)
        });
        Seen {
            registered: self.outgoing.is_some(),
            draining: self.drain.is_draining(),
            counts: self.counts,
            executors: executors.collect(),
            drivers: self.drivers.running(),
            drivers_waiting: self.drivers.waiting(),
            driver_places: self.plan.driver_places,
        }
    }

    pub(super) fn count_end(&mut self, end: &DriverEnd) {
        match end {
            Ok(()) => self.counts.drivers_succeeded += 1,
            Err(_) => self.counts.drivers_failed += 1,
        }
    }
}
