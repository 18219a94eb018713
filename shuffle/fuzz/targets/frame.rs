//! Frames from outside: what libFuzzer runs.
#![no_main]

mod target;

target!(firesteel_shuffle_fuzz::run, firesteel_shuffle_fuzz::change);
