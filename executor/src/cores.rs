//! Which cores of an executor are free, and who waits for some.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The executor's cores as a pool. Attempts get theirs in the order in which they asked: a wide attempt is not
/// overtaken by narrow ones, so it cannot starve.
#[derive(Debug, Clone)]
pub struct CorePool {
    pool: Arc<Mutex<Pool>>,
}

#[derive(Debug)]
struct Pool {
    total: usize,
    free: BTreeSet<usize>,
    waiting: VecDeque<Waiter>,
    waiting_max: usize,
}

#[derive(Debug)]
struct Waiter {
    lanes: usize,
    grant: oneshot::Sender<CoreLease>,
}

/// Cores that belong to one attempt until this is dropped.
#[derive(Debug)]
pub struct CoreLease {
    cores: Vec<usize>,
    pool: Arc<Mutex<Pool>>,
}

/// Why an attempt gets no cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoCores {
    /// It asks for none, or for more than there are.
    #[error("it asks for {asked} cores, the executor has {total}")]
    Impossible {
        /// Cores asked for.
        asked: usize,
        /// Cores of the executor.
        total: usize,
    },
    /// As many attempts wait already as may.
    #[error("{waiting} attempts wait for cores already")]
    QueueFull {
        /// Attempts that wait.
        waiting: usize,
    },
}

impl CorePool {
    /// A pool of `total` free cores, for which at most `waiting_max` attempts may wait.
    #[must_use]
    pub fn new(total: usize, waiting_max: usize) -> Self {
        let pool = Pool { total, free: (0..total).collect(), waiting: VecDeque::new(), waiting_max };
        Self { pool: Arc::new(Mutex::new(pool)) }
    }

    /// Asks for `lanes` cores. The answer holds them at once or as soon as it is this attempt's turn; dropping it
    /// gives up the place in the queue.
    ///
    /// # Errors
    /// When that many cores can never be had, or the queue is full.
    pub fn ask(&self, lanes: usize) -> Result<oneshot::Receiver<CoreLease>, NoCores> {
        let mut pool = self.pool.lock();
        if lanes == 0 || lanes > pool.total {
            return Err(NoCores::Impossible { asked: lanes, total: pool.total });
        }
        pool.waiting.retain(|waiter| !waiter.grant.is_closed());
        if pool.waiting.len() >= pool.waiting_max && (!pool.waiting.is_empty() || pool.free.len() < lanes) {
            return Err(NoCores::QueueFull { waiting: pool.waiting.len() });
        }
        let (grant, answer) = oneshot::channel();
        pool.waiting.push_back(Waiter { lanes, grant });
        admit(&self.pool, &mut pool);
        Ok(answer)
    }

    /// Cores that nobody holds.
    #[must_use]
    pub fn free(&self) -> usize {
        self.pool.lock().free.len()
    }
}

/// Hands free cores to those who wait, first come first served.
fn admit(shared: &Arc<Mutex<Pool>>, pool: &mut Pool) {
    while let Some(next) = pool.waiting.front() {
        if next.grant.is_closed() {
            pool.waiting.pop_front();
            continue;
        }
        if next.lanes > pool.free.len() {
            return;
        }
        let waiter = pool.waiting.pop_front().expect("the front was there");
        let cores: Vec<_> = pool.free.iter().copied().take(waiter.lanes).collect();
        cores.iter().for_each(|core| {
            pool.free.remove(core);
        });
        let lease = CoreLease { cores, pool: Arc::clone(shared) };
        if let Err(mut refused) = waiter.grant.send(lease) {
            // Taken out before the lease is dropped: its drop would lock the pool again.
            pool.free.extend(refused.cores.drain(..));
        }
    }
}

impl CoreLease {
    /// The cores, ascending.
    #[must_use]
    pub fn cores(&self) -> &[usize] {
        &self.cores
    }
}

impl Drop for CoreLease {
    fn drop(&mut self) {
        if self.cores.is_empty() {
            return;
        }
        let mut pool = self.pool.lock();
        pool.free.extend(self.cores.drain(..));
        admit(&self.pool, &mut pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(mut answer: oneshot::Receiver<CoreLease>) -> Option<CoreLease> {
        answer.try_recv().ok()
    }

    #[test]
    fn each_attempt_gets_cores_of_its_own() {
        let pool = CorePool::new(4, 8);
        let one = now(pool.ask(1).unwrap()).unwrap();
        let wide = now(pool.ask(3).unwrap()).unwrap();
        assert_eq!((one.cores(), wide.cores()), (&[0][..], &[1, 2, 3][..]));
        drop(one);
        assert_eq!(now(pool.ask(1).unwrap()).unwrap().cores(), [0]);
    }

    #[test]
    fn a_wide_attempt_is_not_overtaken() {
        let pool = CorePool::new(2, 8);
        let first = now(pool.ask(1).unwrap()).unwrap();
        let mut wide = pool.ask(2).unwrap();
        let mut narrow = pool.ask(1).unwrap();
        assert!(wide.try_recv().is_err() && narrow.try_recv().is_err());
        drop(first);
        let wide = wide.try_recv().unwrap();
        assert!(narrow.try_recv().is_err());
        drop(wide);
        assert_eq!(narrow.try_recv().unwrap().cores(), [0]);
    }

    #[test]
    fn who_gave_up_waiting_is_skipped() {
        let pool = CorePool::new(1, 8);
        let first = now(pool.ask(1).unwrap()).unwrap();
        drop(pool.ask(1).unwrap());
        let mut third = pool.ask(1).unwrap();
        drop(first);
        drop(third.try_recv().unwrap());
        assert_eq!(pool.free(), 1);
    }

    #[test]
    fn a_lease_nobody_took_comes_back() {
        let pool = CorePool::new(1, 8);
        let answer = pool.ask(1).unwrap();
        assert_eq!(pool.free(), 0);
        drop(answer);
        assert_eq!(pool.free(), 1);
    }

    #[test]
    fn the_queue_is_bounded_and_impossible_wishes_are_refused() {
        let pool = CorePool::new(1, 1);
        assert_eq!(pool.ask(2).unwrap_err(), NoCores::Impossible { asked: 2, total: 1 });
        assert_eq!(pool.ask(0).unwrap_err(), NoCores::Impossible { asked: 0, total: 1 });
        let _running = now(pool.ask(1).unwrap()).unwrap();
        let _waiting = pool.ask(1).unwrap();
        assert_eq!(pool.ask(1).unwrap_err(), NoCores::QueueFull { waiting: 1 });
    }
}
