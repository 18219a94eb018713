//! Configurations that the fuzzer kept, and changes of them from fixed seeds, in every run of the tests. What is run, and what must
//! hold, is the fuzzer's own: `fuzz/`.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

#[path = "../../fuzz/src/change.rs"]
#[allow(dead_code)] // each test program uses its part
mod change;
#[path = "../../fuzz/src/config.rs"]
mod config;
#[path = "../../shuffle/tests/kept/mod.rs"]
mod kept;

use std::path::Path;

use kept::{changed_all, corpus_in, hold};

/// Changes of each kept input.
const CHANGES: u64 = 60;
/// The largest corpus, in bytes.
const BYTES_MAX: usize = 200 << 10;

#[test]
fn configurations_are_read_or_refused() {
    for seed in 0..200 {
        let valid = config::valid(seed);
        assert!(config::run(&valid), "{seed}: {}", String::from_utf8_lossy(&valid));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/config");
    let kept = corpus_in(&folder, 20, BYTES_MAX, 1);
    assert!(hold(&kept, config::run) > 0, "none was accepted");
    assert!(changed_all(&kept, CHANGES, config::change, config::run) > 0, "none was accepted");
}
