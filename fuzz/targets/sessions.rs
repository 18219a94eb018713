#![no_main]

mod target;

target!(firesteel_manager::fuzzed::sessions, firesteel_fuzz::sessions::change);
