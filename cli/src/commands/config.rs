//! `firesteel config`

use clap::Args;
use firesteel_base::config::{reference_page, template};
use serde_json::json;

use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::{print, print_json};
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  firesteel config                                  # what is in effect, and where each value was set
  firesteel config --config new.toml                # is this file right? All faults are told together
  firesteel config --reference                      # every key with its default and range
  firesteel config --template                       # a file to begin with, every key explained in it";

/// Show every setting, its value, and where it was set
///
/// A setting comes from, the later winning: its default, the configuration file, an environment variable
/// (FIRESTEEL_<SECTION>_<KEY>), a flag.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the reference of all keys as Markdown instead
    #[arg(long, conflicts_with = "json")]
    reference: bool,
    /// Print a configuration file to begin with instead: every key explained, and commented out
    #[arg(long, conflicts_with_all = ["json", "reference"])]
    template: bool,
}

/// Runs the command.
pub fn run(global: &Global, args: &ConfigArgs) -> Result<Exit, Failure> {
    if args.reference {
        print(&reference_page())?;
        return Ok(Exit::Done);
    }
    if args.template {
        print(&template())?;
        return Ok(Exit::Done);
    }
    let context = Context::load(global, Vec::new(), Role::Command)?;
    let entries = &context.config.entries;
    if args.json {
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| json!({ "key": entry.key.name, "value": entry.value, "source": entry.source.to_string() }))
            .collect();
        print_json(&entries)?;
    } else {
        let rows = entries
            .iter()
            .map(|entry| vec![entry.key.name.to_owned(), entry.value.clone(), entry.source.to_string()]);
        print(&text::columns(&["KEY", "VALUE", "SOURCE"], rows))?;
    }
    Ok(Exit::Done)
}
