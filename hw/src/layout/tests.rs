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
    assert_snapshot!(plan(&two_sockets(), &defaults()), @r"
    e0: node 0, 31 cores 2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62, control 0-1, 48GiB
    e1: node 1, 32 cores 64,66,68,70,72,74,76,78,80,82,84,86,88,90,92,94,96,98,100,102,104,106,108,110,112,114,116,118,120,122,124,126, control 0-1, 48GiB
    ");
}

#[test]
fn two_sockets_with_hardware_threads() {
    let request = LayoutRequest { smt: true, control_cores: Some(2), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    e0: node 0, 60 cores 4-63, control 0-3, 48GiB
    e1: node 1, 64 cores 64-127, control 0-3, 48GiB
    ");
}

#[test]
fn one_executor_spans_two_sockets() {
    let request = LayoutRequest { executors: Some(1), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @"e0: node any, 63 cores 2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62,64,66,68,70,72,74,76,78,80,82,84,86,88,90,92,94,96,98,100,102,104,106,108,110,112,114,116,118,120,122,124,126, control 0-1, 96GiB");
}

#[test]
fn more_executors_than_nodes_keep_to_their_l3_groups() {
    let request = LayoutRequest { executors: Some(8), control_cores: Some(0), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    e0: node 0, 8 cores 0,2,4,6,8,10,12,14, control 0,2,4,6,8,10,12,14, 12GiB
    e1: node 0, 8 cores 16,18,20,22,24,26,28,30, control 16,18,20,22,24,26,28,30, 12GiB
    e2: node 0, 8 cores 32,34,36,38,40,42,44,46, control 32,34,36,38,40,42,44,46, 12GiB
    e3: node 0, 8 cores 48,50,52,54,56,58,60,62, control 48,50,52,54,56,58,60,62, 12GiB
    e4: node 1, 8 cores 64,66,68,70,72,74,76,78, control 64,66,68,70,72,74,76,78, 12GiB
    e5: node 1, 8 cores 80,82,84,86,88,90,92,94, control 80,82,84,86,88,90,92,94, 12GiB
    e6: node 1, 8 cores 96,98,100,102,104,106,108,110, control 96,98,100,102,104,106,108,110, 12GiB
    e7: node 1, 8 cores 112,114,116,118,120,122,124,126, control 112,114,116,118,120,122,124,126, 12GiB
    ");
}

#[test]
fn three_executors_on_two_sockets() {
    let request = LayoutRequest { executors: Some(3), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    e0: node 0, 31 cores 2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62, control 0-1, 48GiB
    e1: node 1, 16 cores 64,66,68,70,72,74,76,78,80,82,84,86,88,90,92,94, control 0-1, 24GiB
    e2: node 1, 16 cores 96,98,100,102,104,106,108,110,112,114,116,118,120,122,124,126, control 0-1, 24GiB
    ");
}

#[test]
fn a_limit_on_cores_is_shared_evenly() {
    let request = LayoutRequest { cores: Some(7), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    e0: node 0, 4 cores 2,4,6,8, control 0-1, 48GiB
    e1: node 1, 3 cores 64,66,68, control 0-1, 48GiB
    ");
}

#[test]
fn all_cores_asked_for_leave_none_free() {
    let request = LayoutRequest { cores: Some(64), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    e0: node 0, 32 cores 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62, control 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62, 48GiB
    e1: node 1, 32 cores 64,66,68,70,72,74,76,78,80,82,84,86,88,90,92,94,96,98,100,102,104,106,108,110,112,114,116,118,120,122,124,126, control 64,66,68,70,72,74,76,78,80,82,84,86,88,90,92,94,96,98,100,102,104,106,108,110,112,114,116,118,120,122,124,126, 48GiB
    ");
}

#[test]
fn one_and_two_cores_share_with_the_control_plane() {
    assert_snapshot!(plan(&cores(1), &defaults()), @"e0: node 0, 1 cores 0, control 0, 12GiB");
    assert_snapshot!(plan(&cores(2), &defaults()), @"e0: node 0, 2 cores 0-1, control 0-1, 12GiB");
    assert_snapshot!(plan(&cores(3), &defaults()), @"e0: node 0, 2 cores 1-2, control 0, 12GiB");
}

#[test]
fn two_executors_on_two_cores() {
    let request = LayoutRequest { executors: Some(2), ..defaults() };
    assert_snapshot!(plan(&cores(2), &request), @r"
    e0: node 0, 1 cores 0, control 0, 6GiB
    e1: node 0, 1 cores 1, control 1, 6GiB
    ");
}

#[test]
fn as_many_executors_as_cores_leave_none_free() {
    let request = LayoutRequest { executors: Some(3), ..defaults() };
    assert_snapshot!(plan(&cores(3), &request), @r"
    e0: node 0, 1 cores 0, control 0, 4.0GiB
    e1: node 0, 1 cores 1, control 1, 4.0GiB
    e2: node 0, 1 cores 2, control 2, 4.0GiB
    ");
}

#[test]
fn four_nodes_by_default_and_with_two_executors() {
    assert_snapshot!(plan(&four_nodes(), &defaults()), @r"
    e0: node 0, 3 cores 1-3, control 0, 12GiB
    e1: node 1, 4 cores 4-7, control 0, 12GiB
    e2: node 2, 4 cores 8-11, control 0, 12GiB
    e3: node 3, 4 cores 12-15, control 0, 12GiB
    ");
    assert_snapshot!(plan(&four_nodes(), &LayoutRequest { executors: Some(2), ..defaults() }), @r"
    e0: node any, 7 cores 1-7, control 0, 24GiB
    e1: node any, 8 cores 8-15, control 0, 24GiB
    ");
}

#[test]
fn fewer_cores_than_nodes_make_fewer_executors() {
    assert_snapshot!(plan(&four_nodes(), &LayoutRequest { cores: Some(2), ..defaults() }), @r"
    e0: node 0, 1 cores 1, control 0, 12GiB
    e1: node 1, 1 cores 4, control 0, 12GiB
    ");
}

#[test]
fn a_node_without_memory_makes_all_share_evenly() {
    let mut host = two_sockets();
    host.numa_nodes[1].memory_bytes = 0;
    assert_snapshot!(plan(&host, &LayoutRequest { cores: Some(2), ..defaults() }), @r"
    e0: node 0, 1 cores 2, control 0-1, 24GiB
    e1: node 1, 1 cores 64, control 0-1, 24GiB
    ");
}

#[test]
fn only_the_given_cpus_are_used() {
    let request = LayoutRequest { cpus: Some(vec![1]), ..defaults() };
    assert_snapshot!(plan(&cores(2), &request), @"e0: node 0, 1 cores 1, control 1, 12GiB");
}

#[test]
fn a_cgroup_bounds_cores_and_memory() {
    let mut host = two_sockets();
    host.limits = crate::topology::Limits { memory_bytes: Some(16 << 30), cpu_milli: Some(3500) };
    assert_snapshot!(plan(&host, &defaults()), @r"
    e0: node 0, 2 cores 2,4, control 0-1, 6GiB
    e1: node 1, 2 cores 64,66, control 0-1, 6GiB
    ");
}

#[test]
fn memory_is_per_executor() {
    let request = LayoutRequest { memory: Some(4 << 30), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    e0: node 0, 31 cores 2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62, control 0-1, 4GiB
    e1: node 1, 32 cores 64,66,68,70,72,74,76,78,80,82,84,86,88,90,92,94,96,98,100,102,104,106,108,110,112,114,116,118,120,122,124,126, control 0-1, 4GiB
    ");
}

#[test]
fn what_the_machine_has_not_is_refused_with_what_to_set() {
    let request = LayoutRequest { cores: Some(65), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    65 cores are asked for, but this machine has 64 cores
      hint: set cores to at most 64, or count hardware threads (smt), of which there are 128
    ");
    let request = LayoutRequest { cores: Some(64), control_cores: Some(2), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    64 cores are asked for, but this machine has 64 cores, of which 2 stay free for the control plane
      hint: set cores to at most 62, or count hardware threads (smt), of which there are 128
    ");
    let request = LayoutRequest { control_cores: Some(2), ..defaults() };
    assert_snapshot!(plan(&cores(2), &request), @r"
    2 cores for the control plane leave none of the 2 of this machine for executors
      hint: set control_cores to at most 1
    ");
    let request = LayoutRequest { executors: Some(5), ..defaults() };
    assert_snapshot!(plan(&cores(4), &request), @r"
    5 executors are asked for, but there are only 3 cores for them
      hint: set executors to at most 3, or cores to more
    ");
    let request = LayoutRequest { memory: Some(100 << 30), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    2 executor(s) of 100GiB are asked for, but this machine has 128GiB
      hint: memory is per executor; up to about 48GiB each leaves the system enough
    ");
    let request = LayoutRequest { cores: Some(0), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    cores is 0
      hint: set cores to at least 1, or leave it unset
    ");
    let request = LayoutRequest { cpus: Some(vec![200, 201]), ..defaults() };
    assert_snapshot!(plan(&two_sockets(), &request), @r"
    none of the CPUs 200-201 is a CPU this process may use
      detail: this process may use CPUs 0-127
      hint: name CPUs out of that list
    ");
    let mut unknown = cores(4);
    unknown.numa_nodes[0].memory_bytes = 0;
    assert_snapshot!(plan(&unknown, &defaults()), @r"
    the memory of machine 'synthetic' is unknown
      hint: set memory
    ");
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
