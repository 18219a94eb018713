//! The inputs that the fuzzer kept, and changes of them from fixed seeds, in every run of the tests. What is run, and what must
//! hold, is the fuzzer's own: `fuzz/`.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use firesteel_shuffle::pack::Codec;

/// Changes of each kept input.
const CHANGES: u64 = if cfg!(miri) { 1 } else { 400 };
/// An interpreter takes only each so many'th input.
const STEP: usize = if cfg!(miri) { 20 } else { 1 };
const CORPUS_BYTES_MAX: usize = 300 << 10;

/// The kept inputs by name, in order.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame");
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// Whether the frame was accepted.
fn run(name: &str, seed: Option<u64>, input: &[u8]) -> bool {
    let done = catch_unwind(AssertUnwindSafe(|| fuzz::run(input)));
    done.unwrap_or_else(|_| panic!("input {name}, change {seed:?}: {input:?}"))
}

#[test]
fn what_the_fuzzer_kept_holds() {
    let inputs = corpus();
    let bytes: usize = inputs.iter().map(|(_, input)| input.len()).sum();
    assert!(inputs.len() > 100 && bytes <= CORPUS_BYTES_MAX, "{} inputs of {bytes} bytes", inputs.len());
    let accepted = inputs.iter().step_by(STEP).filter(|(name, input)| run(name, None, input)).count();
    assert!(accepted > 0, "nothing that is behind a refusal was looked at");
}

#[test]
fn changes_of_what_the_fuzzer_kept_hold() {
    let mut accepted = 0;
    for (number, (name, input)) in (0..).zip(corpus()).step_by(STEP) {
        let mut changed = input.clone();
        for seed in number * CHANGES..(number + 1) * CHANGES {
            // Each change comes on top of the last; from time to time it starts anew.
            if seed % 8 == 0 {
                changed.clone_from(&input);
            }
            fuzz::change(&mut changed, seed);
            accepted += u32::from(run(&name, Some(seed), &changed));
        }
    }
    assert!(accepted > 0 || cfg!(miri), "no change was accepted");
}

/// Rows of a frame that is packed: it is large enough for that.
const PACKED_ROWS: usize = 300;

#[test]
fn changes_of_packed_frames_hold() {
    let mut unpacked = 0;
    for choice in (0..=u8::MAX).step_by(if cfg!(miri) { 64 } else { 4 }) {
        // An interpreter runs no C.
        for codec in Codec::ALL.into_iter().filter(|codec| !cfg!(miri) || *codec == Codec::Lz4) {
            let whole = fuzz::packed(choice, codec, choice.into(), PACKED_ROWS);
            // Frames of noise do not shrink.
            if whole.is_empty() {
                continue;
            }
            assert!(fuzz::run_packed(choice, &whole), "{codec} of {choice}");
            let mut changed = whole.clone();
            for seed in 0..CHANGES / 4 {
                if seed % 4 == 0 {
                    changed.clone_from(&whole);
                }
                fuzz::change_packed(&mut changed, seed << 8 | u64::from(choice));
                let done = catch_unwind(AssertUnwindSafe(|| fuzz::run_packed(choice, &changed)));
                let is_unpacked = done.unwrap_or_else(|_| panic!("{codec} of {choice}, change {seed}"));
                unpacked += u32::from(is_unpacked);
            }
        }
    }
    assert!(unpacked > 0, "no change was unpacked");
}
