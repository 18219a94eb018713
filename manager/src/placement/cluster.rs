//! The cluster as placement sees it: racks of hosts, hosts with network cards, executors near those, and how much of
//! each executor is lent.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use firesteel_base::ExecutorId;

/// An executor that may get tasks, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Which.
    pub id: ExecutorId,
    /// Its host's rack; empty when unknown.
    pub rack: String,
    /// Its host.
    pub host: String,
    /// The NUMA node of each of its host's network cards, `None` where unknown.
    pub nics: Vec<Option<u32>>,
    /// The NUMA node it is bound to.
    pub numa_node: Option<u32>,
    /// Its core threads.
    pub cores: u64,
    /// Its memory.
    pub memory: u64,
}

/// An executor and what of it is lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The executor.
    pub site: Site,
    /// Cores lent.
    pub cores_lent: u64,
    /// Memory lent.
    pub memory_lent: u64,
}

impl Seat {
    /// Cores not lent.
    #[must_use]
    pub fn cores_free(&self) -> u64 {
        self.site.cores.saturating_sub(self.cores_lent)
    }

    /// Memory not lent.
    #[must_use]
    pub fn memory_free(&self) -> u64 {
        self.site.memory.saturating_sub(self.memory_lent)
    }
}

/// How many tasks of that size fit into that much.
#[must_use]
pub fn fitting(cores: u64, memory: u64, cores_per_task: u32, memory_per_task: u64) -> u64 {
    let by_cores = cores / u64::from(cores_per_task.max(1));
    match memory_per_task {
        0 => by_cores,
        bytes => by_cores.min(memory / bytes),
    }
}

/// Executors in the order rack, host, network card, id; each level is given as ranges of the next one.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    pub(super) seats: Vec<Seat>,
    pub(super) racks: Vec<Range<usize>>,
    pub(super) hosts: Vec<Range<usize>>,
    pub(super) nics: Vec<Range<usize>>,
    /// The card that each seat is at, the host of each card, and the rack of each host.
    pub(super) nic_of: Vec<usize>,
    pub(super) host_of: Vec<usize>,
    pub(super) rack_of: Vec<usize>,
    by_id: BTreeMap<ExecutorId, usize>,
    /// Seats with cores that are not lent.
    free: BTreeSet<usize>,
    cores: u64,
    cores_free: u64,
    cores_lent: u64,
}

impl Cluster {
    /// A cluster of these executors, nothing lent yet.
    #[must_use]
    pub fn new(mut sites: Vec<Site>) -> Self {
        sites.sort_by(|a, b| (&a.rack, &a.host, &a.id).cmp(&(&b.rack, &b.host, &b.id)));
        let mut cluster = Self::default();
        let mut sites = sites.into_iter().peekable();
        while let Some(first) = sites.next() {
            let rack = first.rack.clone();
            let hosts_before = cluster.hosts.len();
            let mut next = Some(first);
            while let Some(first) = next {
                let mut on_host = vec![first];
                while let Some(site) = sites.next_if(|s| s.rack == rack && s.host == on_host[0].host) {
                    on_host.push(site);
                }
                cluster.add_host(on_host);
                next = sites.next_if(|s| s.rack == rack);
            }
            cluster.racks.push(hosts_before..cluster.hosts.len());
        }
        cluster.by_id =
            cluster.seats.iter().enumerate().map(|(at, seat)| (seat.site.id.clone(), at)).collect();
        cluster.nic_of = parents(&cluster.nics);
        cluster.host_of = parents(&cluster.hosts);
        cluster.rack_of = parents(&cluster.racks);
        cluster.free =
            (0..cluster.seats.len()).filter(|&seat| cluster.seats[seat].cores_free() > 0).collect();
        cluster.cores = cluster.seats.iter().map(|seat| seat.site.cores).sum();
        cluster.cores_free = cluster.cores;
        cluster
    }

