//! An executor's process above its limit: freed memory goes back to the kernel.
//!
//! Grants count what operators and blocks say that they take. The process holds more: what the allocator keeps of freed memory, so that the
//! kernel need not clear it when it is taken again, and what operators take without saying so. While all of that is below the limit it is left
//! alone. Above it, freed memory goes back to the kernel, before that kills the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firesteel_base::UserError;
use firesteel_hw::allocator;
use firesteel_hw::usage::ProcessUsage;
use firesteel_shuffle::store::BlockStore;
use tokio_util::sync::CancellationToken;

/// How often the process is looked at. A core thread that fills memory as fast as it can takes some hundred megabytes meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long freed memory is kept again after giving it back did not help: what is in use is above the limit, and each page that goes is
/// cleared when it comes again.
const REST: Duration = Duration::from_millis(500);

/// Guards this process, whose memory is all the executor's, until `stop`.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn start(limit: u64, store: Arc<BlockStore>, stop: CancellationToken) -> Result<(), UserError> {
    let guarding = move || {
        let mut rests_until = Instant::now();
        while !stop.is_cancelled() {
            std::thread::sleep(LOOK_EVERY);
            if Instant::now() < rests_until || held(&store) <= limit {
                continue;
            }
            allocator::give_back_freed_memory();
            if held(&store) > limit {
                rests_until = Instant::now() + REST;
            }
        }
    };
    std::thread::Builder::new().name("memory".to_owned()).spawn(guarding).map_err(|fault| {
        UserError::new("cannot start the thread that guards memory").detail(fault.to_string())
    })?;
    Ok(())
}

/// Bytes that the process holds: its own memory, and what it shares with others of its host.
fn held(store: &BlockStore) -> u64 {
    let segments = store.segments();
    // Frames lie in segments once these are shared, else in memory of the process.
    let shared = if segments.used > 0 { store.usage().memory_bytes } else { 0 };
    ProcessUsage::now().anonymous_bytes + shared + segments.spare_bytes
}
