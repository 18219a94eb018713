//! What a job's result must be: the graph worked out in one place, without exchanges.

use std::collections::BTreeMap;

use firesteel_base::StageId;
use firesteel_driver::machine::OutputKind;

use super::rows::{made, partition_of, passed, sum};
use super::{Graph, Op};

/// The rows of the result, in order of their numbers.
#[must_use]
pub fn expected(graph: &Graph) -> Vec<u64> {
    let mut rows: BTreeMap<StageId, Vec<u64>> = BTreeMap::new();
    for stage in &graph.stages {
        let made = if stage.partitions == 0 { Vec::new() } else { rows_of(graph, stage.id, &rows) };
        rows.insert(stage.id, made);
    }
    let last = graph.stages.last().expect("a graph has a result stage");
    let mut result = rows.remove(&last.id).unwrap_or_default();
    result.sort_unstable();
    result
}

fn rows_of(graph: &Graph, id: StageId, rows: &BTreeMap<StageId, Vec<u64>>) -> Vec<u64> {
    match &graph.ops[&id] {
        Op::Source(counts) => {
            let of =
                |(partition, count): (u32, &u32)| (0..*count).map(move |number| made(id, partition, number));
            (0..).zip(counts).flat_map(of).collect()
        }
        Op::Union(inputs) => union(graph, id, inputs, rows),
        Op::Join { build, probe } => {
            let mut by_key: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
            for row in &rows[build] {
                by_key.entry(partition_of(*row, graph.divisions)).or_default().push(*row);
            }
            let pass = |row: &u64| {
                let build = by_key.get(&partition_of(*row, graph.divisions))?;
                Some(passed(*row, id, sum(build.iter().copied())))
            };
            rows[probe].iter().filter_map(pass).collect()
        }
        Op::Absorbed { .. } => unreachable!("a graph that was drawn has absorbed nothing"),
    }
}

fn union(graph: &Graph, id: StageId, read: &[StageId], rows: &BTreeMap<StageId, Vec<u64>>) -> Vec<u64> {
    let is_whole = |input: &StageId| graph.stage(*input).output == OutputKind::Broadcast;
    let whole = sum(read.iter().filter(|input| is_whole(input)).flat_map(|input| rows[input].clone()));
    if read.iter().all(is_whole) {
        return vec![passed(0, id, whole)];
    }
    let divided = read.iter().filter(|input| !is_whole(input)).flat_map(|input| &rows[input]);
    divided.map(|row| passed(*row, id, whole)).collect()
}
