//! What is fuzzed, how inputs come about, and what must hold: shared by the fuzzer and by tests that run in every build.

pub mod addresses;
pub mod change;
pub mod config;
pub mod journal;
pub mod messages;
pub mod sessions;
