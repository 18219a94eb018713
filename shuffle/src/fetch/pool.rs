//! Idle connections to those who share memory. A connection belongs to the runtime that made it and is used by no other; one
//! that is not used is closed after a short time, and so is what it keeps mapped.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep};

use super::shared::SharedConnection;

type Key = (Id, String);

/// Idle connections by runtime and peer.
#[derive(Debug)]
pub(super) struct Pool {
    /// How many may be idle, of a runtime and to a peer.
    connections_max: usize,
    /// And for how long.
    idle_max: Duration,
    idle: Mutex<HashMap<Key, Vec<(Instant, SharedConnection)>>>,
}

impl Pool {
    pub fn new(connections_max: usize, idle_max: Duration) -> Self {
        Self { connections_max, idle_max, idle: Mutex::default() }
    }

    /// An idle connection to that peer, the one used last.
    pub fn take(&self, address: &str) -> Option<SharedConnection> {
        let (_, connection) = self.idle.lock().get_mut(&key(address))?.pop()?;
        Some(connection)
    }

    /// Keeps a connection on which nothing is under way, unless there are enough.
    pub fn put(self: &Arc<Self>, address: &str, connection: SharedConnection) {
        let mut idle = self.idle.lock();
        let idle = idle.entry(key(address)).or_insert_with(|| {
            let swept = Swept { pool: Arc::downgrade(self), key: key(address) };
            tokio::spawn(sweep(swept, self.idle_max));
            Vec::new()
        });
        if idle.len() < self.connections_max {
            idle.push((Instant::now(), connection));
        }
    }

    /// Closes the idle connections to that peer.
    pub fn forget(&self, address: &str) {
        let forgotten = self.idle.lock().get_mut(&key(address)).map(std::mem::take);
        drop(forgotten);
    }

    pub fn len(&self) -> usize {
        self.idle.lock().values().map(Vec::len).sum()
    }

    /// Closes those that were not used for long; whether there may be more to close later.
    fn close_unused(&self, key: &Key) -> bool {
        let mut idle = self.idle.lock();
        let Some(of_peer) = idle.get_mut(key) else { return false };
        let unused: Vec<_> = of_peer.extract_if(.., |(since, _)| since.elapsed() >= self.idle_max).collect();
        let are_left = !of_peer.is_empty();
        drop(idle);
        are_left || !unused.is_empty()
    }
}

/// The connections of a runtime to a peer, which are closed with it.
struct Swept {
    pool: Weak<Pool>,
    key: Key,
}

impl Drop for Swept {
    fn drop(&mut self) {
        let closed = self.pool.upgrade().and_then(|pool| pool.idle.lock().remove(&self.key));
        drop(closed);
    }
}

async fn sweep(swept: Swept, idle_max: Duration) {
    loop {
        sleep(idle_max).await;
        if !swept.pool.upgrade().is_some_and(|pool| pool.close_unused(&swept.key)) {
            return;
        }
    }
}

fn key(address: &str) -> Key {
    (Handle::current().id(), address.to_owned())
}
