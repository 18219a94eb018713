//! The results of cluster-mode jobs, kept on the worker that ran their driver until they are freed or crowded out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use firesteel_base::{ByteSize, JobId, UserError};
use firesteel_protocol::token::Secret;
use parking_lot::Mutex;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultLimits {
    /// Results.
    pub count_max: usize,
    /// Bytes of all results together.
    pub bytes_max: ByteSize,
}

impl Default for ResultLimits {
    fn default() -> Self {
        Self { count_max: 100, bytes_max: ByteSize(10 << 30) }
    }
}

/// A folder of result files, one a job.
#[derive(Debug)]
pub struct ResultStore {
    folder: PathBuf,
    limits: ResultLimits,
    // Job numbers ascend, so the first is the oldest.
    kept: Mutex<BTreeMap<JobId, u64>>,
    /// What who fetches a result must show: of drivers that run, and of results that are kept.
    tickets: Mutex<BTreeMap<JobId, Secret>>,
}

impl ResultStore {
    /// An empty store in `folder`. What an earlier process left there is removed: nobody knows of it any more.
    ///
    /// # Errors
    /// When the folder cannot be made or emptied.
    pub fn create(folder: PathBuf, limits: ResultLimits) -> Result<Self, UserError> {
        let made = remove_if_there(&folder, |path| fs::remove_dir_all(path));
        made.and_then(|()| fs::create_dir_all(&folder)).map_err(|fault| {
            UserError::new(format!("cannot use {} for results", folder.display())).detail(fault.to_string())
        })?;
        Ok(Self { folder, limits, kept: Mutex::default(), tickets: Mutex::default() })
    }

    /// Where the driver of `job` is to write its result.
    #[must_use]
    pub fn path(&self, job: JobId) -> PathBuf {
        self.folder.join(format!("{job}.arrow"))
    }

    /// A driver of `job` begins, whose result is for whoever shows this; for anybody when it is empty.
    pub fn expect(&self, job: JobId, ticket: Secret) {
        self.tickets.lock().insert(job, ticket);
    }

    /// Whether the result of `job` is for whoever shows this.
    #[must_use]
    pub fn is_for(&self, job: JobId, shown: &str) -> bool {
        let tickets = self.tickets.lock();
        tickets.get(&job).is_none_or(|ticket| ticket.expose().is_empty() || ticket.is(shown))
    }

    /// Keeps what the ended driver of `job` wrote, and drops the oldest results that are now too many.
    pub fn keep(&self, job: JobId) {
        let Ok(file) = fs::metadata(self.path(job)) else {
            self.tickets.lock().remove(&job);
            return;
        };
        let mut kept = self.kept.lock();
        kept.insert(job, file.len());
        while over(&kept, self.limits) {
            let Some((oldest, _)) = kept.pop_first() else { return };
            tracing::info!(job = %oldest, "dropped the oldest result to make room");
            self.remove(oldest);
        }
    }

    /// How many are kept, and their bytes.
    #[must_use]
    pub fn usage(&self) -> (usize, u64) {
        let kept = self.kept.lock();
        (kept.len(), kept.values().sum())
    }

    /// The file with the result of `job`, when there is one. A driver gives its file this name when it is complete, and
    /// says so to the manager before it exits: a client may well ask before the driver's end is known here.
    #[must_use]
    pub fn find(&self, job: JobId) -> Option<PathBuf> {
        let path = self.path(job);
        path.is_file().then_some(path)
    }

    /// Deletes the result of `job`, kept or half written.
    pub fn free(&self, job: JobId) {
        self.kept.lock().remove(&job);
        self.remove(job);
    }

    fn remove(&self, job: JobId) {
        self.tickets.lock().remove(&job);
        let path = self.path(job);
        if let Err(fault) = remove_if_there(&path, |path| fs::remove_file(path)) {
            tracing::warn!(%job, file = %path.display(), %fault, "cannot remove a result");
        }
    }
}

fn over(kept: &BTreeMap<JobId, u64>, limits: ResultLimits) -> bool {
    // The newest stays, however large: its client is about to ask for it.
    kept.len() > 1 && (kept.len() > limits.count_max || kept.values().sum::<u64>() > limits.bytes_max.0)
}

fn remove_if_there(path: &Path, remove: impl Fn(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    match remove(path) {
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &Path, count_max: usize, bytes_max: u64) -> ResultStore {
        let limits = ResultLimits { count_max, bytes_max: ByteSize(bytes_max) };
        ResultStore::create(folder.join("results"), limits).unwrap()
    }

    fn put(store: &ResultStore, job: u64, bytes: usize) {
        fs::write(store.path(JobId(job)), vec![0; bytes]).unwrap();
        store.keep(JobId(job));
    }

    fn kept(store: &ResultStore) -> Vec<u64> {
        (1..10).filter(|&job| store.find(JobId(job)).is_some_and(|path| path.exists())).collect()
    }

    #[test]
    fn only_the_newest_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path(), 2, 1000);
        (1..=3).for_each(|job| put(&store, job, 10));
        assert_eq!(kept(&store), [2, 3]);
        assert!(!store.path(JobId(1)).exists());
    }

    #[test]
    fn bytes_are_bounded_but_the_newest_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path(), 10, 100);
        (1..=2).for_each(|job| put(&store, job, 40));
        assert_eq!(store.usage(), (2, 80));
        put(&store, 3, 500);
        assert_eq!(kept(&store), [3]);
        assert_eq!(store.usage(), (1, 500));
    }

    #[test]
    fn a_freed_result_is_gone_and_a_missing_one_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path(), 10, 100);
        put(&store, 1, 10);
        store.free(JobId(1));
        store.keep(JobId(2));
        assert!(kept(&store).is_empty());
    }

    #[test]
    fn a_result_is_for_whoever_has_its_ticket() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path(), 10, 100);
        store.expect(JobId(1), Secret::new("ticket"));
        store.expect(JobId(2), Secret::default());
        put(&store, 1, 10);
        assert!(
            store.is_for(JobId(1), "ticket") && !store.is_for(JobId(1), "") && !store.is_for(JobId(1), "x")
        );
        assert!(store.is_for(JobId(2), ""), "nobody is asked for one");
        store.free(JobId(1));
        assert!(store.tickets.lock().get(&JobId(1)).is_none());
    }

    #[test]
    fn a_new_store_starts_empty() {
        let root = tempfile::tempdir().unwrap();
        put(&store(root.path(), 10, 100), 1, 10);
        let again = store(root.path(), 10, 100);
        assert!(!again.path(JobId(1)).exists());
    }
}