    fn add_host(&mut self, sites: Vec<Site>) {
        let nics = sites[0].nics.clone();
        let mut near: BTreeMap<usize, Vec<(bool, Site)>> = BTreeMap::new();
        for (nth, site) in sites.into_iter().enumerate() {
            let nic = nearest_nic(&nics, site.numa_node, nth);
            let far = nics.get(nic).is_some_and(|node| *node != site.numa_node);
            near.entry(nic).or_default().push((far, site));
        }
        let nics_before = self.nics.len();
        for (_, mut sites) in near {
            sites.sort_by_key(|(far, _)| *far);
            let seats_before = self.seats.len();
            self.seats.extend(sites.into_iter().map(|(_, site)| Seat {
                site,
                cores_lent: 0,
                memory_lent: 0,
            }));
            self.nics.push(seats_before..self.seats.len());
        }
        self.hosts.push(nics_before..self.nics.len());
    }

    /// Sets what each executor has lent, as cores and bytes.
    pub fn set_lent(&mut self, lent: impl Fn(&ExecutorId) -> (u64, u64)) {
        for seat in 0..self.seats.len() {
            let lent = lent(&self.seats[seat].site.id);
            self.change(seat, lent);
        }
    }

    /// Sets what one executor has lent, if it is one of them.
    pub fn set_lent_of(&mut self, executor: &ExecutorId, lent: (u64, u64)) {
        if let Some(seat) = self.seat_of(executor) {
            self.change(seat, lent);
        }
    }

    /// Lends more of an executor.
    pub fn lend(&mut self, seat: usize, cores: u64, memory: u64) {
        let Seat { cores_lent, memory_lent, .. } = self.seats[seat];
        self.change(seat, (cores_lent + cores, memory_lent + memory));
        let seat = &self.seats[seat];
        assert!(
            seat.cores_lent <= seat.site.cores && seat.memory_lent <= seat.site.memory,
            "oversubscribed: {seat:?}"
        );
    }

    fn change(&mut self, at: usize, (cores, memory): (u64, u64)) {
        let seat = &mut self.seats[at];
        self.cores_free -= seat.cores_free();
        self.cores_lent -= seat.cores_lent;
        (seat.cores_lent, seat.memory_lent) = (cores, memory);
        self.cores_free += seat.cores_free();
        self.cores_lent += seat.cores_lent;
        if seat.cores_free() > 0 {
            self.free.insert(at);
        } else {
            self.free.remove(&at);
        }
    }

    /// The seats with cores that are not lent, in order.
    #[must_use]
    pub fn free(&self) -> &BTreeSet<usize> {
        &self.free
    }

    /// Cores of all executors.
    #[must_use]
    pub fn cores(&self) -> u64 {
        self.cores
    }

    /// Those of them that are not lent.
    #[must_use]
    pub fn cores_free(&self) -> u64 {
        self.cores_free
    }

    /// Those of them that are lent.
    #[must_use]
    pub fn cores_lent(&self) -> u64 {
        self.cores_lent
    }

    /// The executors, in an order that never changes.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Where in [`seats`](Self::seats) an executor is.
    #[must_use]
    pub fn seat_of(&self, id: &ExecutorId) -> Option<usize> {
        self.by_id.get(id).copied()
    }
}

/// Which of the ranges each number is in; they follow each other from 0 on.
fn parents(ranges: &[Range<usize>]) -> Vec<usize> {
    ranges.iter().enumerate().flat_map(|(at, range)| range.clone().map(move |_| at)).collect()
}

/// The network card for the `nth` executor of a host: of those on its NUMA node, else of those on the next one by
/// number, else of all, in turn.
fn nearest_nic(nics: &[Option<u32>], numa_node: Option<u32>, nth: usize) -> usize {
    let distance = |nic: &Option<u32>| match (*nic, numa_node) {
        (Some(a), Some(b)) => a.abs_diff(b),
        (None, _) | (_, None) => u32::MAX,
    };
    let Some(least) = nics.iter().map(distance).min() else { return 0 };
    let nearest: Vec<usize> = (0..nics.len()).filter(|&nic| distance(&nics[nic]) == least).collect();
    nearest[nth % nearest.len()]
}
