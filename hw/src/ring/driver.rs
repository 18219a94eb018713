//! The future that submits and collects for a ring, on the thread's tokio.
#![allow(unsafe_code)]

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::state::Shared;
use super::{RingConfig, RingError, setup};

/// Builds a ring and puts its driver on this thread's tokio.
pub(super) fn start(config: &RingConfig) -> Result<Rc<Shared>, RingError> {
    let built = setup::build(config)?;
    let event = eventfd()?;
    built.ring.submitter().register_eventfd(event.as_raw_fd())?;
    // SAFETY: the descriptor is owned by what is registered, which closes it only when the registration has ended.
    let event =
        unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) }.map_err(io::Error::from)?;
    let shared = Shared::new(built, config);
    tokio::task::spawn_local(Driver { shared: Rc::clone(&shared), event });
    Ok(shared)
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

struct Driver {
    shared: Rc<Shared>,
    event: AsyncFd<OwnedFd>,
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.set_driver(cx.waker());
        loop {
            if let Err(fault) = self.shared.turn() {
                tracing::error!(%fault, "a ring takes no more submissions and ends");
                return Poll::Ready(());
            }
            if self.shared.is_over() {
                return Poll::Ready(());
            }
            // The count is never read: each signal is an edge of its own, and a count that is full still gives one.
            match self.event.poll_read_ready(cx) {
                Poll::Ready(Ok(mut signalled)) => signalled.clear_ready(),
                Poll::Ready(Err(fault)) => {
                    tracing::error!(%fault, "the runtime of a ring has ended");
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Driver {
    /// By whatever way it ends: nothing would collect for the ring any more.
    fn drop(&mut self) {
        self.shared.end();
    }
}
