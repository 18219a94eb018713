//! `firesteel nodes`

mod drain;

use clap::{Args, Subcommand};
use firesteel_base::ByteSize;
use firesteel_protocol::v1::{NodeDrain, NodeExecutor, NodeInfo, NodeState};
use serde_json::{Value, json};

use crate::args::{Flags, Global};
use crate::cluster::Cluster;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::{print, print_json};
use crate::output::text;
use crate::runtime;

const EXAMPLES: &str = "\
Examples:
  firesteel nodes
  firesteel nodes --manager head:7400 --json | jq '.nodes[].host'
  firesteel nodes drain node7 --deadline 10m    # its work ends, its blocks move, it leaves
  firesteel nodes undrain node7                 # while it has not left";

/// List the nodes of a cluster: workers, their executors, slots and memory; drain them before they are switched off
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct NodesArgs {
    #[command(subcommand)]
    command: Option<NodesCommand>,
    /// The cluster's manager; of several all, separated by commas [env: FIRESTEEL_MANAGER] [default: 127.0.0.1:7400]
    #[arg(long, global = true, value_name = "HOST:PORT,..")]
    manager: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    /// List the nodes (the default)
    List,
    /// Drain a node: it gets no new tasks, what runs there ends, its blocks move to others, and its worker leaves
    Drain(drain::DrainArgs),
    /// Have a node that is drained stay, while it has not left
    Undrain(drain::UndrainArgs),
}

/// Runs the command.
pub fn run(global: &Global, args: &NodesArgs) -> Result<Exit, Failure> {
    let mut flags = Flags::default();
    flags.put("client.manager", "--manager", args.manager.as_ref());
    let context = Context::load(global, flags.0, Role::Command)?;
    runtime::run(async {
        match &args.command {
            None | Some(NodesCommand::List) => list(&context, args.json).await?,
            Some(NodesCommand::Drain(drained)) => drain::drain(&context, drained, args.json).await?,
            Some(NodesCommand::Undrain(kept)) => drain::undrain(&context, kept, args.json).await?,
        }
        Ok(Exit::Done)
    })
}

async fn list(context: &Context, json: bool) -> Result<(), Failure> {
    let cluster = Cluster::connect(context.managers()?).await?;
    let reply = cluster.nodes().await?;
    let manager = cluster.manager().await;
    if json {
        return print_json(&json!({
            "manager": manager,
            "manager_release": reply.manager_release,
            "manager_started_unix_ms": reply.manager_started_unix_ms,
            "nodes": reply.nodes.iter().map(as_json).collect::<Vec<_>>(),
        }));
    }
    context.note(&format!(
        "manager {manager} (release {}), started {}",
        reply.manager_release,
        text::ago(reply.manager_started_unix_ms)
    ));
    if reply.nodes.is_empty() {
        return print("no workers have joined: start one on each host with `firesteel worker`\n");
    }
    let headers =
        ["WORKER", "STATE", "HOST", "RACK", "EXECUTOR", "CPUS", ">SLOTS", ">MEMORY", ">BLOCKS", ">HEARD"];
    print(&text::columns(&headers, reply.nodes.iter().flat_map(rows)))
}

/// A row for each executor; one for a worker that has none.
fn rows(node: &NodeInfo) -> Vec<Vec<String>> {
    let head = [node.worker.clone(), state(node).to_owned(), node.host.clone(), node.rack.clone()];
    let heard = format!("{} ago", text::span(std::time::Duration::from_millis(node.last_heartbeat_age_ms)));
    let row = |middle: [String; 5]| -> Vec<String> {
        head.iter().cloned().chain(middle).chain([heard.clone()]).collect()
    };
    if node.executors.is_empty() {
        return vec![row(["-", "", "", "", ""].map(str::to_owned))];
    }
    node.executors.iter().map(|executor| row(executor_cells(executor))).collect()
}

fn executor_cells(executor: &NodeExecutor) -> [String; 5] {
    let spec = executor.spec.clone().unwrap_or_default();
    let usage = executor.usage.unwrap_or_default();
    let name = if executor.up { format!("e{}", spec.index) } else { format!("e{} (down)", spec.index) };
    [
        name,
        cpu_list(&spec.cpus),
        format!("{}/{}", executor.slots_leased, spec.slots),
        format!("{}/{}", ByteSize(usage.memory_used), ByteSize(spec.memory_bytes)),
        ByteSize(usage.block_bytes).to_string(),
    ]
}

/// CPUs as ranges: `0-3,8`.
fn cpu_list(cpus: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let texts = ranges.iter().map(|&(first, last)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

fn state(node: &NodeInfo) -> &'static str {
    match node.state() {
        NodeState::Unspecified => "unknown",
        NodeState::Alive => "alive",
        NodeState::Suspect => "suspect",
        NodeState::Lost => "lost",
        NodeState::Left => "left",
        NodeState::Draining => "draining",
    }
}

fn as_json(node: &NodeInfo) -> Value {
    json!({
        "worker": node.worker,
        "state": state(node),
        "host": node.host,
        "rack": node.rack,
        "address": node.address,
        "release": node.release,
        "last_heartbeat_age_ms": node.last_heartbeat_age_ms,
        "topology": serde_json::from_str::<Value>(&node.topology_json).unwrap_or(Value::Null),
        "executors": node.executors.iter().map(executor_json).collect::<Vec<_>>(),
        "drain": node.drain.as_ref().map(drain_json),
        "gone_reason": node.gone_reason,
    })
}

fn drain_json(drain: &NodeDrain) -> Value {
    json!({
        "reason": drain.reason,
        "confirmed": drain.confirmed,
        "left_ms": drain.left_ms,
        "attempts": drain.attempts,
        "drivers": drain.drivers,
        "outputs": drain.outputs,
        "bytes": drain.bytes,
        "block_bytes": drain.block_bytes,
    })
}

fn executor_json(executor: &NodeExecutor) -> Value {
    let spec = executor.spec.clone().unwrap_or_default();
    let usage = executor.usage.unwrap_or_default();
    json!({
        "index": spec.index,
        "up": executor.up,
        "epoch": executor.epoch,
        "numa_node": spec.numa_node,
        "cpus": spec.cpus,
        "slots": spec.slots,
        "slots_leased": executor.slots_leased,
        "memory_bytes": spec.memory_bytes,
        "memory_used": usage.memory_used,
        "block_bytes": usage.block_bytes,
        "running_attempts": usage.running_attempts,
        "control_address": executor.control_address,
        "shuffle_address": executor.shuffle_address,
    })
}

#[cfg(test)]
mod tests {
    use super::cpu_list;

    #[test]
    fn cpus_are_shown_as_ranges() {
        assert_eq!(cpu_list(&[0, 1, 2, 8, 10, 11]), "0-2,8,10-11");
        assert_eq!(cpu_list(&[]), "");
    }
}
