//! Where executors of this host come in who can share memory.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::segment;
use crate::transport::{Host, SocketName, Transport, huge_pages};
use crate::wire::Offer;

/// A socket that only processes in the same network namespace of the same kernel can connect to, and how they find it.
#[derive(Debug)]
pub(super) struct Sharing {
    pub listener: tokio::net::UnixListener,
    pub offer: Offer,
}

impl Sharing {
    /// Opens a socket, if that is wanted. What this host cannot do is said.
    ///
    /// # Errors
    /// When memory must be shared and cannot be.
    pub fn open(transport: Transport) -> io::Result<Option<Self>> {
        if transport == Transport::Tcp {
            return Ok(None);
        }
        match Self::try_open() {
            Ok(sharing) => {
                tracing::info!(pages = %huge_pages(), "executors of this host read shuffle blocks in shared memory");
                Ok(Some(sharing))
            }
            Err(reason) if transport == Transport::Shared => {
                Err(io::Error::new(io::ErrorKind::Unsupported, format!("memory cannot be shared: {reason}")))
            }
            Err(reason) => {
                tracing::warn!(%reason, "no memory is shared: executors of this host get shuffle blocks over TCP");
                Ok(None)
            }
        }
    }

    fn try_open() -> Result<Self, String> {
        segment::probe().map_err(|error| format!("no sealed memory: {error}"))?;
        let offer = Offer { host: Host::here()?, name: SocketName::random()? };
        let listener = listen(&offer.name).map_err(|error| format!("no Unix socket: {error}"))?;
        Ok(Self { listener, offer })
    }
}

fn listen(name: &SocketName) -> io::Result<tokio::net::UnixListener> {
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name.text())?)?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}
