//! Receiving two pieces with one system call: the rest of a frame into its own memory, and what follows it.
//!
//! Unsafe is needed for a system call into memory that is not initialized, which no crate in use makes for two pieces.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use bytes::BufMut;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads some bytes into the memory that is left of `first` and, when that is full, into `behind`; how many bytes came into each.
/// The end of the connection is an error.
pub(super) async fn read(
    stream: &TcpStream,
    first: &mut impl BufMut,
    behind: &mut [u8],
) -> io::Result<(usize, usize)> {
    loop {
        stream.readable().await?;
        // Less than there is room for is no sign that no more has come: while a peer sends, the next call finds more.
        match stream.try_io(Interest::READABLE, || read_now(stream, first, behind)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(came) => {
                let of_first = came.min(first.remaining_mut());
                // SAFETY: the kernel has filled so many bytes from where `chunk_mut` begins.
                unsafe { first.advance_mut(of_first) };
                return Ok((of_first, came - of_first));
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Has the kernel fill `first` and then `behind`, as far as it can; how many bytes came together.
fn read_now(stream: &TcpStream, first: &mut impl BufMut, behind: &mut [u8]) -> io::Result<usize> {
    let whole = first.remaining_mut();
    let chunk = first.chunk_mut();
    assert_eq!(chunk.len(), whole, "it is one piece of memory");
    let pieces = [
        libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() },
        libc::iovec { iov_base: behind.as_mut_ptr().cast(), iov_len: behind.len() },
    ];
    // SAFETY: both pieces are memory of these lengths that is borrowed for the call, and the kernel only writes to it.
    let came = unsafe { libc::readv(stream.as_raw_fd(), pieces.as_ptr(), 2) };
    usize::try_from(came).map_err(|_| io::Error::last_os_error())
}
