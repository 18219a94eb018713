//! An executor's process within its one limit.
//!
//! Grants count what operators and blocks say that they take. The process takes more: what the allocator keeps of freed memory, and what
//! operators take without saying so. While all of that is below the limit it is left alone. Above it, freed memory goes back to the kernel, and what is
//! still there beyond all grants is counted as a grant too: operators are refused memory, and spill, before the kernel kills the process.

use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{Grant, MemoryBudget, UserError};
use firesteel_hw::allocator;
use firesteel_hw::usage::ProcessUsage;
use firesteel_shuffle::store::BlockStore;
use tokio_util::sync::CancellationToken;

/// How often the process is looked at. A core thread that fills memory as fast as it can takes some hundred megabytes meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What is beyond grants is counted until this part of the limit is free again, in eighths.
const RELAXED_EIGHTHS: u64 = 7;
/// Memory beyond all grants, as it is called where holders are named.
const HOLDER: &str = "Uncounted";

/// The guard of one process.
struct MemoryGuard {
    budget: MemoryBudget,
    store: Arc<BlockStore>,
    uncounted: Grant,
}

/// Guards this process, whose memory is all the executor's, until `stop`.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn start(
    budget: MemoryBudget,
    store: Arc<BlockStore>,
    stop: CancellationToken,
) -> Result<(), UserError> {
    let uncounted = budget.open(HOLDER);
    let mut guard = MemoryGuard { budget, store, uncounted };
    let guarding = move || {
        while !stop.is_cancelled() {
            guard.look();
            std::thread::sleep(LOOK_EVERY);
        }
    };
    std::thread::Builder::new().name("memory".to_owned()).spawn(guarding).map_err(|fault| {
        UserError::new("cannot start the thread that guards memory").detail(fault.to_string())
    })?;
    Ok(())
}

impl MemoryGuard {
    fn look(&mut self) {
        let limit = self.budget.limit();
        let mut held = self.held();
        if held > limit {
            allocator::give_back_freed_memory();
            held = self.held();
        }
        let counted = self.budget.used() - self.uncounted.bytes();
        let beyond = beyond_grants(held, counted, limit, self.uncounted.bytes() > 0);
        match beyond.checked_sub(self.uncounted.bytes()) {
            Some(more) => self.uncounted.grow_unchecked(more),
            None => self.uncounted.shrink(self.uncounted.bytes() - beyond),
        }
    }

    /// Bytes that the process holds: its own memory, and what it shares with others of its host.
    fn held(&self) -> u64 {
        let segments = self.store.segments();
        // Frames lie in segments once these are shared, else in memory of the process.
        let shared = if segments.used > 0 { self.store.usage().memory_bytes } else { 0 };
        ProcessUsage::now().anonymous_bytes + shared + segments.spare_bytes
    }
}

/// Bytes to count beyond grants of `counted` bytes, for a process that holds `held`. Once some are counted they are, until there is some
/// room: else operators would take it all again at once.
fn beyond_grants(held: u64, counted: u64, limit: u64, is_counting: bool) -> u64 {
    let tolerated = if is_counting { limit / 8 * RELAXED_EIGHTHS } else { limit };
    if held <= tolerated { 0 } else { held.saturating_sub(counted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_grants_counts_when_the_limit_is_passed_and_until_there_is_room() {
        assert_eq!(beyond_grants(800, 500, 800, false), 0);
        assert_eq!(beyond_grants(801, 500, 800, false), 301);
        assert_eq!(beyond_grants(750, 500, 800, true), 250);
        assert_eq!(beyond_grants(700, 500, 800, true), 0);
        assert_eq!(beyond_grants(900, 950, 800, true), 0, "grants may be ahead of what is taken");
    }
}
