//! The run queue under all orders of those who send, ask, and stop it (`interleave`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;

use firesteel_interleave::{block_on, check, spawn};

use super::CoreUsage;
use super::queue::{CoreHandle, Orders, Work};

/// What a core thread does with its queue, each future run to its end before the next is taken up.
fn serve(handle: CoreHandle, mut orders: Orders) -> Duration {
    block_on(async {
        while let Some(work) = orders.next().await {
            let running = handle.counts().taken();
            match work {
                Work::Run(work) => work.await,
                Work::Make(make) => make().await,
            }
            drop(running);
        }
    });
    orders.drain()
}

/// Sends works that count themselves; returns how many were accepted.
fn send(handle: &CoreHandle, ran: &Arc<AtomicU64>, works: u64) -> u64 {
    let counts = |ran: &Arc<AtomicU64>| {
        let ran = Arc::clone(ran);
        async move { _ = ran.fetch_add(1, Ordering::Relaxed) }
    };
    let accepted = (0..works).filter(|number| {
        let work = counts(ran);
        if number % 2 == 0 { handle.spawn(work.boxed()) } else { handle.spawn_with(|| work) }.is_ok()
    });
    accepted.count() as u64
}

#[test]
fn in_every_order_what_was_accepted_runs_once_and_nothing_else_does() {
    check(400, || {
        let (handle, orders) = CoreHandle::new("core");
        let ran = Arc::new(AtomicU64::new(0));
        let core = {
            let handle = handle.clone();
            spawn(move || serve(handle, orders))
        };
        let senders = [(); 2].map(|()| {
            let (handle, ran) = (handle.clone(), Arc::clone(&ran));
            spawn(move || send(&handle, &ran, 2))
        });
        let stops = [1, 2].map(|seconds| {
            let handle = handle.clone();
            spawn(move || handle.order_stop(Duration::from_secs(seconds)).then_some(seconds))
        });
        let accepted: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        let stops = stops.map(|stop| stop.join().unwrap());
        let drain = core.join().unwrap();
        assert!(stops.contains(&Some(drain.as_secs())), "{drain:?} is none of {stops:?}");
        assert_eq!(ran.load(Ordering::Relaxed), accepted);
        let ended = CoreUsage { ended: accepted, ..CoreUsage::default() };
        assert_eq!(handle.usage(), ended);
        assert!(handle.spawn(async {}.boxed()).is_err() && !handle.order_stop(Duration::ZERO));
        assert_eq!(handle.usage(), ended, "what was refused is not counted");
    });
}

#[test]
fn in_every_order_usage_counts_each_future_once() {
    check(400, || {
        let (handle, orders) = CoreHandle::new("core");
        let ran = Arc::new(AtomicU64::new(0));
        let core = {
            let handle = handle.clone();
            spawn(move || serve(handle, orders))
        };
        assert_eq!(send(&handle, &ran, 2), 2);
        let sender = {
            let (handle, ran) = (handle.clone(), Arc::clone(&ran));
            spawn(move || send(&handle, &ran, 1))
        };
        let CoreUsage { queued, running, ended, .. } = handle.usage();
        assert!((2..=3).contains(&(queued + running + ended)), "{queued}, {running}, {ended}");
        assert_eq!(sender.join().unwrap(), 1);
        assert!(handle.order_stop(Duration::ZERO));
        core.join().unwrap();
    });
}

#[test]
fn a_queue_that_nobody_can_send_to_ends() {
    check(100, || {
        let (handle, orders) = CoreHandle::new("core");
        let counted = handle.counts();
        let core = spawn(move || {
            let mut orders = orders;
            block_on(async {
                let mut taken = 0;
                while let Some(work) = orders.next().await {
                    drop((counted.taken(), work));
                    taken += 1;
                }
                (taken, orders.drain())
            })
        });
        assert_eq!(send(&handle, &Arc::default(), 1), 1);
        drop(handle);
        assert_eq!(core.join().unwrap(), (1, Duration::ZERO));
    });
}
