//! `firesteel topology`

use std::path::PathBuf;

use clap::Args;
use firesteel_base::UserError;
use firesteel_hw::topology::{Topology, TopologyError};

use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::{print, print_json};

const EXAMPLES: &str = "\
Examples:
  firesteel topology
  firesteel topology --xml host3.xml        # made on that host by: lstopo --of xml host3.xml
  firesteel topology --synthetic 'pack:2 [numa(memory=68719476736)] l3:4 core:8 pu:2'";

/// Draw what a machine is made of: sockets, NUMA nodes, caches, cores and devices
///
/// Only what this process may use is shown: CPUs and memory that its cgroup or affinity exclude are left out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TopologyArgs {
    /// The machine described by an hwloc XML file, instead of this one
    #[arg(long, value_name = "FILE", conflicts_with = "synthetic")]
    xml: Option<PathBuf>,
    /// The machine of an hwloc synthetic description, instead of this one
    #[arg(long, value_name = "DESCRIPTION")]
    synthetic: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(global: &Global, args: &TopologyArgs) -> Result<Exit, Failure> {
    Context::load(global, Vec::new(), Role::Command)?;
    let asked = args.xml.is_some() || args.synthetic.is_some();
    let topology = read(args).map_err(|fault| {
        let error = UserError::from(fault);
        if asked { Failure::usage(error) } else { Failure::from(error) }
    })?;
    if args.json {
        print_json(&topology)?;
    } else {
        print(&format!("{topology}\n"))?;
    }
    Ok(Exit::Done)
}

fn read(args: &TopologyArgs) -> Result<Topology, TopologyError> {
    match (&args.xml, &args.synthetic) {
        (Some(file), _) => Topology::from_xml(file),
        (None, Some(description)) => Topology::from_synthetic(description),
        (None, None) => Topology::discover(),
    }
}
