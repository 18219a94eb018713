//! `firesteel completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{Exit, Failure};
use crate::output::results::print;

const EXAMPLES: &str = "\
Examples:
  firesteel completions bash > /etc/bash_completion.d/firesteel
  firesteel completions zsh > ~/.zfunc/_firesteel
  firesteel completions fish > ~/.config/fish/completions/firesteel.fish";

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "firesteel", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
