//! `firesteel man`

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use firesteel_base::UserError;

use crate::args::Cli;
use crate::exit::{Exit, Failure};

/// Write the manual pages, one for each command, as packages have them
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write them to; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: &ManArgs) -> Result<Exit, Failure> {
    std::fs::create_dir_all(&args.out).map_err(|fault| refused(args, &fault))?;
    let mut root = Cli::command();
    root.build();
    write(args, &root).map_err(|fault| refused(args, &fault))?;
    Ok(Exit::Done)
}

/// The page of a command, and of those below it that are not hidden.
fn write(args: &ManArgs, command: &clap::Command) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(args, below)?;
    }
    let title = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let page = clap_mangen::Man::new(command.clone().version(crate::args::release()))
        .title(title)
        .manual("Firesteel")
        .source(format!("firesteel {}", crate::args::BUILD));
    page.generate_to(&args.out)?;
    Ok(())
}

fn refused(args: &ManArgs, fault: &std::io::Error) -> Failure {
    UserError::new(format!("cannot write manual pages to {}", args.out.display()))
        .detail(fault.to_string())
        .hint("give a folder that may be written to with --out DIR")
        .into()
}
