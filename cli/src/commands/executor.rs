//! `firesteel executor`: what a worker starts for each NUMA node.

use clap::Args;

use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};

/// Run an executor; `firesteel worker` starts it
///
/// Its configuration comes as a line of JSON on standard input, and it ends when that input does.
#[derive(Debug, Args)]
pub struct ExecutorArgs {}

/// Runs the command.
pub fn run(global: &Global, _args: ExecutorArgs) -> Result<Exit, Failure> {
    Context::load(global, Vec::new(), Role::Daemon)?;
    firesteel_executor::process::run_from_stdin()?;
    Ok(Exit::Done)
}
