//! Work by several threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use firesteel_base::UserError;
use parking_lot::Mutex;

/// Says whether the work is to end before it is done.
pub(super) type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// What `work` makes of each of `tasks`, in their order, by several threads, each of which takes the next task that nobody
/// has. The first fault stops all; work that is stopped gives nothing.
pub(super) fn in_parallel<T: Sync, R: Send>(
    threads: usize,
    tasks: &[T],
    work: impl Fn(&T, Stop<'_>) -> Result<Option<R>, UserError> + Sync,
) -> Result<Vec<R>, UserError> {
    let next = AtomicUsize::new(0);
    let fault = Mutex::new(None);
    let done = Mutex::new(Vec::with_capacity(tasks.len()));
    let stop = || fault.lock().is_some();
    let take = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(at) else { return };
            match work(task, &stop) {
                Ok(Some(result)) => done.lock().push((at, result)),
                Ok(None) => return,
                Err(error) => {
                    fault.lock().get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(tasks.len()) {
            scope.spawn(take);
        }
    });
    if let Some(error) = fault.into_inner() {
        return Err(error);
    }
    let mut done = done.into_inner();
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_tasks() {
        let tasks: Vec<u64> = (0..100).collect();
        let doubled = in_parallel(4, &tasks, |task, _| Ok(Some(task * 2))).unwrap();
        assert!(doubled.into_iter().eq((0..100).map(|task| task * 2)));
    }

    #[test]
    fn a_fault_stops_all_and_is_told() {
        let tasks: Vec<u64> = (0..4).collect();
        let outcome = in_parallel(4, &tasks, |task, stop| match task {
            0 => Err(UserError::new("no space")),
            _ => {
                while !stop() {
                    std::thread::yield_now();
                }
                Ok(None::<()>)
            }
        });
        assert_eq!(outcome.unwrap_err().message, "no space");
    }
}
