//! Where the tasks of a stage go: a pure function of what the stage needs, the cluster, and what is lent of it.
//!
//! From rack to host to network card to executor, tasks go where the input lies, in proportion to its bytes, as far as
//! there is room; that puts consumers on their producers' executors, then hosts, then racks. Tasks that have no input
//! anywhere with room spread in proportion to what is free, and inside a host over its network cards, those with the
//! least use first.
//!
//! Invariants: nothing is oversubscribed; no task goes to an excluded executor; what fits is placed; equal input gives
//! equal output; the work grows with executors plus tasks, but for a logarithm.

mod apportion;
mod cluster;
#[cfg(test)]
mod tests;

use std::ops::Range;

use apportion::{Part, apportion};
pub use cluster::{Cluster, Seat, Site, fitting};

/// Tasks to be placed.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// How many.
    pub tasks: u64,
    /// Cores of each.
    pub cores_per_task: u32,
    /// Memory of each.
    pub memory_per_task: u64,
    /// Seats that hold input, and its bytes.
    pub inputs: Vec<(usize, u64)>,
    /// Seats that must not be used.
    pub excluded: Vec<usize>,
    /// All tasks or none.
    pub gang: bool,
}

/// Tasks placed on an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The executor, as its place in [`Cluster::seats`].
    pub seat: usize,
    /// How many; never 0.
    pub tasks: u64,
}

/// Places as many of the tasks as fit, at most one placement an executor.
#[must_use]
pub fn place(cluster: &Cluster, request: &Request) -> Vec<Placement> {
    let sums = Sums::new(cluster, request);
    let room: u64 = sums.racks.iter().map(|part| part.room).sum();
    if request.gang && room < request.tasks {
        return Vec::new();
    }
    let mut placements = Vec::new();
    for (rack, tasks) in shares(request.tasks, &sums.racks, 0..sums.racks.len()) {
        for (host, tasks) in shares(tasks, &sums.hosts, cluster.racks[rack].clone()) {
            for (nic, tasks) in shares(tasks, &sums.nics, cluster.hosts[host].clone()) {
                let seats = shares(tasks, &sums.seats, cluster.nics[nic].clone());
                placements.extend(seats.map(|(seat, tasks)| Placement { seat, tasks }));
            }
        }
    }
    placements
}

/// The parts of `range` that get some of the tasks.
fn shares(tasks: u64, parts: &[Part], range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let given = apportion(tasks, &parts[range.clone()]);
    range.zip(given).filter(|(_, tasks)| *tasks > 0)
}

/// Room and bytes of every executor, card, host and rack.
struct Sums {
    seats: Vec<Part>,
    nics: Vec<Part>,
    hosts: Vec<Part>,
    racks: Vec<Part>,
}

impl Sums {
    fn new(cluster: &Cluster, request: &Request) -> Self {
        let seats = seat_parts(cluster, request);
        let lent = |range: &Range<usize>| {
            cluster.seats[range.clone()].iter().map(|seat| seat.cores_lent).sum::<u64>()
        };
        let nics = cluster
            .nics
            .iter()
            .map(|range| Part {
                weight: 1,
                busy: lent(range) / u64::from(request.cores_per_task.max(1)),
                ..total(&seats[range.clone()])
            })
            .collect::<Vec<_>>();
        let hosts = cluster.hosts.iter().map(|range| total(&nics[range.clone()])).collect::<Vec<_>>();
        let racks = cluster.racks.iter().map(|range| total(&hosts[range.clone()])).collect();
        Self { seats, nics, hosts, racks }
    }
}

fn seat_parts(cluster: &Cluster, request: &Request) -> Vec<Part> {
    let room = |seat: &Seat| {
        fitting(seat.cores_free(), seat.memory_free(), request.cores_per_task, request.memory_per_task)
    };
    let part = |room| Part { room, bytes: 0, weight: room, busy: 0 };
    let mut parts: Vec<Part> = cluster.seats.iter().map(|seat| part(room(seat))).collect();
    for &seat in &request.excluded {
        parts[seat] = part(0);
    }
    for &(seat, bytes) in &request.inputs {
        parts[seat].bytes = parts[seat].bytes.saturating_add(bytes);
    }
    parts
}

fn total(parts: &[Part]) -> Part {
    let room = parts.iter().map(|part| part.room).sum();
    let bytes = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.bytes));
    Part { room, bytes, weight: room, busy: 0 }
}
