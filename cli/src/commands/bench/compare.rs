//! `firesteel bench compare`

use std::path::PathBuf;

use clap::Args;
use firesteel_bench::record::{CompareOptions, RunRecord, compare};

use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  firesteel bench compare old.json new.json
  firesteel bench compare main.json branch.json --fail-above 5%

A query is called faster or slower only when a rank test says that its times differ by more than noise would make them; that
takes four runs of each at least. Runs of other data, machines or queries are not compared.";

/// Compare two records query by query, noise told from change
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompareArgs {
    /// What to compare with
    base: PathBuf,
    /// What is new
    new: PathBuf,
    /// End with exit code 1 when a query is slower by more than this, or fails, and did not before
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    fail_above: Option<f64>,
    /// How likely noise may be called a change
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    alpha: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A percentage as a share: `5%`, `5` and `5.0` are all 0.05.
fn share(text: &str) -> Result<f64, String> {
    let number: f64 =
        text.trim_end_matches('%').trim().parse().map_err(|_| "give a percentage, such as 5%".to_owned())?;
    if number.is_finite() && number >= 0.0 { Ok(number / 100.0) } else { Err("give 0% or more".to_owned()) }
}

/// Runs the command.
pub fn run(args: CompareArgs) -> Result<Exit, Failure> {
    let (base, new) = (RunRecord::load(&args.base)?, RunRecord::load(&args.new)?);
    let options = CompareOptions { fail_above: args.fail_above, alpha: args.alpha };
    let comparison = compare(&base, &new, options)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&comparison).expect("a comparison is plain data"));
    } else {
        println!("{comparison}");
    }
    let regressed = args.fail_above.is_some_and(|limit| comparison.regressions(limit).next().is_some());
    Ok(if regressed { Exit::Failed } else { Exit::Done })
}
