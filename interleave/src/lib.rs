//! Tests of what threads do at the same time.
//!
//! [`check`] runs a test body many times over, each time with its threads in another order, which [shuttle] draws: they are
//! coroutines of one thread, and change where a lock is taken or an atomic is used. A failure tells the seed's schedule, and the
//! same test fails in the same way again.
//!
//! A crate that is tested so has a module `sync` from which it takes locks and atomics. In the crate's own tests these are the
//! ones here; in every other build they are those of parking_lot and std, and nothing of this is linked. Outside of [`check`]
//! the ones here are nothing else either, so that all other tests of the crate run as ever.
//!
//! What is looked at is the order of operations, each seen by all at once: which memory ordering an atomic asks for makes no
//! difference here.
//!
//! Development only: no product crate depends on this one.

mod atomic;
mod mutex;

use std::cell::Cell;
use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::{AtomicBool as Dummy, Ordering};
use shuttle::{Config, Runner};

pub use atomic::{AtomicBool, AtomicU64};
pub use mutex::{Mutex, MutexGuard};
pub use shuttle::future::block_on;
pub use shuttle::thread::{JoinHandle, spawn};

/// Any number will do; the same one replays.
const SEED: u64 = 0x5EED;
/// The fewest times that threads must be interrupted for the faults that are found, at most.
const INTERRUPTIONS: usize = 4;
/// Bytes of a coroutine's stack: the tested code was written for a thread's.
const STACK_BYTES: usize = 256 << 10;
/// Switches after which an order counts as one that does not end.
const SWITCHES_MAX: usize = 100_000;

thread_local! {
    static IS_CHECKED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` in so many orders drawn evenly, and in as many that interrupt few times, at places that are hard to find.
///
/// # Panics
/// When `body` or one of its threads does, or all of them wait.
pub fn check(orders: usize, body: impl Fn() + Send + Sync + 'static) {
    let body = Arc::new(body);
    let again = Arc::clone(&body);
    let _checked = Checked::begin();
    Runner::new(RandomScheduler::new_from_seed(SEED, orders), config()).run(move || body());
    Runner::new(PctScheduler::new_from_seed(SEED, INTERRUPTIONS, orders), config()).run(move || again());
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = shuttle::MaxSteps::FailAfter(SWITCHES_MAX);
    config
}

/// While it lives this thread's locks and atomics switch.
struct Checked;

impl Checked {
    fn begin() -> Self {
        IS_CHECKED.set(true);
        Self
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        IS_CHECKED.set(false);
    }
}

fn is_checked() -> bool {
    // What a panic drops on its way is not interrupted: the order has failed already.
    IS_CHECKED.get() && !std::thread::panicking()
}

/// A place where another thread may come first.
pub fn switch() {
    if is_checked() {
        // Any operation of shuttle's is one.
        Dummy::new(false).load(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds one in two steps, which two threads must not do at the same time.
    fn add_apart(number: &AtomicU64) {
        let old = number.load(Ordering::Relaxed);
        number.store(old + 1, Ordering::Relaxed);
    }

    fn twice(add: impl Fn(&AtomicU64) + Send + Sync + Copy + 'static) {
        check(200, move || {
            let number = Arc::new(AtomicU64::new(0));
            let other = Arc::clone(&number);
            let thread = spawn(move || add(&other));
            add(&number);
            thread.join().unwrap();
            assert_eq!(number.load(Ordering::Relaxed), 2, "one was lost");
        });
    }

    #[test]
    #[should_panic(expected = "one was lost")]
    fn an_order_that_loses_is_found() {
        twice(add_apart);
    }

    #[test]
    fn what_is_one_operation_is_not_interrupted() {
        twice(|number| _ = number.fetch_add(1, Ordering::Relaxed));
    }

    #[test]
    fn a_lock_is_had_by_one_at_a_time_even_where_it_is_interrupted() {
        check(200, || {
            let both = Arc::new((Mutex::new(0), AtomicU64::new(0)));
            let add = |(lock, inside): &(Mutex<u64>, AtomicU64)| {
                let mut guard = lock.lock();
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                *guard += 1;
                inside.fetch_sub(1, Ordering::Relaxed);
            };
            let other = Arc::clone(&both);
            let thread = spawn(move || add(&other));
            add(&both);
            thread.join().unwrap();
            assert_eq!(*both.0.lock(), 2);
        });
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn waiting_for_ever_is_found() {
        check(10, || block_on(std::future::pending()));
    }

    #[test]
    fn outside_of_a_check_they_are_what_they_stand_for() {
        let lock = Arc::new(Mutex::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let lock = Arc::clone(&lock);
                std::thread::spawn(move || (0..1000).for_each(|_| *lock.lock() += 1))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*lock.lock(), 4000);
    }
}
