//! A client against whatever a server answers: what libFuzzer runs.
#![no_main]

mod target;

use firesteel_shuffle_fuzz::peers::fetch::{change_fetch, run_fetch};

target!(run_fetch, change_fetch);
