//! `firesteel probe disk`

use std::path::PathBuf;

use clap::Args;
use firesteel_base::{ByteSize, UserError};
use firesteel_hw::measure::disk::{self, DiskFigures, DiskRequest, SIZE_MIN};
use firesteel_hw::scratch::EngineKind;

use super::{Shown, failure, latency, rate, tell};
use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::runtime;
use crate::signals::{Stop, interrupted};

const EXAMPLES: &str = "\
Examples:
  firesteel probe disk /nvme0/firesteel
  firesteel probe disk /nvme0/firesteel --size 8GiB --json

A file is written and read from its begin to its end in pieces of 1 MiB, 8 at a time, past the page cache, by what executors use for
their scratch files (executor.scratch_engine). Then single pieces of 4 KiB are written and read, one at a time. Nothing is synced. A disk
has a memory of its own: take a --size that is larger. The file is removed, on Ctrl-C too.";

/// Measure a disk: writing, reading, latency
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DiskArgs {
    /// The folder whose disk is measured
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The size of the file that is written and read, from 8MiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    size: ByteSize,
    /// Go through the page cache, for a file system that knows no direct writes: this measures memory as much as the disk
    #[arg(long)]
    buffered: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|fault| format!("{fault}"))?;
    if size.0 < SIZE_MIN { Err(format!("at least {} is needed", ByteSize(SIZE_MIN))) } else { Ok(size) }
}

/// Runs the command.
pub fn run(global: &Global, args: DiskArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, Vec::new(), Role::Command)?;
    let request = DiskRequest {
        folder: args.folder,
        bytes: args.size.0,
        engine: engine(context.config.executor.scratch_engine)?,
        direct: !args.buffered,
    };
    let figures = runtime::run(async {
        let mut stop = Stop::listen()?;
        let shown = Shown::start(&context);
        let watch = |progress| shown.show(progress);
        let mut signal = "";
        let measured = disk::measure(&request, &watch, async { signal = stop.next().await }).await;
        measured.map_err(failure)?.ok_or_else(|| interrupted("the measurement", signal))
    })?;
    tell(args.json, &figures, told)
}

fn engine(word: &str) -> Result<EngineKind, Failure> {
    word.parse().map_err(|fault| UserError::new(format!("executor.scratch_engine: {fault}")).into())
}

fn told(figures: &DiskFigures) -> String {
    let how = if figures.direct { "direct" } else { "through the page cache" };
    format!(
        "{}, {} by the engine {}, {how}\n  write:         {}\n  read:          {}\n  single write:  {}\n  single read:   {}\n",
        figures.folder.display(),
        ByteSize(figures.bytes),
        figures.engine,
        rate(figures.write_bytes_per_second),
        rate(figures.read_bytes_per_second),
        latency(&figures.write_latency),
        latency(&figures.read_latency)
    )
}
