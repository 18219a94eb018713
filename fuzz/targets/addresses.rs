#![no_main]

mod target;

target!(firesteel_fuzz::addresses::run, firesteel_fuzz::addresses::change);
