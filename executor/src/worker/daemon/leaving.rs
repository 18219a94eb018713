//! How a worker comes to leave: it is asked to, is drained, and goes when it may.

use std::time::Duration;

use firesteel_base::version;
use firesteel_protocol::v1::worker_to_manager::Message as ToManager;
use tokio::time::Instant;

use super::Daemon;
use crate::worker::drain::{Left, PACE};

impl Daemon {
    /// A signal asks it to stop. A manager of the release before would go on to send tasks here, so it stops at once then.
    pub(super) fn begin_drain(&mut self) {
        let knows_drain = self.wire.is_none_or(|wire| wire >= version::WIRE_DRAIN);
        let limit = if knows_drain { self.config.drain } else { Duration::ZERO };
        tracing::info!(worker = %self.config.id, ?limit, "stops when what is here is elsewhere, or the time is over");
        self.counts.drains += u64::from(!self.drain.is_draining());
        let within = limit.saturating_add(self.config.limits.end_max());
        self.config.service.stopping(&format!("is drained, for {} s at most", limit.as_secs()), within);
        self.drain.begin("a signal to its worker", limit);
        self.drain_changed();
    }

    pub(super) fn drain_changed(&mut self) {
        let is_draining = self.drain.is_draining();
        let usual = self.config.limits.status_interval;
        self.pace.send_replace(if is_draining { PACE.min(usual) } else { usual });
        self.may_leave &= is_draining;
        self.say_drain(false);
    }

    /// Tells the manager how the worker stands to being drained.
    pub(super) fn say_drain(&mut self, is_first: bool) {
        if self.wire.is_some_and(|wire| wire >= version::WIRE_DRAIN) {
            let kept = self.keeper.as_ref().map(|keeper| keeper.usage()).unwrap_or_default();
            let kept_bytes = kept.memory_bytes + kept.disk_bytes;
            self.say(ToManager::Drain(self.drain.report(is_first, self.drivers.count(), kept_bytes)));
        }
    }

    /// Whether a worker that is drained may go now. Without a manager, when nothing is here.
    pub(super) fn may_go(&self) -> Option<Left> {
        if !self.drain.is_draining() {
            return None;
        }
        let kept = self.keeper.as_ref().map_or(0, |keeper| keeper.usage().blocks);
        let is_empty = || self.drivers.count() == 0 && kept == 0 && self.state.is_idle();
        if self.may_leave || (self.outgoing.is_none() && is_empty()) {
            return Some(Left::Empty);
        }
        self.drain.deadline().is_some_and(|deadline| deadline <= Instant::now()).then_some(Left::Overdue)
    }
}

/// Completes at a deadline, if there is one.
pub(super) async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
