//! `firesteel nodes drain` and `undrain`

use std::time::{Duration, Instant};

use clap::Args;
use firesteel_base::units::{display_duration, parse_duration};
use firesteel_base::{ByteSize, UserError};
use firesteel_protocol::v1::{NodeDrain, NodeInfo, NodeState};

use super::{as_json, state};
use crate::cluster::Cluster;
use crate::context::Context;
use crate::exit::Failure;
use crate::output::results::{print, print_json};
use crate::output::text;
use crate::signals::{Stop, interrupted};

const POLL: Duration = Duration::from_millis(300);
/// How long a worker may take to hear of the order.
const CONFIRM_MAX: Duration = Duration::from_secs(15);
/// How often a line is said when nothing has changed.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The worker's name, as `firesteel nodes` lists it
    node: String,
    /// Give up what is left after this time, such as 10m: it is computed again elsewhere [default: wait for as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    deadline: Option<Duration>,
    /// Wait until the node has left (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return as soon as the node has heard of it
    #[arg(long)]
    no_wait: bool,
    /// Drain the node even when no other takes tasks: jobs wait then until one comes
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub struct UndrainArgs {
    /// The worker's name, as `firesteel nodes` lists it
    node: String,
}

/// Drains a node, and says how far it is until it has left.
pub async fn drain(context: &Context, args: &DrainArgs, json: bool) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    let cluster = Cluster::connect(&context.client()?).await?;
    let node = cluster.drain(&args.node, args.deadline, args.force).await?;
    let by = args
        .deadline
        .map_or_else(|| "no deadline".to_owned(), |span| format!("deadline {}", display_duration(span)));
    context.note(&format!("draining {}, {by}", args.node));
    let watch = Watch { context, cluster: &cluster, name: &args.node, until_left: !args.no_wait };
    let node = tokio::select! {
        watched = watch.run(node) => watched?,
        signal = stop.next() => {
            context.note(&format!("the drain of {} goes on; `firesteel nodes undrain {}` takes it back", args.node, args.node));
            return Err(interrupted("waiting", signal));
        }
    };
    told(&node, json)
}

/// Has a node that is drained stay.
pub async fn undrain(context: &Context, args: &UndrainArgs, json: bool) -> Result<(), Failure> {
    let cluster = Cluster::connect(&context.client()?).await?;
    told(&cluster.undrain(&args.node).await?, json)
}

fn told(node: &NodeInfo, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(&as_json(node));
    }
    print(&format!("{} {}\n", node.worker, state(node)))
}

/// Looks at a node that is drained until it has left, or has heard that it is to.
struct Watch<'a> {
    context: &'a Context,
    cluster: &'a Cluster,
    name: &'a str,
    until_left: bool,
}

impl Watch<'_> {
    async fn run(&self, node: NodeInfo) -> Result<NodeInfo, Failure> {
        let (begun, mut node) = (Instant::now(), Some(node));
        let (mut said, mut unclear) = ((String::new(), Instant::now()), None);
        loop {
            let seen = node.as_ref().map(|node| (node.state(), node.drain.as_ref()));
            match seen {
                Some((NodeState::Left, _)) => return Ok(self.left(node.expect("it was seen"))),
                Some((NodeState::Lost, _)) => return Err(self.lost(node.expect("it was seen")).into()),
                Some((_, Some(drain))) if drain.confirmed && !self.until_left => {
                    return Ok(node.expect("it was seen"));
                }
                Some((_, Some(drain))) if !drain.confirmed && begun.elapsed() > CONFIRM_MAX => {
                    let error = UserError::new(format!("{} has not heard that it is drained", self.name));
                    return Err(error.hint("it gets no new tasks; it is told when it is back").into());
                }
                Some((_, Some(drain))) => {
                    unclear = None;
                    let line = line(drain);
                    if line != said.0 || said.1.elapsed() > LINE_INTERVAL {
                        self.context.note(&line);
                        said = (line, Instant::now());
                    }
                }
                // A manager that was started again hears of it from the worker, when that comes back.
                Some((_, None)) | None
                    if unclear.get_or_insert_with(Instant::now).elapsed() < CONFIRM_MAX => {}
                Some((_, None)) => return Err(self.taken_back().into()),
                None => return Err(self.unknown().into()),
            }
            tokio::time::sleep(POLL).await;
            let nodes = self.cluster.nodes_in_time().await?.nodes;
            node = nodes.into_iter().find(|node| node.worker == self.name);
        }
    }

    fn left(&self, node: NodeInfo) -> NodeInfo {
        self.context.note(&format!("{} has left: {}", self.name, node.gone_reason));
        node
    }

    fn lost(&self, node: NodeInfo) -> UserError {
        UserError::new(format!("{} was lost while it was drained", self.name)).detail(node.gone_reason)
    }

    fn taken_back(&self) -> UserError {
        UserError::new(format!("{} is not being drained any more", self.name))
            .detail("somebody has taken it back")
    }

    fn unknown(&self) -> UserError {
        UserError::new(format!("the manager knows nothing of {} any more", self.name))
            .detail("it has left or was lost while there was no manager, or others have gone since")
    }
}

/// How far it is, as a line.
fn line(drain: &NodeDrain) -> String {
    let mut parts = vec![format!("{} running", text::count(drain.attempts.into(), "attempt"))];
    if drain.drivers > 0 {
        parts.push(text::count(drain.drivers.into(), "driver"));
    }
    let outputs = text::count(drain.outputs.into(), "map output");
    parts.push(format!("{outputs} ({}) to move", ByteSize(drain.bytes)));
    if let Some(left) = drain.left_ms {
        // Whole ten seconds, but at the end: not each second is worth a line.
        let seconds = left.div_ceil(1000);
        let told = if seconds > 10 { seconds.div_ceil(10) * 10 } else { seconds };
        parts.push(format!("at most {} left", text::span(Duration::from_secs(told))));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_left() {
        let drain = NodeDrain {
            attempts: 3,
            outputs: 1,
            bytes: 2 << 20,
            left_ms: Some(61_000),
            ..Default::default()
        };
        assert_eq!(line(&drain), "3 attempts running, 1 map output (2MiB) to move, at most 1m10s left");
        let short = line(&NodeDrain { left_ms: Some(7_600), ..Default::default() });
        assert_eq!(short, "0 attempts running, 0 map outputs (0B) to move, at most 8.0s left");
        assert_eq!(
            line(&NodeDrain { drivers: 1, ..Default::default() }),
            "0 attempts running, 1 driver, 0 map outputs (0B) to move"
        );
    }
}
