//! The futures of one attempt, on the cores that it was given.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use firesteel_engine::run::LaneSpawner;
use firesteel_hw::core_loop::CoreHandle;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The cores of one attempt, and everything that runs there for it. A panic stays inside: it is recorded, and the rest
/// of the attempt is stopped. What is stopped is dropped at its next yield.
#[derive(Debug)]
pub(crate) struct AttemptScope {
    cores: Vec<CoreHandle>,
    stop: CancellationToken,
    running: TaskTracker,
    fault: Arc<OnceLock<String>>,
}

impl AttemptScope {
    pub(crate) fn new(cores: Vec<CoreHandle>) -> Self {
        Self { cores, stop: CancellationToken::new(), running: TaskTracker::new(), fault: Arc::default() }
    }

    /// Runs `work` on the core of `lane` without the attempt's bounds: it is neither stopped nor waited for.
    pub(crate) fn spawn_detached(&self, lane: usize, work: BoxFuture<'static, ()>) {
        // A stopped core has dropped all that it had; nothing is left to do there.
        let _ = self.cores[lane].spawn(work);
    }

    /// Stops everything, and waits until the last of it was dropped.
    pub(crate) async fn stop(&self) {
        self.request_stop();
        self.running.close();
        self.running.wait().await;
    }

    /// Stops everything without waiting.
    pub(crate) fn request_stop(&self) {
        self.stop.cancel();
    }

    /// What went wrong outside of what lanes report: the first panic, or a core that is gone.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }

    fn bounded(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let running = self.running.token();
        let stop = self.stop.clone();
        let fault = Arc::clone(&self.fault);
        Box::pin(async move {
            // Given back last, when the work has been dropped.
            let _running = running;
            let contained = AssertUnwindSafe(work).catch_unwind();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                ended = contained => {
                    if let Err(panic) = ended {
                        // Only the first counts: later ones may be its consequences.
                        let _ = fault.set(format!("panicked: {}", panic_text(panic.as_ref())));
                        stop.cancel();
                    }
                }
            }
        })
    }
}

impl LaneSpawner for AttemptScope {
    fn lanes(&self) -> usize {
        self.cores.len()
    }

    fn spawn(&self, lane: usize, work: BoxFuture<'static, ()>) {
        if self.cores[lane].spawn(self.bounded(work)).is_err() {
            let _ = self.fault.set("a core thread has stopped".to_owned());
            self.stop.cancel();
        }
    }
}

/// The message that a panic was raised with.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
