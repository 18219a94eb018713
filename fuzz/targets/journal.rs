#![no_main]

mod target;

target!(firesteel_manager::fuzzed::journal, firesteel_fuzz::journal::change);
