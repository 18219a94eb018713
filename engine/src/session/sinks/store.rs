//! An object store that writes into an attempt's folder what was meant for the target.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::stream::BoxStream;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use url::Url;

use super::staged::{FILE, FILES};

/// A registry whose local file system is a [`StagedStore`].
#[derive(Debug)]
pub(super) struct StagedRegistry {
    inner: Arc<dyn ObjectStoreRegistry>,
    detour: Detour,
}

/// Which paths go where.
#[derive(Debug, Clone)]
struct Detour {
    target: StorePath,
    attempt: StorePath,
    folder: PathBuf,
}

impl StagedRegistry {
    pub(super) fn new(inner: Arc<dyn ObjectStoreRegistry>, target: &Path, folder: PathBuf) -> Result<Self> {
        let detour = Detour { target: store_path(target)?, attempt: store_path(&folder)?, folder };
        Ok(Self { inner, detour })
    }
}

fn store_path(path: &Path) -> Result<StorePath> {
    let text = path.to_str().ok_or_else(|| exec_datafusion_err!("the path {path:?} is no text"))?;
    Ok(StorePath::parse(text.trim_start_matches('/'))?)
}

impl ObjectStoreRegistry for StagedRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.inner.register_store(url, store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let inner = self.inner.get_store(url)?;
        if url.scheme() != "file" {
            return Ok(inner);
        }
        Ok(Arc::new(StagedStore { inner, detour: self.detour.clone() }))
    }
}

/// Writes at or under the target go to the attempt's folder; all else is as it was.
#[derive(Debug)]
struct StagedStore {
    inner: Arc<dyn ObjectStore>,
    detour: Detour,
}

impl StagedStore {
    fn detour(&self, location: &StorePath) -> object_store::Result<StorePath> {
        let Detour { target, attempt, folder } = &self.detour;
        let Some(rest) = location.prefix_match(target) else {
            return Ok(location.clone());
        };
        // The local store makes missing folders: without this, what a cancelled attempt still writes would come back.
        if !folder.is_dir() {
            return Err(object_store::Error::NotFound {
                path: folder.display().to_string(),
                source: "the write was given up".into(),
            });
        }
        let rest: Vec<_> = rest.collect();
        Ok(match rest.is_empty() {
            true => attempt.clone().join(FILE),
            false => rest.into_iter().fold(attempt.clone().join(FILES), |path, part| path.join(part)),
        })
    }
}

impl fmt::Display for StagedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "staged({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for StagedStore {
    async fn put_opts(
        &self,
        location: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put_opts(&self.detour(location)?, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(&self.detour(location)?, options).await
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &StorePath,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
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
