//! Reading files of this host on the core that wants them.
//!
//! The local store of `object_store` hands every read to a thread of tokio's blocking pool. When the page cache holds the
//! bytes, that thread takes the processor from a core thread, copies into memory that no thread has used before (the
//! kernel clears each page first), and a core waits for it. What is cached is read here instead, at once and into memory
//! that the core has just given back; what is not goes the old way, so that no core waits for a disk.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use url::Url;

/// The most bytes of one request that a core copies by itself; it does nothing else meanwhile.
const CACHED_BYTES_MAX: u64 = 64 << 20;

/// The files of this host.
#[derive(Debug, Default)]
pub struct LocalFiles {
    inner: LocalFileSystem,
}

impl LocalFiles {
    /// Makes the files of this host be read this way.
    pub fn serve_in(runtime: &RuntimeEnv) {
        let url = Url::parse("file:///").expect("an address");
        runtime.register_object_store(&url, Arc::new(Self::default()));
    }

    /// All ranges, when the page cache holds them; whatever is in the way of that, the other way tells of it.
    fn read_cached(&self, location: &StorePath, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let total = ranges
            .iter()
            .try_fold(0_u64, |sum, range| sum.checked_add(range.end.checked_sub(range.start)?))?;
        if total > CACHED_BYTES_MAX {
            return None;
        }
        let file = File::open(self.inner.path_to_filesystem(location).ok()?).ok()?;
        ranges.iter().map(|range| read_cached(&file, range)).collect()
    }
}

/// The bytes of a range when all of them are cached.
fn read_cached(file: &File, range: &Range<u64>) -> Option<Bytes> {
    let wanted = usize::try_from(range.end - range.start).ok()?;
    let mut bytes = Vec::with_capacity(wanted);
    while bytes.len() < wanted {
        let at = range.start + bytes.len() as u64;
        match append_cached(file, &mut bytes, wanted, at) {
            // The file ends here, or the rest is not cached.
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
    Some(bytes.into())
}

/// Appends what the page cache holds from `at` on, until `bytes` are `wanted` many; returns how many came. Never waits for
/// a disk.
fn append_cached(file: &File, bytes: &mut Vec<u8>, wanted: usize, at: u64) -> io::Result<usize> {
    let offset = i64::try_from(at).map_err(io::Error::other)?;
    let missing = wanted - bytes.len();
    let spare = bytes.spare_capacity_mut();
    let place = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: missing.min(spare.len()) };
    // SAFETY: the one place that the kernel writes to is spare capacity of `bytes`, which nothing else uses meanwhile.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const place, 1, offset, libc::RWF_NOWAIT) };
    let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
    // SAFETY: the kernel has filled that many bytes of the spare capacity.
    unsafe { bytes.set_len(bytes.len() + read) };
    Ok(read)
}

impl fmt::Display for LocalFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for LocalFiles {
    async fn put_opts(
        &self,
        location: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &StorePath,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        match self.read_cached(location, ranges) {
            Some(read) => Ok(read),
            None => self.inner.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<StorePath>>,
    ) -> BoxStream<'static, object_store::Result<StorePath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&StorePath>,
        offset: &StorePath,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &StorePath,
        to: &StorePath,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    #[tokio::test]
    async fn ranges_are_those_of_the_file_and_beyond_its_end_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let bytes: Vec<u8> = (0..100_000_u32).map(|place| (place % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let location = StorePath::from_absolute_path(&path).unwrap();
        let store = LocalFiles::default();
        let ranges = [0..10, 4095..4097, 99_999..100_000, 0..100_000];
        let read = store.get_ranges(&location, &ranges).await.unwrap();
        for (range, read) in ranges.iter().zip(read) {
            assert_eq!(read, bytes[range.start as usize..range.end as usize], "{range:?}");
        }
        let beyond = store.get_ranges(&location, from_ref(&(99_990..100_010))).await.unwrap_err();
        assert!(beyond.to_string().contains("range"), "{beyond}");
        let gone = store.get_ranges(&StorePath::from("no/such/file"), from_ref(&(0..1))).await.unwrap_err();
        assert!(matches!(gone, object_store::Error::NotFound { .. }), "{gone}");
    }

    #[test]
    fn a_large_request_is_not_for_a_core() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, b"ten bytes.").unwrap();
        let location = StorePath::from_absolute_path(&path).unwrap();
        let store = LocalFiles::default();
        assert!(store.read_cached(&location, from_ref(&(0..10))).is_some());
        assert!(store.read_cached(&location, &[0..10, 0..CACHED_BYTES_MAX]).is_none());
    }
}
