//! Clients that say anything to a server, and servers that answer anything to a client: what the fuzzer kept of both, and changes
//! from fixed seeds, in every run of the tests. What is run, and what must hold, is the fuzzer's own: `fuzz/`.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)] // each test program uses its part
mod fuzz;
mod kept;

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuzz::peers::fetch::{change_fetch, run_fetch, valid_fetch};
use fuzz::peers::serve::{change_serve, run_serve, valid_serve};
use kept::{changed_all, corpus, hold};

/// The largest corpus, in bytes.
const BYTES_MAX: usize = 64 << 10;
/// Changes of each kept input.
const CHANGES: u64 = 10;

/// Panics of any thread: those of a task end it, and would pass for the end of a connection.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Does `work`, in which nothing may panic.
fn without_panics(work: impl FnOnce()) {
    static COUNTING: Once = Once::new();
    COUNTING.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            told(panic);
        }));
    });
    work();
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a task panicked");
}

fn has_all(input: &[u8]) -> bool {
    run_fetch(input) == 2
}

#[test]
fn a_server_survives_what_clients_say() {
    without_panics(|| {
        (0..200).for_each(|seed| assert!(run_serve(&valid_serve(seed)), "who keeps to the protocol, {seed}"));
        let kept = corpus("serve", 20, BYTES_MAX, 1);
        assert!(hold(&kept, run_serve) > 0, "no client was served");
        assert!(changed_all(&kept, CHANGES, change_serve, run_serve) > 0, "no changed client was served");
    });
}

#[test]
fn a_client_survives_what_servers_answer() {
    without_panics(|| {
        // Some answer that there is no such block.
        let all = (0..200).filter(|seed| has_all(&valid_fetch(*seed))).count();
        assert!(all > 100, "{all} of 200 servers that keep to the protocol");
        let kept = corpus("fetch", 20, BYTES_MAX, 1);
        assert!(hold(&kept, has_all) > 0, "no block came");
        assert!(changed_all(&kept, CHANGES, change_fetch, has_all) > 0, "no block came in changed answers");
    });
}
