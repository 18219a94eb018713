//! What waits for a peer to take it: so many messages. A peer that lets more pile up is parted from, as one whose connection
//! broke: what it must know it is told when there is another.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;

/// Messages that may wait for one peer: more than a job says before it waits for an answer.
const OUTGOING_MAX: usize = 65_536;

/// The way to a peer.
#[derive(Debug)]
pub(crate) struct Outgoing<M> {
    messages: mpsc::Sender<M>,
    overrun: Arc<AtomicBool>,
}

/// What goes to a peer. It ends when nobody is left to say more, and at once when too much waited.
#[derive(Debug)]
pub(crate) struct Messages<M> {
    messages: mpsc::Receiver<M>,
    overrun: Arc<AtomicBool>,
}

pub(crate) fn outgoing<M>() -> (Outgoing<M>, Messages<M>) {
    bounded(OUTGOING_MAX)
}

fn bounded<M>(limit: usize) -> (Outgoing<M>, Messages<M>) {
    let (sender, receiver) = mpsc::channel(limit);
    let overrun = Arc::new(AtomicBool::new(false));
    let outgoing = Outgoing { messages: sender, overrun: Arc::clone(&overrun) };
    (outgoing, Messages { messages: receiver, overrun })
}

impl<M> Outgoing<M> {
    /// Says something. To a peer that has gone there is nothing to say.
    pub fn say(&self, message: M) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.messages.try_send(message)
            && !self.overrun.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("a peer does not take its messages: its connection is given up");
        }
    }
}

impl<M> Stream for Messages<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<M>> {
        // Messages wait when too many did: nobody has to be woken for this.
        if self.overrun.load(Ordering::Relaxed) { Poll::Ready(None) } else { self.messages.poll_recv(cx) }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn all_that_was_said_goes_out_and_too_much_ends_it_at_once() {
        let (said, heard) = bounded(2);
        (0..2).for_each(|at| said.say(at));
        drop(said);
        assert_eq!(heard.collect::<Vec<_>>().await, [0, 1]);

        let (said, mut heard) = bounded(2);
        (0..2).for_each(|at| said.say(at));
        assert_eq!(heard.next().await, Some(0));
        (2..5).for_each(|at| said.say(at));
        assert_eq!(heard.next().await, None);
    }
}
