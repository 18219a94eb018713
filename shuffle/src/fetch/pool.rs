//! Idle connections to those who share memory. A connection belongs to the runtime that made it and is used by no other.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};

use super::shared::SharedConnection;

/// Idle connections by runtime and peer.
#[derive(Debug)]
pub(super) struct Pool {
    idle_max: usize,
    idle: Mutex<HashMap<(Id, String), Vec<SharedConnection>>>,
}

impl Pool {
    pub fn new(idle_max: usize) -> Self {
        Self { idle_max, idle: Mutex::default() }
    }

    /// An idle connection to that peer, the one used last.
    pub fn take(&self, address: &str) -> Option<SharedConnection> {
        self.idle.lock().get_mut(&key(address))?.pop()
    }

    /// Keeps a connection on which nothing is under way, unless there are enough.
    pub fn put(&self, address: &str, connection: SharedConnection) {
        let mut idle = self.idle.lock();
        let idle = idle.entry(key(address)).or_default();
        if idle.len() < self.idle_max {
            idle.push(connection);
        }
    }

    /// Closes the idle connections to that peer.
    pub fn forget(&self, address: &str) {
        self.idle.lock().remove(&key(address));
    }

    pub fn len(&self) -> usize {
        self.idle.lock().values().map(Vec::len).sum()
    }
}

fn key(address: &str) -> (Id, String) {
    (Handle::current().id(), address.to_owned())
}
