//! Tasks of the project's own that cargo has no command for: `cargo xtask dist` makes the packages, `cargo xtask old-cpu` runs a build
//! on an emulated processor of ten years ago.
//!
//! What packages hold that is not built lies in `packaging/`. docs/packages.md says what they are and why.

mod archive;
mod binary;
mod collection;
mod contents;
mod deb;
mod dist;
mod galaxy;
mod licences;
mod old_cpu;
mod run;
mod sums;
mod tree;
mod version;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the project
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Dist(dist::DistArgs),
    OldCpu(old_cpu::OldCpuArgs),
}

fn main() -> ExitCode {
    let done = match &Arguments::parse().task {
        Task::Dist(args) => dist::run(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), args),
        Task::OldCpu(args) => old_cpu::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault:#}");
            ExitCode::FAILURE
        }
    }
}
