//! Messages and addresses that the fuzzer kept, and changes of them from fixed seeds, in every run of the tests. What is run, and
//! what must hold, is the fuzzer's own: `fuzz/`.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

#[path = "../../fuzz/src/addresses.rs"]
mod addresses;
#[path = "../../fuzz/src/change.rs"]
#[allow(dead_code)] // each test program uses its part
mod change;
#[path = "../../shuffle/tests/kept/mod.rs"]
mod kept;
#[path = "../../fuzz/src/messages.rs"]
mod messages;
#[path = "../../fuzz/src/sessions.rs"]
#[allow(dead_code)] // each test program uses its part
mod sessions;

use std::path::Path;

use kept::{changed_all, corpus_in, hold};

/// Changes of each kept input.
const CHANGES: u64 = 200;
/// The largest corpus, in bytes.
const BYTES_MAX: usize = 200 << 10;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    corpus_in(&folder, 20, BYTES_MAX, 1)
}

#[test]
fn messages_are_read_or_refused() {
    // An executor may have a name that is none.
    let read = (0..200).filter(|seed| messages::run(&messages::valid(*seed))).count();
    assert!(read > 180, "{read} of 200 messages");
    let kept = corpus("messages");
    assert!(hold(&kept, messages::run) > 0, "none was read");
    assert!(changed_all(&kept, CHANGES, messages::change, messages::run) > 0, "none was read");
}

#[test]
fn addresses_and_other_names_are_read_or_refused() {
    // A number may be larger than there are.
    let read = (0..400).filter(|seed| addresses::run(&addresses::valid(*seed))).count();
    assert!(read > 300, "{read} of 400 names");
    let kept = corpus("addresses");
    assert!(hold(&kept, addresses::run) > 0, "none was read");
    assert!(changed_all(&kept, CHANGES, addresses::change, addresses::run) > 0, "none was read");
}
