use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn site(rack: usize, host: usize, index: u32, cores: u64) -> Site {
    Site {
        id: format!("h{host:04}/e{index}").parse().unwrap(),
        rack: format!("r{rack}"),
        host: format!("h{host:04}"),
        nics: Vec::new(),
        numa_node: Some(index),
        cores,
        memory: cores * GIB,
    }
}

/// Hosts in racks of `per_rack`, each with `executors` of `cores`.
fn cluster(hosts: usize, per_rack: usize, executors: u32, cores: u64) -> Cluster {
    let sites =
        (0..hosts).flat_map(|host| (0..executors).map(move |e| site(host / per_rack, host, e, cores)));
    Cluster::new(sites.collect())
}

fn tasks(tasks: u64) -> Request {
    Request { tasks, cores_per_task: 1, ..Request::default() }
}

fn seat(cluster: &Cluster, name: &str) -> usize {
    cluster.seat_of(&name.parse().unwrap()).unwrap()
}

/// `h0000/e0 x4, ...`
fn shown(cluster: &Cluster, placements: &[Placement]) -> String {
    let one = |p: &Placement| format!("{} x{}", cluster.seats()[p.seat].site.id, p.tasks);
    placements.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn placed(cluster: &Cluster, request: &Request) -> String {
    shown(cluster, &place(cluster, request))
}

#[test]
fn one_node_takes_what_fits() {
    let cluster = cluster(1, 1, 1, 4);
    assert_eq!(placed(&cluster, &tasks(3)), "h0000/e0 x3");
    assert_eq!(placed(&cluster, &tasks(9)), "h0000/e0 x4");
    assert_eq!(placed(&cluster, &Request { cores_per_task: 3, ..tasks(9) }), "h0000/e0 x1");
    assert_eq!(placed(&cluster, &Request { memory_per_task: 2 * GIB, ..tasks(9) }), "h0000/e0 x2");
    assert_eq!(placed(&cluster, &Request { gang: true, ..tasks(5) }), "");
    assert_eq!(placed(&cluster, &Request { excluded: vec![0], ..tasks(1) }), "");
}

#[test]
fn two_nodes_share_what_has_no_input() {
    let mut cluster = cluster(2, 2, 1, 4);
    assert_eq!(placed(&cluster, &tasks(4)), "h0000/e0 x2, h0001/e0 x2");
    cluster.lend(0, 2, 0);
    assert_eq!(placed(&cluster, &tasks(3)), "h0000/e0 x1, h0001/e0 x2");
}

/// Input of which so many bytes lie at those seats.
fn lying(cluster: &Cluster, bytes: impl IntoIterator<Item = (usize, u64)>) -> Arc<Inputs> {
    Arc::new(Inputs::new(cluster, bytes))
}

#[test]
fn two_nodes_get_tasks_by_the_bytes_they_hold() {
    let cluster = cluster(2, 2, 1, 8);
    let inputs = lying(&cluster, [(0, 300), (1, 100)]);
    assert_eq!(placed(&cluster, &Request { inputs, ..tasks(4) }), "h0000/e0 x3, h0001/e0 x1");
    let all_on_one = lying(&cluster, [(1, 5)]);
    assert_eq!(placed(&cluster, &Request { inputs: all_on_one, ..tasks(8) }), "h0001/e0 x8");
}

#[test]
fn sixteen_nodes_data_first_then_its_host_then_its_rack() {
    let cluster = cluster(16, 4, 2, 4);
    let at = seat(&cluster, "h0005/e1");
    let request = |n| Request { inputs: lying(&cluster, [(at, 1000)]), ..tasks(n) };
    assert_eq!(placed(&cluster, &request(4)), "h0005/e1 x4");
    assert_eq!(placed(&cluster, &request(8)), "h0005/e0 x4, h0005/e1 x4");
    assert_eq!(
        placed(&cluster, &request(14)),
        "h0004/e0 x1, h0004/e1 x1, h0005/e0 x4, h0005/e1 x4, h0006/e0 x1, h0006/e1 x1, h0007/e0 x1, h0007/e1 x1"
    );
    let excluded = Request { excluded: vec![at], ..request(4) };
    assert_eq!(placed(&cluster, &excluded), "h0005/e0 x4", "its host still holds the bytes");
}

#[test]
fn consumers_go_to_their_producers() {
    let mut cluster = cluster(16, 4, 1, 8);
    let inputs = lying(&cluster, [(2, 10), (3, 10)]);
    let produced = place(&cluster, &Request { inputs, ..tasks(4) });
    assert_eq!(shown(&cluster, &produced), "h0002/e0 x2, h0003/e0 x2");
    for placement in &produced {
        cluster.lend(placement.seat, placement.tasks, 0);
    }
    let inputs = lying(&cluster, produced.iter().map(|p| (p.seat, p.tasks * 1000)));
    assert_eq!(placed(&cluster, &Request { inputs, ..tasks(4) }), "h0002/e0 x2, h0003/e0 x2");
}

#[test]
fn tasks_without_input_spread_over_racks_hosts_and_executors() {
    let cluster = cluster(16, 4, 2, 4);
    let placements = place(&cluster, &tasks(32));
    assert_eq!(placements.len(), 32);
    assert!(placements.iter().all(|placement| placement.tasks == 1));
}

/// One host with an executor on each of four NUMA nodes.
fn four_nodes(nics: Vec<Option<u32>>) -> Cluster {
    Cluster::new((0..4).map(|e| Site { nics: nics.clone(), ..site(0, 0, e, 4) }).collect())
}

#[test]
fn a_hosts_network_cards_share_the_tasks() {
    let mut two_cards = four_nodes(vec![Some(0), Some(3)]);
    assert_eq!(placed(&two_cards, &tasks(2)), "h0000/e0 x1, h0000/e3 x1", "each next to its card");
    assert_eq!(placed(&two_cards, &tasks(4)), "h0000/e0 x1, h0000/e1 x1, h0000/e3 x1, h0000/e2 x1");
    let busy = seat(&two_cards, "h0000/e1");
    two_cards.lend(busy, 3, 0);
    assert_eq!(placed(&two_cards, &tasks(3)), "h0000/e3 x2, h0000/e2 x1", "the first card is busy");
}

#[test]
fn executors_nearest_to_the_only_card_come_first_but_not_alone() {
    let one_card = four_nodes(vec![Some(2)]);
    assert_eq!(placed(&one_card, &tasks(1)), "h0000/e2 x1");
    assert_eq!(placed(&one_card, &tasks(4)), "h0000/e2 x1, h0000/e0 x1, h0000/e1 x1, h0000/e3 x1");
}

#[test]
fn cards_of_unknown_place_are_taken_in_turn() {
    let cards = four_nodes(vec![None, None]);
    assert_eq!(placed(&cards, &tasks(2)), "h0000/e0 x1, h0000/e1 x1");
}

#[test]
fn a_thousand_nodes_and_ten_thousand_tasks_take_well_under_a_second() {
    let cluster = cluster(1000, 40, 2, 8);
    let inputs = lying(&cluster, (0..2000).map(|at| (at, 1000 + u64::try_from(at % 7).unwrap())));
    let began = Instant::now();
    let spread = place(&cluster, &tasks(10_000));
    let near = place(&cluster, &Request { inputs, ..tasks(10_000) });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    for placements in [spread, near] {
        assert_eq!(placements.iter().map(|p| p.tasks).sum::<u64>(), 10_000);
        assert_eq!(placements.len(), 2000);
        assert!(placements.iter().all(|p| p.tasks >= 4 && p.tasks <= 6), "evenly");
    }
}

fn any_cluster() -> impl Strategy<Value = Cluster> {
    let nics = proptest::collection::vec(proptest::option::of(0..4u32), 0..3);
    let host = (0..3usize, nics, proptest::collection::vec((0..9u64, 0..9u64), 1..4));
    proptest::collection::vec(host, 1..12).prop_map(|hosts| {
        let mut sites = Vec::new();
        let mut lent = BTreeMap::new();
        for (at, (rack, nics, executors)) in hosts.into_iter().enumerate() {
            for (index, (cores, used)) in executors.into_iter().enumerate() {
                let site =
                    Site { nics: nics.clone(), ..site(rack, at, u32::try_from(index).unwrap(), cores) };
                lent.insert(site.id.clone(), used.min(cores));
                sites.push(site);
            }
        }
        let mut cluster = Cluster::new(sites);
        cluster.set_lent(|id| (lent[id], lent[id] * GIB / 2));
        cluster
    })
}

/// A request, and the bytes at seats that its tasks read.
fn any_request() -> impl Strategy<Value = (Request, Vec<(usize, u64)>)> {
    let seats = || proptest::collection::vec(0..40usize, 0..6);
    let inputs = proptest::collection::vec((0..40usize, any::<u64>()), 0..6);
    (0..60u64, 1..4u32, 0..3u64, inputs, seats(), any::<bool>()).prop_map(
        |(tasks, cores_per_task, gib, inputs, excluded, gang)| {
            let memory_per_task = gib * GIB / 2;
            let sized = Request { tasks, cores_per_task, memory_per_task, ..Request::default() };
            (Request { excluded, gang, ..sized }, inputs)
        },
    )
}

/// Keeps only the seats that there are.
fn within(cluster: &Cluster, (mut request, mut inputs): (Request, Vec<(usize, u64)>)) -> Request {
    let seats = cluster.seats().len();
    inputs.retain(|(seat, _)| *seat < seats);
    request.excluded.retain(|seat| *seat < seats);
    Request { inputs: lying(cluster, inputs), ..request }
}

proptest! {
    #[test]
    fn what_fits_is_placed_where_it_may_and_nothing_is_oversubscribed(
        mut cluster in any_cluster(), request in any_request()
    ) {
        let request = within(&cluster, request);
        let room: u64 = cluster
            .seats()
            .iter()
            .enumerate()
            .filter(|(at, _)| !request.excluded.contains(at))
            .map(|(_, s)| fitting(s.cores_free(), s.memory_free(), request.cores_per_task, request.memory_per_task))
            .sum();
        let placements = place(&cluster, &request);
        prop_assert_eq!(&placements, &place(&cluster, &request), "it is a function");
        let placed: u64 = placements.iter().map(|p| p.tasks).sum();
        let expected = if request.gang && room < request.tasks { 0 } else { request.tasks.min(room) };
        prop_assert_eq!(placed, expected);
        let mut seats: Vec<usize> = placements.iter().map(|p| p.seat).collect();
        seats.sort_unstable();
        seats.dedup();
        prop_assert_eq!(seats.len(), placements.len(), "one placement an executor");
        for placement in placements {
            prop_assert!(placement.tasks > 0 && !request.excluded.contains(&placement.seat));
            let cores = placement.tasks * u64::from(request.cores_per_task);
            // It panics when that is more than there is.
            cluster.lend(placement.seat, cores, placement.tasks * request.memory_per_task);
        }
    }

    #[test]
    fn an_executor_with_all_the_input_and_room_gets_all_tasks(cluster in any_cluster(), at in 0..40usize) {
        let at = at % cluster.seats().len();
        let room = cluster.seats()[at].cores_free();
        let placements = place(&cluster, &Request { inputs: lying(&cluster, [(at, 7)]), ..tasks(room) });
        let expected = if room == 0 { vec![] } else { vec![Placement { seat: at, tasks: room }] };
        prop_assert_eq!(placements, expected);
    }
}
