//! A thread that receives.

use std::io;
use std::sync::mpsc;

use rustix::thread::{sched_getaffinity, sched_setaffinity};
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
            leave_the_core();
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

/// Runs where the process may run, and not on the one core that the thread which happened to fetch first is pinned to.
fn leave_the_core() {
    let process = rustix::process::getpid();
    let moved = sched_getaffinity(Some(process)).and_then(|cores| sched_setaffinity(None, &cores));
    if let Err(error) = moved {
        tracing::warn!(%error, "blocks are received on the core that asked first");
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::CpuSet;

    use super::*;

    #[test]
    fn it_does_not_stay_on_the_core_of_who_asks() {
        let process = sched_getaffinity(Some(rustix::process::getpid())).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|cpu| process.is_set(*cpu)).unwrap();
        let mut one = CpuSet::new();
        one.set(first);
        let pinned = std::thread::spawn(move || {
            sched_setaffinity(None, &one).unwrap();
            let thread = Thread::start(0).unwrap();
            let cores = thread.handle().spawn(async { sched_getaffinity(None).unwrap() });
            let waiting = Builder::new_current_thread().build().unwrap();
            waiting.block_on(cores).unwrap()
        });
        assert!(pinned.join().unwrap() == process);
    }
}
