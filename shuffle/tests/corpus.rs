//! The inputs that the fuzzer kept, and changes of them from fixed seeds, in every run of the tests: frames, and packed frames. What
//! is run, and what must hold, is the fuzzer's own: `fuzz/`.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)] // each test program uses its part
mod fuzz;
mod kept;

use fuzz::packed::{change_packed, codecs, packed, run_packed};
use fuzz::{change, run};
use kept::{changed_all, corpus, hold};

/// Changes of each kept input.
const CHANGES: u64 = if cfg!(miri) { 1 } else { 400 };
/// An interpreter takes only each so many'th input.
const STEP: usize = if cfg!(miri) { 20 } else { 1 };
/// The largest corpora, in bytes.
const FRAMES_BYTES_MAX: usize = 200 << 10;
const PACKED_BYTES_MAX: usize = 150 << 10;

#[test]
fn what_the_fuzzer_kept_holds() {
    let accepted = hold(&corpus("frame", 100, FRAMES_BYTES_MAX, STEP), run);
    assert!(accepted > 0, "nothing that is behind a refusal was looked at");
}

#[test]
fn changes_of_what_the_fuzzer_kept_hold() {
    let accepted = changed_all(&corpus("frame", 100, FRAMES_BYTES_MAX, STEP), CHANGES, change, run);
    assert!(accepted > 0 || cfg!(miri), "no change was accepted");
}

#[test]
fn packed_frames_that_the_fuzzer_kept_hold() {
    let unpacked = hold(&corpus("packed", 20, PACKED_BYTES_MAX, STEP), run_packed);
    // Miri takes few of them, and cannot unpack zstd's.
    assert!(unpacked > 0 || cfg!(miri), "none was unpacked");
}

#[test]
fn changes_of_packed_frames_that_the_fuzzer_kept_hold() {
    let kept = corpus("packed", 20, PACKED_BYTES_MAX, STEP);
    let unpacked = changed_all(&kept, CHANGES / 4 + 1, change_packed, run_packed);
    assert!(unpacked > 0 || cfg!(miri), "no change was unpacked");
}

/// Rows of a frame that is packed: it is large enough for that.
const PACKED_ROWS: usize = 300;

#[test]
fn changes_of_packed_frames_hold() {
    let mut inputs = Vec::new();
    for choice in (0..=u8::MAX).step_by(if cfg!(miri) { 64 } else { 4 }) {
        for codec in codecs() {
            // Frames of noise do not shrink.
            let Some(whole) = packed(choice, codec, choice.into(), PACKED_ROWS) else { continue };
            assert!(run_packed(&whole), "{codec} of {choice}");
            inputs.push((format!("{codec} of {choice}"), whole));
        }
    }
    let unpacked = changed_all(&inputs, CHANGES / 4, change_packed, run_packed);
    assert!(unpacked > 0 || cfg!(miri), "no change was unpacked");
}
