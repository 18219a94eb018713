//! The command line as its users meet it: help, exit codes, configuration, output formats, mistakes.
//!
//! One test binary, because linking it takes long. What needs a cluster is in `tests/cluster/`.

#![allow(clippy::unwrap_used)]

mod bench;
mod certs;
mod config;
mod daemons;
mod files;
mod formats;
mod hardware;
mod help;
mod mistakes;
mod probe;
mod processor;
mod scale;
mod service;
mod sql;
mod support;
