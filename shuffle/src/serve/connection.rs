//! What connections of all kinds have in common: the greeting, and finding what is asked for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::Shared;
use crate::pack::Codecs;
use crate::store::{Cell, StoreError};
use crate::tls;
use crate::wire::{HELLO_BYTES, Hello, Offer, Reply, RequestHead, Status, WireError};

/// What a client says first of TLS, at most; the end of it, when there is more, is lost.
const TLS_BEGIN_BYTES: usize = 4 << 10;

/// Why a connection was dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Dropped {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the client took more than {limit:?} for {step}")]
    Slow { step: &'static str, limit: Duration },
    #[error("as many connections are open as may be")]
    Busy,
    #[error("memory is shared with processes of the same user only, not of user {0}")]
    Stranger(u32),
}

/// Greets a client; one that asks for it is told the offer. Returns how it takes frames packed.
pub(super) async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    shared: &Shared,
    busy: bool,
    offer: Option<Offer>,
) -> Result<Codecs, Dropped> {
    let limit = shared.config.request_timeout;
    let mut hello = [0; HELLO_BYTES];
    within(limit, "its greeting", stream.read_exact(&mut hello)).await?;
    let greeting = Hello::read(&hello);
    let begins_tls = matches!(greeting, Err(WireError::Magic(begun)) if tls::is_begun_by(begun));
    if begins_tls {
        // It tells by our greeting that there is none to be had. What it said is read first: else it might not hear us.
        let mut rest = [0; TLS_BEGIN_BYTES];
        within(limit, "its greeting", stream.read(&mut rest)).await?;
    }
    if begins_tls || !matches!(greeting, Err(WireError::Magic(_))) {
        let asked = greeting.as_ref().is_ok_and(|hello| hello.shares);
        let offer = offer.filter(|_| asked && !busy);
        // One of another version is told ours.
        let hello = Hello { busy, shares: offer.is_some(), ..Hello::default() };
        let mut message = hello.write().to_vec();
        message.extend(offer.map(Offer::write).iter().flatten());
        let greet = async {
            stream.write_all(&message).await?;
            stream.flush().await
        };
        within(limit, "our greeting", greet).await?;
    }
    let codecs = greeting?.codecs;
    if busy { Err(Dropped::Busy) } else { Ok(codecs) }
}

pub(super) async fn within<T>(
    limit: Duration,
    step: &'static str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Dropped> {
    match timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Dropped::Slow { step, limit }),
    }
}

/// The answer, and the frames that were asked for.
pub(super) fn find(shared: &Shared, request: &RequestHead, name: &[u8]) -> (Reply, Vec<Arc<Cell>>) {
    let (status, frames) = match look_up(shared, request, name) {
        Ok(frames) => (Status::Ok, frames),
        Err(status) => (status, Vec::new()),
    };
    let reply = Reply {
        id: request.id,
        status,
        frames: u32::try_from(frames.len()).expect("a block has fewer than 2^32 frames"),
        bytes: frames.iter().map(|cell| cell.bytes()).sum(),
    };
    (reply, frames)
}

fn look_up(shared: &Shared, request: &RequestHead, name: &[u8]) -> Result<Vec<Arc<Cell>>, Status> {
    let store = shared.served.find(name, request.epoch).ok_or(Status::Stale)?;
    let mut frames = store.frames(&request.key).map_err(|error| match error {
        StoreError::NotCommitted(_) => Status::NotCommitted,
        _ => Status::Unknown,
    })?;
    let first = request.first_frame as usize;
    if first > frames.len() { Err(Status::Unknown) } else { Ok(frames.split_off(first)) }
}
