//! A server against whatever a client says: what libFuzzer runs.
#![no_main]

mod target;

use firesteel_shuffle_fuzz::peers::serve::{change_serve, run_serve};

target!(run_serve, change_serve);
