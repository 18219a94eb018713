//! The executor's end: news are written by a thread of their own.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::news::News;

/// News that may wait to be written.
const WAITING_MAX: usize = 1 << 16;
/// How long the keeper may take to accept some bytes of a message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells a keeper what becomes of a store's blocks. A keeper that does not follow is told nothing any more, and keeps
/// nothing then.
#[derive(Debug)]
pub struct Reporter {
    /// None, when the keeper does not follow.
    news: Mutex<Option<SyncSender<News>>>,
}

impl Reporter {
    /// Connects to the keeper whose socket has this name ([`Keeper::name`](super::Keeper::name)).
    ///
    /// # Errors
    /// When there is none.
    pub fn connect(name: &str) -> io::Result<Self> {
        let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let (news, waiting) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("keeper news".to_owned()).spawn(move || tell(&stream, &waiting))?;
        Ok(Self { news: Mutex::new(Some(news)) })
    }

    pub(crate) fn tell(&self, news: News) {
        let mut open = self.news.lock();
        let Some(sender) = open.as_ref() else { return };
        match sender.try_send(news) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                tracing::warn!("the worker does not follow: it will not keep this executor's blocks");
                *open = None;
            }
        }
    }
}

fn tell(stream: &UnixStream, waiting: &Receiver<News>) {
    for news in waiting {
        let (message, descriptor) = news.into_message();
        if let Err(error) = send(stream, &message.write(), descriptor) {
            tracing::warn!(%error, "the worker cannot be told of blocks, and will not keep them");
            return;
        }
    }
}

/// Writes a message; the descriptor goes with its first byte.
fn send(stream: &UnixStream, message: &[u8], descriptor: Option<OwnedFd>) -> io::Result<()> {
    let mut rest = message;
    let mut passed: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
    while !rest.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !passed.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(&passed));
            assert!(fits, "there is room for one descriptor");
        }
        match sendmsg(stream, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) => rest = &rest[sent..],
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        passed.clear();
    }
    Ok(())
}
