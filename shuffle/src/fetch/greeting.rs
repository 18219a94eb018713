//! Greeting a block server.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::pack::Codecs;
use crate::transport::StepError;
use crate::wire::{HELLO_BYTES, Hello, OFFER_BYTES, Offer};

/// Greets a server, which may send frames packed so; says what it offers to whom it can share memory with, if `asks`.
pub(super) async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    asks: bool,
    codecs: Codecs,
) -> io::Result<Result<Option<Offer>, StepError>> {
    stream.write_all(&Hello { shares: asks, codecs, ..Hello::default() }.write()).await?;
    stream.flush().await?;
    let mut hello = [0; HELLO_BYTES];
    stream.read_exact(&mut hello).await?;
    match Hello::read(&hello) {
        Ok(Hello { is_tls_only: true, .. }) => {
            Ok(Err(StepError::Untrusted("it serves over TLS alone, and here none is set up".to_owned())))
        }
        Ok(Hello { busy: true, .. }) => Ok(Err(StepError::Busy)),
        Ok(Hello { shares: true, .. }) if asks => {
            let mut offer = [0; OFFER_BYTES];
            stream.read_exact(&mut offer).await?;
            Ok(Ok(Some(Offer::read(&offer))))
        }
        Ok(_) => Ok(Ok(None)),
        Err(error) => Ok(Err(error.into())),
    }
}
