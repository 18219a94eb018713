//! Executors that are gone for good, with all that they held: whoever waits for one of them is woken, and nobody asks it again.
//!
//! A peer whose host lost its power, or its link, says nothing of it. A reader would find that out by its own deadlines; those who decide
//! that an executor is lost know it earlier.

use std::collections::HashSet;

use firesteel_base::{Epoch, ExecutorId};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::key::Holder;

/// Lives that are remembered; of readers that were told of one later than it was forgotten the deadlines are left.
const LIVES_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Gone {
    lives: Mutex<HashSet<(ExecutorId, Epoch)>>,
    noted: watch::Sender<()>,
}

impl Default for Gone {
    fn default() -> Self {
        Self { lives: Mutex::default(), noted: watch::Sender::new(()) }
    }
}

impl Gone {
    pub fn note(&self, executor: ExecutorId, epoch: Epoch) {
        let mut lives = self.lives.lock();
        if lives.len() >= LIVES_MAX {
            lives.clear();
        }
        lives.insert((executor, epoch));
        drop(lives);
        self.noted.send_replace(());
    }

    /// Ends when that holder is gone.
    pub async fn wait(&self, holder: &Holder) {
        let life = (holder.executor.clone(), holder.epoch);
        // Watched before it is looked at: what is noted in between wakes it.
        let mut noted = self.noted.subscribe();
        while !self.lives.lock().contains(&life) {
            noted.changed().await.expect("who notes is here");
        }
    }
}
