//! A random graph: as many kinds of exchanges, joins and adaptive decisions as fit into a few stages.

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::StageId;
use firesteel_driver::machine::{OutputKind, StagePlan};
use firesteel_engine::stage::adapt::{AdaptLimits, Adapts, Broadcast, Spares};

use super::{Graph, Op};
use crate::chance::Chance;

const STAGES_MAX: u32 = 6;
const DIVISIONS_MAX: u32 = 6;
const ROWS_MAX: u32 = 12;

/// Draws a graph for executors of at most `cores` cores.
pub fn draw(chance: &mut Chance, cores: u32) -> Graph {
    let divisions = chance.small(1, DIVISIONS_MAX);
    let mut graph = Graph { stages: Vec::new(), ops: BTreeMap::new(), divisions };
    let count = chance.small(1, STAGES_MAX);
    let lanes = chance.small(1, cores.min(3));
    for number in 0..count {
        add_stage(chance, &mut graph, number, number + 1 == count, lanes);
    }
    graph
}

fn add_stage(chance: &mut Chance, graph: &mut Graph, number: u32, is_last: bool, lanes: u32) {
    let id = StageId(number);
    let mut inputs: BTreeSet<StageId> = (0..number).filter(|_| chance.percent(45)).map(StageId).collect();
    if is_last {
        let read: BTreeSet<StageId> = graph.stages.iter().flat_map(|s| s.inputs.clone()).collect();
        inputs.extend((0..number).map(StageId).filter(|input| !read.contains(input)));
    }
    let inputs: Vec<StageId> = inputs.into_iter().collect();
    let (op, told_by) = draw_op(chance, graph, &inputs);
    let partitions = draw_partitions(chance, graph, &op, &inputs, &told_by);
    let op = match op {
        Op::Source(_) => Op::Source((0..partitions).map(|_| chance.small(0, ROWS_MAX)).collect()),
        other => other,
    };
    let mut stage = StagePlan {
        id,
        partitions,
        lanes,
        inputs,
        told_by,
        output: if is_last { OutputKind::Result } else { draw_kind(chance) },
        tells: false,
        adapts: Adapts::default(),
        estimated_bytes: 0,
        memory_per_task: if chance.percent(20) { chance.between(1, 40) << 20 } else { 0 },
    };
    stage.adapts = draw_adapts(chance, graph, &stage, &op);
    graph.stages.push(stage);
    graph.ops.insert(id, op);
}

fn draw_kind(chance: &mut Chance) -> OutputKind {
    // By key more often: most of what sizes decide is of that.
    let kinds = [
        OutputKind::Hash,
        OutputKind::Hash,
        OutputKind::Hash,
        OutputKind::Range,
        OutputKind::RoundRobin,
        OutputKind::Single,
        OutputKind::Broadcast,
        OutputKind::Merge,
        OutputKind::SampledRange,
    ];
    chance.pick(&kinds).expect("there are kinds")
}

/// What a stage does, and which of its inputs only tell it keys.
fn draw_op(chance: &mut Chance, graph: &Graph, inputs: &[StageId]) -> (Op, Vec<StageId>) {
    let by_key: Vec<StageId> =
        inputs.iter().copied().filter(|id| graph.stage(*id).output == OutputKind::Hash).collect();
    if by_key.len() >= 2 && chance.percent(70) {
        let (build, probe) = if chance.percent(50) { (0, 1) } else { (1, 0) };
        let (build, probe) = (by_key[build], by_key[probe]);
        let told = inputs.iter().copied().filter(|id| *id != build && *id != probe).collect();
        return (Op::Join { build, probe }, told);
    }
    let told: Vec<StageId> = inputs.iter().copied().filter(|_| chance.percent(15)).collect();
    let read: Vec<StageId> = inputs.iter().copied().filter(|id| !told.contains(id)).collect();
    let op = if read.is_empty() { Op::Source(Vec::new()) } else { Op::Union(read) };
    (op, told)
}

fn draw_partitions(chance: &mut Chance, graph: &Graph, op: &Op, inputs: &[StageId], told: &[StageId]) -> u32 {
    let is_divided = |id: &&StageId| {
        let kind = graph.stage(**id).output;
        let by_partition = matches!(kind, OutputKind::Hash | OutputKind::Range | OutputKind::RoundRobin);
        by_partition && !told.contains(*id)
    };
    match op {
        Op::Source(_) if chance.percent(4) => 0,
        Op::Source(_) => chance.small(1, DIVISIONS_MAX),
        _ if inputs.iter().any(|id| is_divided(&id)) => graph.divisions,
        _ => chance.small(1, graph.divisions),
    }
}

/// What sizes may decide, as far as the stage's rows do not depend on it.
fn draw_adapts(chance: &mut Chance, graph: &Graph, stage: &StagePlan, op: &Op) -> Adapts {
    let rows_of: Vec<StageId> =
        stage.inputs.iter().copied().filter(|id| !stage.told_by.contains(id)).collect();
    let kind_of = |id: &StageId| graph.stage(*id).output;
    let by_key: Vec<StageId> = rows_of.iter().copied().filter(|id| kind_of(id) == OutputKind::Hash).collect();
    let whole = rows_of.iter().filter(|id| kind_of(id) == OutputKind::Broadcast).count();
    let may_divide = !by_key.is_empty() && by_key.len() + whole == rows_of.len() && stage.partitions > 1;
    let divided = if may_divide && chance.percent(70) { by_key.clone() } else { Vec::new() };
    let split_above = chance.below(100);
    let mut adapts = Adapts {
        // In a join, all rows of a partition are of one key.
        by_key: !divided.is_empty() && stage.output != OutputKind::Merge && matches!(op, Op::Union(_)),
        splits: draw_split(chance, op, &divided, stage.output),
        divided,
        pipelined: rows_of.iter().copied().filter(|_| chance.percent(40)).collect(),
        limits: AdaptLimits {
            merge_below: chance.below(200),
            merge_beyond: 1 + chance.below(20),
            split_above,
            key_parts_max: u32::try_from(split_above % 5).expect("a small number"),
            broadcast_below: chance.below(600),
            spare_inputs: true,
            pipeline_above: chance.below(60),
            speculate: chance.percent(50),
        },
        ..Adapts::default()
    };
    if let Op::Join { build, probe } = *op {
        let is_read_elsewhere = graph.stages.iter().any(|other| other.inputs.contains(&probe));
        let may_absorb =
            !is_read_elsewhere && graph.stage(probe).told_by.iter().all(|teller| *teller != build);
        adapts.broadcast = (may_absorb && chance.percent(60)).then_some(Broadcast { build, probe });
        let sides = if chance.percent(50) { (build, probe) } else { (probe, build) };
        if chance.percent(60) {
            adapts.spares = vec![Spares { empty: sides.0, spared: vec![sides.1] }];
        }
    }
    adapts
}

/// The input whose partitions may be read in parts: what is read beside it is read whole with each part.
fn draw_split(chance: &mut Chance, op: &Op, divided: &[StageId], output: OutputKind) -> Option<StageId> {
    if output == OutputKind::Merge || !chance.percent(60) {
        return None;
    }
    match op {
        Op::Join { probe, .. } => divided.contains(probe).then_some(*probe),
        _ if divided.len() == 1 => Some(divided[0]),
        _ => None,
    }
}
