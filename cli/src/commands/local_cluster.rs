//! `firesteel local-cluster`

use std::path::PathBuf;

use clap::Args;
use firesteel_base::UserError;
use firesteel_hw::topology::Topology;

use crate::args::{Flags, Global};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::local_cluster::{self, Plan, default_memory, shares};
use crate::runtime;

const EXAMPLES: &str = "\
Examples:
  # A cluster for trying things, until Ctrl-C
  firesteel local-cluster --workers 2

  # One command against a cluster that lives as long as the command
  firesteel local-cluster --workers 2 -- firesteel submit report.sql

It starts a real manager and real workers as processes of this program. The command after -- finds the manager in
FIRESTEEL_MANAGER; its exit code becomes this command's.";

/// Run a manager and several workers on this machine, for trying things
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LocalClusterArgs {
    /// How many workers, each with one executor
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: u32,
    /// Core threads of each executor [default: the cores of this machine shared out, at least one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    cores_per_executor: Option<u32>,
    /// Memory of each executor, such as 2GiB [default: its share of half of this machine's]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// The manager's port, 0 for any free one
    #[arg(long, value_name = "PORT", default_value_t = 7400)]
    port: u16,
    /// The folder for logs and scratch files, kept at the end [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A command to run against the cluster; when it ends, so does the cluster
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command.
pub fn run(global: &Global, args: LocalClusterArgs) -> Result<Exit, Failure> {
    let mut flags = Flags::default();
    flags.put("worker.memory", "--memory", args.memory.as_ref());
    let context = Context::load(global, flags.0, Role::Command)?;
    let topology = Topology::discover().map_err(UserError::from)?;
    let plan = Plan {
        port: args.port,
        shares: shares(&topology, args.workers, args.cores_per_executor)?,
        memory: context.config.worker.memory.set().unwrap_or_else(|| default_memory(&topology, args.workers)),
        folder: args.dir,
        global: global.child_args(),
    };
    runtime::run(local_cluster::run(&context, plan, &args.command))
}
