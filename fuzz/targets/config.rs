#![no_main]

mod target;

target!(firesteel_fuzz::config::run, firesteel_fuzz::config::change);
