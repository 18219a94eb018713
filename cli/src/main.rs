//! The `firesteel` command: every role of a cluster and every command of its users.
//!
//! It is thin: it reads the command line and the configuration, calls the crate that does the work, and prints what comes
//! back. Each command is a file in `commands/`, what they print is in `output/`, the interactive SQL shell in `prompt/`.
//!
//! Invariant: a command ends with one of the codes of [`exit::Exit`]; what went wrong is told once, on standard error, as
//! `error:`, `detail:` and `hint:`.

mod args;
mod cluster;
mod commands;
mod context;
mod exit;
mod local_cluster;
mod output;
mod processor;
mod prompt;
mod query;
mod runtime;
mod session;
mod signals;
mod supervision;

use std::process::ExitCode;

use clap::Parser;

use crate::exit::{Exit, Failure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.exit.code())
        }
    }
}

fn run() -> Result<Exit, Failure> {
    processor::make_way()?;
    firesteel_hw::allocator::keep_freed_memory();
    firesteel_base::version::name_build(args::BUILD);
    commands::run(args::Cli::parse())
}
