//! `firesteel bench report`

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use firesteel_base::UserError;
use firesteel_bench::record::{RunRecord, html};

use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};

/// Show records side by side on one page
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  firesteel bench report firesteel.json duckdb.json --html report.html")]
pub struct ReportArgs {
    /// Records of one benchmark at one scale
    #[arg(required = true, value_name = "FILE.json")]
    records: Vec<PathBuf>,
    /// The page to write; it needs nothing else to be looked at
    #[arg(long, value_name = "FILE.html")]
    html: PathBuf,
}

/// Runs the command.
pub fn run(global: &Global, args: ReportArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, Vec::new(), Role::Command)?;
    let records = args.records.iter().map(|path| RunRecord::load(path)).collect::<Result<Vec<_>, _>>()?;
    let page = html(&records)?;
    write(&args.html, &page)?;
    if !context.quiet {
        eprintln!("{} shows {} record(s)", args.html.display(), records.len());
    }
    Ok(Exit::Done)
}

/// Writes a page in place of what is there.
pub(super) fn write(path: &Path, page: &str) -> Result<(), Failure> {
    let temporary = path.with_extension("html.tmp");
    let written = fs::write(&temporary, page).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|fault| {
        Failure::output(UserError::new(format!("{} cannot be written: {fault}", path.display())))
    })
}
