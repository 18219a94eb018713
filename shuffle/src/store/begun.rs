//! Reads that have begun before anybody waits for them.

use futures::FutureExt;
use futures::future::{self, BoxFuture};

/// Begins a read that goes on by itself once it has been begun, as all do that another thread carries out. What comes of it is
/// waited for later; when it is dropped, nobody waits for it.
pub(crate) fn begin<T: Send + 'static>(
    read: impl Future<Output = T> + Send + 'static,
) -> BoxFuture<'static, T> {
    let mut read = read.boxed();
    match (&mut read).now_or_never() {
        Some(done) => future::ready(done).boxed(),
        None => read,
    }
}
