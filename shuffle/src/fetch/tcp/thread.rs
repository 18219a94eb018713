//! A thread that receives.

use std::io;
use std::sync::mpsc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a runtime of its own; dropped, it ends, and with it all that was spawned there.
#[derive(Debug)]
pub(super) struct Thread {
    handle: Handle,
    /// Dropped, it says that the thread may end.
    _stop: oneshot::Sender<()>,
}

impl Thread {
    pub fn start(index: usize) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (started, start) = mpsc::sync_channel(1);
        std::thread::Builder::new().name(format!("blocks-in-{index}")).spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            if started.send(Ok(runtime.handle().clone())).is_ok() {
                // An error means that nobody receives any more.
                let _ended = runtime.block_on(stopped);
            }
        })?;
        let handle = start.recv().map_err(|_| io::Error::other("it ended at once"))??;
        Ok(Self { handle, _stop: stop })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}
