#![no_main]

mod target;

target!(firesteel_fuzz::messages::run, firesteel_fuzz::messages::change);
