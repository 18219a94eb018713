//! What placing a stage's tasks costs on clusters of 1,000 and 10,000 nodes. Throughput is in tasks placed.

use std::hint::black_box;
use std::sync::Arc;

use firesteel_manager::placement::{Cluster, Inputs, Placement, Request, Site, place};
use firesteel_micro::{Bench, Digest, Throughput, run};

const GIB: u64 = 1 << 30;
const NODES_PER_RACK: usize = 40;
const CORES: u64 = 8;
/// Nodes: full size, and tiny.
const NODES: [(usize, usize); 2] = [(1_000, 10), (10_000, 100)];

/// Racks of nodes with two NUMA nodes each, and an executor and a network card on each of those.
fn cluster(nodes: usize) -> Cluster {
    let site = |node: usize, index: u32| Site {
        id: format!("n{node}/e{index}").parse().expect("an executor's name"),
        rack: format!("r{}", node / NODES_PER_RACK),
        host: format!("n{node}"),
        nics: vec![Some(0), Some(1)],
        numa_node: Some(index),
        cores: CORES,
        memory: CORES * GIB,
    };
    Cluster::new((0..nodes).flat_map(|node| [site(node, 0), site(node, 1)]).collect())
}

/// The tasks of a stage that fills five in eight of all cores.
fn wide(cluster: &Cluster) -> Request {
    Request {
        tasks: cluster.seats().len() as u64 * 5,
        cores_per_task: 1,
        memory_per_task: GIB,
        ..Request::default()
    }
}

/// A wide stage whose input lies on every executor.
fn near_its_input(cluster: &Cluster) -> Request {
    let inputs = (0..cluster.seats().len()).map(|seat| (seat, 1_000 * (1 + seat as u64 % 7)));
    Request { inputs: Arc::new(Inputs::new(cluster, inputs)), ..wide(cluster) }
}

/// A stage of a few tasks that reads what a few executors hold, some of which it must not use.
fn narrow(cluster: &Cluster) -> Request {
    let seats = cluster.seats().len();
    let inputs: Vec<_> =
        (0..16.min(seats)).map(|i| (i * seats / 16 % seats, 1_000 * (1 + i as u64 % 5))).collect();
    let excluded = inputs.iter().step_by(4).map(|(seat, _)| *seat).collect();
    Request { tasks: 32, inputs: Arc::new(Inputs::new(cluster, inputs)), excluded, ..wide(cluster) }
}

fn hash(placements: &Vec<Placement>, digest: &mut Digest) {
    for placement in placements {
        digest.number(placement.seat as u64);
        digest.number(placement.tasks);
    }
}

fn placement(bench: &mut Bench) {
    for (full, tiny) in NODES {
        let nodes = bench.size(full, tiny);
        let empty = cluster(nodes);
        let mut busy = empty.clone();
        (0..busy.seats().len()).for_each(|seat| busy.lend(seat, seat as u64 % CORES, GIB));
        let stages = [
            ("wide", &empty, wide(&empty)),
            ("near_its_input", &empty, near_its_input(&empty)),
            ("narrow", &empty, narrow(&empty)),
            ("narrow_on_busy", &busy, narrow(&busy)),
        ];
        for (name, cluster, request) in stages {
            let mut group = bench.group(name, Throughput::Elements(request.tasks));
            group.samples(20);
            group.bench(format!("{nodes}_nodes"), || place(black_box(cluster), black_box(&request)), hash);
        }
    }
}

fn main() {
    run(include_str!("placement.hashes"), &[placement]);
}
