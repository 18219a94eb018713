//! Packed frames from outside: what libFuzzer runs.
#![no_main]

mod target;

use firesteel_shuffle_fuzz::packed::{change_packed, run_packed};

target!(run_packed, change_packed);
