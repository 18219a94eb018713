//! `firesteel probe net-serve` and `net`

use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use firesteel_base::UserError;
use firesteel_hw::measure::MeasureError;
use firesteel_hw::measure::net::{self, NetFigures, NetRequest, PORT, STREAMS_MAX, Served, Server, TIME_MAX};

use super::{Shown, latency, rate, tell, time_within, unless_stopped};
use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::print;
use crate::output::text;
use crate::runtime;
use crate::signals::{Stop, interrupted};

const SERVE_EXAMPLES: &str = "\
Examples:
  firesteel probe net-serve --once
  firesteel probe net-serve --bind 10.0.0.7:7420 --for 10m

It says `probe ready at HOST:PORT` when others may begin. One measurement is made at a time; a second host is told to wait. Whoever
reaches the port may measure, and do nothing else: stop it when it is not needed. Ctrl-C and SIGTERM end it.";

const NET_EXAMPLES: &str = "\
Examples:
  firesteel probe net host7:7420
  firesteel probe net host7:7420 --seconds 10 --streams 8 --json | jq .send_bytes_per_second

First small messages go there and back one at a time, then bytes are sent to the other host, then received from it, for --seconds
each. One connection seldom fills a fast link; several share it.";

/// Have others measure the network to this host
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    /// The address to listen on; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value_t = format!("0.0.0.0:{PORT}"))]
    bind: String,
    /// How long, such as 60s or 10m
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = serve_time)]
    time: Duration,
    /// End with the first measurement; it is a failure when there is none
    #[arg(long)]
    once: bool,
}

/// Measure the network to a host on which `firesteel probe net-serve` runs
#[derive(Debug, Args)]
#[command(after_help = NET_EXAMPLES)]
pub struct NetArgs {
    /// Where it listens
    #[arg(value_name = "HOST:PORT")]
    peer: String,
    /// How long bytes are sent each way
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = measure_time)]
    seconds: Duration,
    /// Connections each way
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=STREAMS_MAX as i64))]
    streams: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn serve_time(text: &str) -> Result<Duration, String> {
    time_within(text, Duration::from_secs(1), Duration::from_secs(24 * 3600))
}

fn measure_time(text: &str) -> Result<Duration, String> {
    time_within(text, Duration::from_millis(100), TIME_MAX)
}

/// Runs `net-serve`.
pub fn serve(global: &Global, args: ServeArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, Vec::new(), Role::Command)?;
    runtime::run(async {
        let mut stop = Stop::listen()?;
        let server = Server::bind(&args.bind).map_err(UserError::from)?;
        print(&format!("probe ready at {}\n", server.address()))?;
        let flag = server.stop_flag();
        let mut serving = tokio::task::spawn_blocking(move || server.serve(args.time, args.once));
        let mut stopped = None;
        let served = tokio::select! {
            served = &mut serving => served,
            signal = stop.next() => {
                stopped = Some(signal);
                flag.store(true, Ordering::Relaxed);
                serving.await
            }
        };
        let served =
            served.map_err(|fault| UserError::new("serving ended early").detail(fault.to_string()))?;
        ended(&context, served, args.once, stopped)
    })
}

/// A server that a signal stops has ended well, unless it waited for a measurement.
fn ended(
    context: &Context,
    served: Result<Served, MeasureError>,
    once: bool,
    stopped: Option<&str>,
) -> Result<Exit, Failure> {
    let served = served.map_err(UserError::from)?;
    let Served { runs, broken, refused } = served;
    let runs_told = text::count(runs as u64, "measurement");
    context.note(&format!("{runs_told}, {broken} that broke off, {refused} refused"));
    match stopped {
        Some(signal) if once && runs == 0 => Err(interrupted("waiting for a measurement", signal)),
        _ => Ok(Exit::Done),
    }
}

/// Runs `net`.
pub fn measure(global: &Global, args: NetArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, Vec::new(), Role::Command)?;
    let request = NetRequest { peer: args.peer, time: args.seconds, streams: args.streams.into() };
    let figures = runtime::run(async {
        let shown = Shown::start(&context);
        unless_stopped(Stop::listen()?, move || net::measure(&request, &|progress| shown.show(progress)))
            .await
    })?;
    tell(args.json, &figures, told)
}

fn told(figures: &NetFigures) -> String {
    let NetFigures { peer, address, streams, seconds, .. } = figures;
    let connections = text::count(*streams as u64, "connection");
    format!(
        "{peer} ({address}), {connections}, {seconds} s each way\n  to it:       {}\n  from it:     {}\n  round trip:  {}\n",
        rate(figures.send_bytes_per_second),
        rate(figures.receive_bytes_per_second),
        latency(&figures.round_trip)
    )
}
