//! The pool under all orders of its takers (`interleave`).

use futures::FutureExt;

use firesteel_interleave::{block_on, check, spawn, switch};

use super::{PAGE_BYTES, PagePool, Pages};

/// Marks a buffer as one's own, lets others come, and looks whether anybody else has written to it.
fn hold(mut pages: Pages, owner: u8) {
    pages.as_bytes_mut()[..8].fill(owner);
    switch();
    assert_eq!(pages.as_bytes()[..8], [owner; 8], "two have the same buffer");
}

#[test]
fn in_every_order_each_buffer_has_one_owner_and_all_come_back() {
    check(300, || {
        let pool = PagePool::new(2, PAGE_BYTES).unwrap();
        let threads = [1, 2, 3].map(|owner| {
            let pool = pool.clone();
            spawn(move || {
                for _ in 0..2 {
                    hold(block_on(pool.take(100)), owner);
                }
            })
        });
        for _ in 0..2 {
            if let Some(pages) = pool.try_take(PAGE_BYTES) {
                hold(pages, 9);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(pool.free(), 2);
        let all = [pool.try_take(1).unwrap(), pool.try_take(1).unwrap()];
        assert!(all[0].start() != all[1].start() && pool.try_take(1).is_none());
    });
}

#[test]
fn who_stops_waiting_takes_no_buffer_with_him() {
    check(300, || {
        let pool = PagePool::new(1, PAGE_BYTES).unwrap();
        let held = pool.try_take(1).unwrap();
        let impatient = {
            let pool = pool.clone();
            spawn(move || {
                // Asked once, and dropped: while it waits, when a buffer came for it, or with the buffer.
                let mut waiting = Box::pin(pool.take(1));
                let first = waiting.as_mut().now_or_never();
                switch();
                drop((first, waiting));
            })
        };
        let patient = {
            let pool = pool.clone();
            spawn(move || hold(block_on(pool.take(1)), 1))
        };
        hold(held, 2);
        impatient.join().unwrap();
        patient.join().unwrap();
        assert_eq!(pool.free(), 1);
    });
}
