//! Where the tasks of a stage go: a pure function of what the stage needs, the cluster, and what is lent of it.
//!
//! From rack to host to network card to executor, tasks go where the input lies, in proportion to its bytes, as far as
//! there is room; that puts consumers on their producers' executors, then hosts, then racks. Tasks that have no input
//! anywhere with room spread in proportion to what is free, and inside a host over its network cards, those with the
//! least use first.
//!
//! Invariants: nothing is oversubscribed; no task goes to an excluded executor; what fits is placed; equal input gives
//! equal output; the work grows with executors that have free cores, plus tasks, but for a logarithm. Where input lies is summed up
//! once for all the times that tasks which read it are placed.

mod apportion;
mod cluster;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

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
    /// Where their input lies, in the same cluster.
    pub inputs: Arc<Inputs>,
    /// Seats that must not be used.
    pub excluded: Vec<usize>,
    /// All tasks or none.
    pub gang: bool,
}

/// Where input lies: bytes at each seat, and in all at each network card, host and rack.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    seats: Sums,
    nics: Sums,
    hosts: Sums,
    racks: Sums,
}

type Sums = BTreeMap<usize, u64>;

impl Inputs {
    /// Sums up the bytes at seats of a cluster.
    #[must_use]
    pub fn new(cluster: &Cluster, bytes: impl IntoIterator<Item = (usize, u64)>) -> Self {
        let mut this = Self::default();
        for (seat, bytes) in bytes {
            let nic = cluster.nic_of[seat];
            let host = cluster.host_of[nic];
            let all = [
                (&mut this.seats, seat),
                (&mut this.nics, nic),
                (&mut this.hosts, host),
                (&mut this.racks, cluster.rack_of[host]),
            ];
            for (sums, at) in all {
                let sum = sums.entry(at).or_default();
                *sum = sum.saturating_add(bytes);
            }
        }
        this
    }

    /// How many seats hold some.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }
}

fn bytes_at(sums: &Sums, at: usize) -> u64 {
    sums.get(&at).copied().unwrap_or(0)
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
    let seats = seat_parts(cluster, request);
    let inputs = &request.inputs;
    let nics = Level::of(&seats, &cluster.nic_of, &inputs.nics, |nic, part| Part {
        weight: 1,
        busy: cores_lent(cluster, nic) / u64::from(request.cores_per_task.max(1)),
        ..part
    });
    let hosts = Level::of(&nics.parts, &cluster.host_of, &inputs.hosts, |_, part| part);
    let racks = Level::of(&hosts.parts, &cluster.rack_of, &inputs.racks, |_, part| part);
    let room: u64 = racks.parts.iter().map(|(_, part)| part.room).sum();
    if request.gang && room < request.tasks {
        return Vec::new();
    }
    let mut placements = Vec::new();
    for (rack, tasks) in shares(request.tasks, &racks.parts, 0..racks.parts.len()) {
        for (host, tasks) in shares(tasks, &hosts.parts, racks.below[rack].clone()) {
            for (nic, tasks) in shares(tasks, &nics.parts, hosts.below[host].clone()) {
                let seats =
                    shares(tasks, &seats, nics.below[nic].clone()).map(|(at, tasks)| (seats[at].0, tasks));
                placements.extend(seats.map(|(seat, tasks)| Placement { seat, tasks }));
            }
        }
    }
    placements
}

/// The parts of `range` that get some of the tasks.
fn shares(tasks: u64, parts: &[(usize, Part)], range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let given = apportion(tasks, parts[range.clone()].iter().map(|(_, part)| *part));
    range.zip(given).filter(|(_, tasks)| *tasks > 0)
}

/// The seats that have free cores: no other gets tasks. Input elsewhere draws tasks near it by the sums of the levels above.
fn seat_parts(cluster: &Cluster, request: &Request) -> Vec<(usize, Part)> {
    let part = |at: usize| {
        let seat = &cluster.seats[at];
        let (cores, memory) = (seat.cores_free(), seat.memory_free());
        let room = fitting(cores, memory, request.cores_per_task, request.memory_per_task);
        Part { room, bytes: bytes_at(&request.inputs.seats, at), weight: room, busy: 0 }
    };
    let mut parts: Vec<(usize, Part)> = cluster.free().iter().map(|seat| (*seat, part(*seat))).collect();
    for seat in &request.excluded {
        if let Ok(at) = parts.binary_search_by_key(seat, |(seat, _)| *seat) {
            (parts[at].1.room, parts[at].1.weight) = (0, 0);
        }
    }
    parts
}

fn cores_lent(cluster: &Cluster, nic: usize) -> u64 {
    cluster.seats[cluster.nics[nic].clone()].iter().map(|seat| seat.cores_lent).sum()
}

/// Parts by their number in the cluster, and where in the list of the level below those are that each is made of.
struct Level {
    parts: Vec<(usize, Part)>,
    below: Vec<Range<usize>>,
}

impl Level {
    fn of(
        lower: &[(usize, Part)],
        parent: &[usize],
        inputs: &Sums,
        made: impl Fn(usize, Part) -> Part,
    ) -> Self {
        let mut level = Self { parts: Vec::new(), below: Vec::new() };
        let mut begins = 0;
        for group in lower.chunk_by(|(one, _), (next, _)| parent[*one] == parent[*next]) {
            let at = parent[group[0].0];
            let room = group.iter().map(|(_, part)| part.room).sum();
            let part = Part { room, bytes: bytes_at(inputs, at), weight: room, busy: 0 };
            level.parts.push((at, made(at, part)));
            level.below.push(begins..begins + group.len());
            begins += group.len();
        }
        level
    }
}
