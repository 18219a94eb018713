//! `firesteel probe memory`

use std::time::Duration;

use clap::Args;
use firesteel_base::UserError;
use firesteel_hw::measure::memory::{self, MemoryFigures};
use firesteel_hw::topology::Topology;

use super::{Shown, rate, tell, unless_stopped};
use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::text::columns;
use crate::runtime;
use crate::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  firesteel probe memory
  firesteel probe memory --json | jq '.paths[] | select(.from_node == .memory_node)'

A thread on each core of a node reads 64 MiB of its own in a circle, then copies them to other 64 MiB; its memory is bound to one node. With
several nodes each is measured from each. Copying counts what is read and what is written. Slow against hosts of the same kind? Look for missing
memory modules, memory that runs at a lower clock, and a governor that saves power.";

/// How long reading, and copying, is measured on each path.
const TIME: Duration = Duration::from_millis(500);

/// Measure memory: reading and copying, on each NUMA node and between them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MemoryArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(global: &Global, args: MemoryArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, Vec::new(), Role::Command)?;
    let topology = Topology::discover().map_err(UserError::from)?;
    let figures = runtime::run(async {
        let shown = Shown::start(&context);
        let measure = move || memory::measure(&topology, TIME, &|progress| shown.show(progress));
        unless_stopped(Stop::listen()?, measure).await
    })?;
    tell(args.json, &figures, told)
}

fn told(figures: &MemoryFigures) -> String {
    let row = |path: &memory::PathFigures| {
        vec![
            path.from_node.to_string(),
            path.memory_node.to_string(),
            path.threads.to_string(),
            rate(path.read_bytes_per_second),
            rate(path.copy_bytes_per_second),
        ]
    };
    columns(&["CORES OF NODE", "MEMORY OF NODE", ">THREADS", ">READ", ">COPY"], figures.paths.iter().map(row))
}
