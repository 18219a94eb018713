//! Whose blocks a server serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firesteel_base::{Epoch, ExecutorId};
use parking_lot::{Mutex, RwLock};

use crate::store::BlockStore;

/// Stores by whose they are. An executor's own server has one; a keeper's has those of executors that are gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Served(Arc<RwLock<Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    executor: ExecutorId,
    epoch: Epoch,
    store: Arc<BlockStore>,
    asked: Mutex<Instant>,
}

impl Served {
    /// Serves `store` in the name of an executor in one of its lives.
    pub fn add(&self, executor: ExecutorId, epoch: Epoch, store: Arc<BlockStore>) {
        self.0.write().push(Entry { executor, epoch, store, asked: Mutex::new(Instant::now()) });
    }

    /// Serves `store` in that name, and nothing else.
    pub fn replace(&self, executor: ExecutorId, epoch: Epoch, store: Arc<BlockStore>) {
        let mut entries = self.0.write();
        entries.clear();
        entries.push(Entry { executor, epoch, store, asked: Mutex::new(Instant::now()) });
    }

    /// The store of the executor with that name in that life.
    pub fn find(&self, name: &[u8], epoch: Epoch) -> Option<Arc<BlockStore>> {
        let entries = self.0.read();
        let is_asked = |entry: &&Entry| entry.epoch == epoch && entry.executor.to_string().as_bytes() == name;
        let entry = entries.iter().find(is_asked)?;
        *entry.asked.lock() = Instant::now();
        Some(Arc::clone(&entry.store))
    }

    /// The stores of all lives of an executor, or of all.
    pub fn stores(&self, of: Option<&ExecutorId>) -> Vec<Arc<BlockStore>> {
        let entries = self.0.read();
        let wanted = entries.iter().filter(|entry| of.is_none_or(|executor| entry.executor == *executor));
        wanted.map(|entry| Arc::clone(&entry.store)).collect()
    }

    /// Lets go of the stores that `is_wanted` does not want.
    pub fn retain(&self, is_wanted: impl Fn(&BlockStore) -> bool) {
        let mut entries = self.0.write();
        let unwanted: Vec<_> = entries.extract_if(.., |entry| !is_wanted(&entry.store)).collect();
        drop(entries);
        drop(unwanted);
    }

    /// Lets go of the stores that nobody has asked for in so long.
    pub fn forget_idle(&self, idle_max: Duration) {
        let mut entries = self.0.write();
        let idle: Vec<_> = entries.extract_if(.., |entry| entry.asked.lock().elapsed() >= idle_max).collect();
        drop(entries);
        for entry in idle {
            tracing::warn!(executor = %entry.executor, epoch = %entry.epoch, "nobody asks for the blocks that are kept");
        }
    }
}
