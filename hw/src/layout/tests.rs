use insta::assert_snapshot;

use super::*;

fn host(description: &str) -> Topology {
    Topology::from_synthetic(description).unwrap()
}

fn two_sockets() -> Topology {
    host("pack:2 [numa(memory=68719476736)] l3:4 core:8 pu:2")
}

fn cores(n: u32) -> Topology {
    host(&format!("numa:1(memory=17179869184) core:{n} pu:1"))
}

fn four_nodes() -> Topology {
    host("pack:1 numa:4(memory=17179869184) l3:1 core:4 pu:1")
}

/// A layout per line.
fn plan(topology: &Topology, request: &LayoutRequest) -> String {
    let layouts = match plan_executors(topology, request) {
        Ok(layouts) => layouts,
        Err(fault) => return UserError::from(fault).to_string(),
    };
    let lines = layouts.iter().map(|layout| {
        format!(
            "e{}: node {}, {} cores {}, control {}, {}",
            layout.index,
            layout.numa_node.map_or("any".to_owned(), |node| node.to_string()),
            layout.cores.len(),
            crate::cpu_list::display(&layout.cores),
            crate::cpu_list::display(&layout.control_cpus),
            ByteSize(layout.memory_bytes),
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn defaults() -> LayoutRequest {
    LayoutRequest::default()
}

#[test]
fn two_sockets_by_default() {
    assert_snapshot!(plan(&two_sockets(), &defaults()), @"");
}

#[test]
fn two_sockets_with_hardware_threads() {
    let request = LayoutRequest { smt: true, control_cores: Some(2), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
}

#[test]
fn one_executor_spans_two_sockets() {
    let request = LayoutRequest { executors: Some(1), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
}

#[test]
fn more_executors_than_nodes_keep_to_their_l3_groups() {
    let request = LayoutRequest { executors: Some(8), control_cores: Some(0), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
}

#[test]
fn three_executors_on_two_sockets() {
    let request = LayoutRequest { executors: Some(3), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
}

#[test]
fn a_limit_on_cores_is_shared_evenly() {
    let request = LayoutRequest { cores: Some(7), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
}

#[test]
fn all_cores_asked_for_leave_none_free() {
    let request = LayoutRequest { cores: Some(64), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
}

#[test]
fn one_and_two_cores_share_with_the_control_plane() {
    assert_snapshot!(plan(&cores(1), &defaults()), @"");
    assert_snapshot!(plan(&cores(2), &defaults()), @"");
    assert_snapshot!(plan(&cores(3), &defaults()), @"");
}

#[test]
fn two_executors_on_two_cores() {
    let request = LayoutRequest { executors: Some(2), ..defaults() };
    assert_snapshot!(plan(&cores(2), &request), @"");
}

#[test]
fn four_nodes_by_default_and_with_two_executors() {
    assert_snapshot!(plan(&four_nodes(), &defaults()), @"");
    assert_snapshot!(plan(&four_nodes(), &LayoutRequest { executors: Some(2), ..defaults() }), @"");
}

#[test]
fn fewer_cores_than_nodes_make_fewer_executors() {
    assert_snapshot!(plan(&four_nodes(), &LayoutRequest { cores: Some(2), ..defaults() }), @"");
}

#[test]
fn only_the_given_cpus_are_used() {
    let request = LayoutRequest { cpus: Some(vec![1]), ..defaults() };
    assert_snapshot!(plan(&cores(2), &request), @"");
}

#[test]
fn a_cgroup_bounds_cores_and_memory() {
    let mut host = two_sockets();
    host.limits = crate::topology::Limits { memory_bytes: Some(16 << 30), cpu_milli: Some(3500) };
    assert_snapshot!(plan(&host, &defaults()), @"");
}

#[test]
fn memory_is_per_executor() {
    let request = LayoutRequest { memory: Some(4 << 30), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
}

#[test]
fn what_the_machine_has_not_is_refused_with_what_to_set() {
    let request = LayoutRequest { cores: Some(65), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
    let request = LayoutRequest { cores: Some(64), control_cores: Some(2), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
    let request = LayoutRequest { control_cores: Some(2), ..defaults() };
    assert_snapshot!(plan(&cores(2), &request), @"");
    let request = LayoutRequest { executors: Some(4), ..defaults() };
    assert_snapshot!(plan(&cores(4), &request), @"");
    let request = LayoutRequest { memory: Some(100 << 30), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
    let request = LayoutRequest { cores: Some(0), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
    let request = LayoutRequest { cpus: Some(vec![200, 201]), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"");
    assert_snapshot!(plan(&host("core:4 pu:1"), &defaults()), @"");
}

#[test]
fn no_cpu_is_given_twice_whatever_is_asked() {
    for topology in [two_sockets(), four_nodes(), cores(1), cores(2), cores(5)] {
        for executors in 1..=9 {
            for cores in 1..=9 {
                for (smt, control) in [(false, None), (true, None), (false, Some(1)), (true, Some(0))] {
                    let request = LayoutRequest {
                        executors: Some(executors),
                        cores: Some(cores),
                        control_cores: control,
                        smt,
                        ..defaults()
                    };
                    check_disjoint(&topology, &request);
                }
            }
        }
    }
}

fn check_disjoint(topology: &Topology, request: &LayoutRequest) {
    let Ok(layouts) = plan_executors(topology, request) else { return };
    let mut all: Vec<u32> = layouts.iter().flat_map(|layout| layout.cores.clone()).collect();
    assert_eq!(all.len(), request.cores.unwrap() as usize, "{request:?}");
    assert_eq!(layouts.len(), request.executors.unwrap() as usize, "{request:?}");
    assert!(layouts.iter().all(|layout| !layout.cores.is_empty() && layout.memory_bytes > 0), "{request:?}");
    if request.control_cores == Some(1) {
        all.extend(&layouts[0].control_cpus);
    }
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count, "a CPU twice: {request:?} {layouts:?}");
    assert!(all.iter().all(|cpu| topology.cpus().contains(cpu)));
    let bytes: u64 = layouts.iter().map(|layout| layout.memory_bytes).sum();
    assert!(bytes <= topology.memory_bytes(), "{request:?}");
}
