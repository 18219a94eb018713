//! Running the inputs that the fuzzer kept.
#![allow(dead_code)] // each test program uses its part
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// From so many changes on an input starts anew.
const CHANGES_IN_A_ROW: u64 = 8;

/// Each `step`th of a target's kept inputs by name, in order: there must be as many as `least`, of `bytes_max` together.
pub fn corpus(target: &str, least: usize, bytes_max: usize, step: usize) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    corpus_in(&folder, least, bytes_max, step)
}

/// The same of a folder.
pub fn corpus_in(folder: &Path, least: usize, bytes_max: usize, step: usize) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    let bytes: usize = inputs.iter().map(|(_, input)| input.len()).sum();
    assert!(inputs.len() >= least && bytes <= bytes_max, "{} inputs of {bytes} bytes", inputs.len());
    inputs.into_iter().step_by(step).collect()
}

/// Runs all inputs; how many were accepted.
pub fn hold(inputs: &[(String, Vec<u8>)], run: fn(&[u8]) -> bool) -> usize {
    inputs.iter().filter(|(name, input)| named(name, None, input, run)).count()
}

/// Runs so many changes of each input; how many were accepted.
pub fn changed_all(
    inputs: &[(String, Vec<u8>)],
    changes: u64,
    change: fn(&mut Vec<u8>, u64),
    run: fn(&[u8]) -> bool,
) -> usize {
    let mut accepted = 0;
    for (number, (name, input)) in (0..).zip(inputs) {
        let mut changed = input.clone();
        for seed in number * changes..(number + 1) * changes {
            // Each change comes on top of the last; from time to time it starts anew.
            if seed % CHANGES_IN_A_ROW == 0 {
                changed.clone_from(input);
            }
            change(&mut changed, seed);
            accepted += usize::from(named(name, Some(seed), &changed, run));
        }
    }
    accepted
}

/// Whether the input was accepted.
fn named(name: &str, seed: Option<u64>, input: &[u8], run: fn(&[u8]) -> bool) -> bool {
    let done = catch_unwind(AssertUnwindSafe(|| run(input)));
    done.unwrap_or_else(|_| panic!("input {name}, change {seed:?}: {input:?}"))
}
