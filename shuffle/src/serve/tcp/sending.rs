//! The end of a connection that is written to.

use std::future::ready;
use std::io::{self, IoSlice};

use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;

use crate::tls::TlsStream;

pub(super) trait Sending: Sync {
    /// What the kernel sends by.
    fn socket(&self) -> &TcpStream;

    /// Takes as many bytes as it can right now, to be sent.
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Gives the kernel all that was taken.
    fn flush(&self) -> impl Future<Output = io::Result<()>> + Send;
}

impl Sending for WriteHalf<'_> {
    fn socket(&self) -> &TcpStream {
        self.as_ref()
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        WriteHalf::try_write_vectored(self, parts)
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + Send {
        // The kernel has what was taken.
        ready(Ok(()))
    }
}

impl Sending for TlsStream {
    fn socket(&self) -> &TcpStream {
        TlsStream::socket(self)
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        TlsStream::try_write_vectored(self, parts)
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + Send {
        TlsStream::flush(self)
    }
}
