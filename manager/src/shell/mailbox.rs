//! What waits for a session: so many messages, and so many bytes of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;

/// The most that waits for one session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub messages: usize,
    pub bytes: usize,
}

/// The way in.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    messages: mpsc::Sender<(M, OwnedSemaphorePermit)>,
    free: Arc<Semaphore>,
    bytes: usize,
}

/// What a session is told, until it ends.
#[derive(Debug)]
pub struct Messages<M>(mpsc::Receiver<(M, OwnedSemaphorePermit)>);

pub(crate) fn mailbox<M>(room: Room) -> (Mailbox<M>, Messages<M>) {
    let (messages, queue) = mpsc::channel(room.messages);
    let free = Arc::new(Semaphore::new(room.bytes));
    (Mailbox { messages, free, bytes: room.bytes }, Messages(queue))
}

impl<M: Message> Mailbox<M> {
    /// Puts a message in, or says why it does not fit. One that is larger than all that may wait goes alone.
    pub fn put(&self, message: M) -> Result<(), String> {
        let bytes = u32::try_from(message.encoded_len().min(self.bytes)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.free).try_acquire_many_owned(bytes);
        let room = room.map_err(|_| format!("{} bytes wait for it already", self.waiting()))?;
        self.messages.try_send((message, room)).map_err(|fault| fault.to_string())
    }

    fn waiting(&self) -> usize {
        self.bytes - self.free.available_permits()
    }
}

impl<M> Messages<M> {
    /// The next message; none when the session has ended.
    pub async fn recv(&mut self) -> Option<M> {
        self.0.recv().await.map(|(message, _)| message)
    }
}

impl<M> Stream for Messages<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<M>> {
        self.0.poll_recv(cx).map(|next| next.map(|(message, _)| message))
    }
}

#[cfg(test)]
mod tests {
    use firesteel_protocol::v1;

    use super::*;

    fn message(bytes: usize) -> v1::JobInfo {
        v1::JobInfo { sql: "x".repeat(bytes), ..v1::JobInfo::default() }
    }

    #[tokio::test]
    async fn bytes_are_bounded_as_messages_are_and_freed_when_they_are_taken() {
        let (mailbox, mut messages) = mailbox(Room { messages: 3, bytes: 1000 });
        mailbox.put(message(600)).unwrap();
        let fault = mailbox.put(message(600)).unwrap_err();
        assert!(fault.contains("bytes wait for it already"), "{fault}");
        mailbox.put(message(100)).unwrap();
        mailbox.put(message(100)).unwrap();
        assert!(mailbox.put(message(1)).is_err(), "three messages wait");
        for _ in 0..3 {
            messages.recv().await.unwrap();
        }
        mailbox.put(message(5000)).unwrap();
        assert!(mailbox.put(message(1)).is_err(), "the large one takes all room");
        drop(mailbox);
        assert_eq!(messages.recv().await.unwrap().sql.len(), 5000);
        assert!(messages.recv().await.is_none());
    }
}
