//! A lock as parking_lot has it.

use shuttle::thread::yield_now;

pub use parking_lot::MutexGuard;

/// A lock that others may come before at each taking.
#[derive(Debug, Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Takes the lock, once nobody has it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        super::switch();
        while super::is_checked() {
            if let Some(guard) = self.0.try_lock() {
                return guard;
            }
            // Who has it is a coroutine of this very thread: waiting for it would be for ever.
            yield_now();
        }
        self.0.lock()
    }
}
