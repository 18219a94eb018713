//! `firesteel probe`

mod disk;
mod memory;
mod net;

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, Subcommand};
use firesteel_base::{ByteSize, UserError};
use firesteel_hw::measure::{Latency, MeasureError, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::Global;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::results::{print, print_json};
use crate::output::text;
use crate::signals::{Stop, interrupted};

const EXAMPLES: &str = "\
Examples:
  firesteel probe net-serve                    # on host7, for a minute
  firesteel probe net host7:7420               # on another host: bandwidth both ways, latency
  firesteel probe disk /nvme0/firesteel        # throughput and latency of a scratch folder
  firesteel probe memory --json                # bandwidth of each NUMA node's memory, from each node

The figures are told and not judged: compare hosts of one kind, and look for the odd one. Measure while nothing else runs, for
each measurement takes what it can get. `firesteel doctor` tells what a machine can do, and changes and measures nothing.";

/// Measure a host: its network to another one, its disks, its memory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ProbeArgs {
    #[command(subcommand)]
    command: ProbeCommand,
}

#[derive(Debug, Subcommand)]
enum ProbeCommand {
    NetServe(net::ServeArgs),
    Net(net::NetArgs),
    Disk(disk::DiskArgs),
    Memory(memory::MemoryArgs),
}

/// Runs the command.
pub fn run(global: &Global, args: ProbeArgs) -> Result<Exit, Failure> {
    match args.command {
        ProbeCommand::NetServe(args) => net::serve(global, args),
        ProbeCommand::Net(args) => net::measure(global, args),
        ProbeCommand::Disk(args) => disk::run(global, args),
        ProbeCommand::Memory(args) => memory::run(global, args),
    }
}

/// How far a measurement has come, on a terminal alone: a script reads what comes of it.
struct Shown(Option<ProgressBar>);

impl Shown {
    fn start(context: &Context) -> Self {
        let shown = !context.quiet && std::io::stderr().is_terminal();
        Self(shown.then(|| {
            let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
            ProgressBar::new_spinner().with_style(style)
        }))
    }

    fn show(&self, progress: Progress) {
        if let Some(bar) = &self.0 {
            bar.set_message(format!("{}  {:.0}%", progress.step, 100.0 * progress.done));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Runs a measurement that blocks on a thread of its own, which a signal does not wait for: it holds nothing that outlives the process.
async fn unless_stopped<T: Send + 'static>(
    mut stop: Stop,
    measure: impl FnOnce() -> Result<T, MeasureError> + Send + 'static,
) -> Result<T, Failure> {
    tokio::select! {
        measured = tokio::task::spawn_blocking(measure) => match measured {
            Ok(measured) => measured.map_err(failure),
            Err(fault) => Err(UserError::new("the measurement ended early").detail(fault.to_string()).into()),
        },
        signal = stop.next() => Err(interrupted("the measurement", signal)),
    }
}

/// Prints what was measured, as JSON or in words.
fn tell<T: Serialize>(json: bool, figures: &T, told: impl FnOnce(&T) -> String) -> Result<Exit, Failure> {
    if json {
        print_json(figures)?
    } else {
        print(&told(figures))?
    }
    Ok(Exit::Done)
}

/// With the exit code that says as much.
fn failure(fault: MeasureError) -> Failure {
    let exit = match fault {
        MeasureError::Address { .. } => Exit::Usage,
        MeasureError::Unreachable { .. } | MeasureError::Stranger { .. } => Exit::Cluster,
        _ => Exit::Failed,
    };
    Failure::new(exit, fault.into())
}

/// `1.5GiB/s`
fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", ByteSize(bytes_per_second as u64))
}

/// `85us (p99 120us)`
fn latency(latency: &Latency) -> String {
    format!(
        "{:.0}us (p99 {:.0}us, {})",
        latency.median_us,
        latency.p99_us,
        text::count(latency.count, "operation")
    )
}

/// A time within bounds, for a flag.
fn time_within(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.or_else(|| firesteel_base::units::parse_duration(text).ok());
    time.filter(|time| (min..=max).contains(time)).ok_or_else(|| {
        let told = firesteel_base::units::display_duration;
        format!("not a time from {} to {}, such as 2s", told(min), told(max))
    })
}
