use std::io;
use std::path::Path;

use super::*;
use crate::cgroup::CgroupVersion;
use crate::topology::{Device, DeviceKind, HugePages, Limits};

fn state(finding: &Finding) -> State {
    finding.state
}

#[test]
fn this_machine_is_examined_in_every_area_with_advice_for_what_is_not_well() {
    let findings = examine(&Topology::discover().unwrap());
    for area in ["system", "memory", "io_uring", "limits", "network"] {
        assert!(findings.iter().any(|finding| finding.area == area), "{area}");
    }
    for finding in &findings {
        assert!(!finding.found.is_empty(), "{finding:?}");
        assert_eq!(finding.advice.is_none(), finding.state == State::Ok, "{finding:?}");
    }
    let ring = findings.iter().find(|finding| finding.name == "rings").unwrap();
    assert_eq!(ring.state == State::Ok, crate::ring::usable().is_ok());
    assert!(serde_json::to_string(&findings).unwrap().contains("\"state\":\"ok\""));
}

#[test]
fn a_scratch_folder_is_tried_and_left_as_it_was() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let findings = examine_scratch(folder.path());
    assert_eq!(findings[0].name, format!("O_DIRECT in {}", folder.path().display()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let missing = folder.path().join("missing");
    assert!(examine_scratch(&missing).iter().all(|finding| finding.state == State::Missing));
    let refused = disk::judge_direct(Path::new("/x"), &Err(io::Error::from_raw_os_error(libc::EINVAL)));
    assert!(refused.advice.unwrap().contains("ext4"));
}

#[test]
fn kernels_are_judged_by_number() {
    for (release, expected) in [
        ("6.1.0-18-amd64", State::Ok),
        ("6.18.44-x", State::Ok),
        ("10.0", State::Ok),
        ("5.15.0-91-generic", State::Warn),
        ("", State::Warn),
        ("six", State::Warn),
    ] {
        assert_eq!(state(&processor::judge_kernel(release)), expected, "{release}");
    }
}

#[test]
fn features_are_whole_words_of_cpuinfo() {
    let found = processor::judge_features("processor\t: 0\nflags\t\t: fpu avx2 bmi2 avx512f\n");
    assert_eq!((found.state, found.found.as_str()), (State::Ok, "avx2, bmi2, avx512f; not avx512vl"));
    assert_eq!(state(&processor::judge_features("flags\t\t: fpu avx2x")), State::Warn);
    assert_eq!(state(&processor::judge_features("Features\t: fp asimd aes")), State::Ok);
}

#[test]
fn clocks_that_need_a_system_call_are_told() {
    assert_eq!(state(&processor::judge_clock(Some("tsc"))), State::Ok);
    assert_eq!(state(&processor::judge_clock(Some("hpet"))), State::Warn);
    assert_eq!(state(&processor::judge_clock(None)), State::Warn);
}

#[test]
fn huge_pages_of_all_nodes_are_added_up() {
    let mut host = Topology::from_synthetic("pack:2 [numa(memory=68719476736)] core:8 pu:1").unwrap();
    assert_eq!(state(&memory::judge_huge_pages(&host)), State::Missing);
    let pages = |reserved| HugePages { page_bytes: 2 << 20, reserved };
    host.numa_nodes[0].huge_pages = vec![pages(0)];
    host.numa_nodes[1].huge_pages = vec![pages(0)];
    assert_eq!(state(&memory::judge_huge_pages(&host)), State::Warn);
    host.numa_nodes[0].huge_pages = vec![pages(100)];
    host.numa_nodes[1].huge_pages = vec![pages(28)];
    let found = memory::judge_huge_pages(&host);
    assert_eq!((found.state, found.found.as_str()), (State::Ok, "128 of 2MiB reserved"));
}

#[test]
fn transparent_huge_pages_by_the_selected_mode() {
    for (text, expected) in [
        (Some("always [madvise] never"), State::Ok),
        (Some("[always] madvise never"), State::Ok),
        (Some("always madvise [never]"), State::Warn),
        (None, State::Missing),
    ] {
        assert_eq!(state(&memory::judge_transparent_huge_pages(text)), expected, "{text:?}");
    }
}

#[test]
fn huge_pages_in_shared_memory_by_the_selected_mode() {
    for (text, expected) in [
        (Some("always within_size [advise] never deny force"), State::Ok),
        (Some("[always] within_size advise never deny force"), State::Ok),
        (Some("always within_size advise [never] deny force"), State::Warn),
        (Some("always within_size advise never [deny] force"), State::Warn),
        (None, State::Missing),
    ] {
        assert_eq!(state(&memory::judge_shared_huge_pages(text)), expected, "{text:?}");
    }
}

#[test]
fn locked_memory_by_limit_or_capability() {
    let with = "Name:\tx\nCapEff:\t0000000000004000\n";
    let without = "Name:\tx\nCapEff:\t0000000000000000\n";
    assert_eq!(state(&memory::judge_memlock(Some(8 << 20), with)), State::Ok);
    assert_eq!(state(&memory::judge_memlock(Some(8 << 20), without)), State::Warn);
    assert_eq!(state(&memory::judge_memlock(Some(8 << 30), without)), State::Ok);
    assert_eq!(state(&memory::judge_memlock(None, without)), State::Ok);
}

#[test]
fn balancing_matters_with_several_nodes() {
    assert_eq!(state(&memory::judge_balancing(2, Some("1"))), State::Warn);
    assert_eq!(state(&memory::judge_balancing(2, Some("0"))), State::Ok);
    assert_eq!(state(&memory::judge_balancing(1, Some("1"))), State::Ok);
}

#[test]
fn a_node_without_memory_is_told() {
    let mut host = Topology::from_synthetic("pack:2 [numa(memory=68719476736)] core:8 pu:1").unwrap();
    assert_eq!(state(&memory::judge_nodes(&host)), State::Ok);
    host.numa_nodes[1].memory_bytes = 0;
    let found = memory::judge_nodes(&host);
    assert_eq!((found.state, found.found.as_str()), (State::Warn, "no memory on node 1"));
}

#[test]
fn refused_rings_are_told_with_the_setting_that_refuses() {
    let refused = || Err(crate::ring::RingError::Refused(io::Error::from_raw_os_error(libc::EPERM)));
    let advice = |disabled| rings::judge_ring(refused(), disabled).advice.unwrap();
    assert!(advice(Some("2")).contains("io_uring_disabled=0"));
    assert!(advice(Some("0")).contains("seccomp"));
    assert!(advice(None).contains("CONFIG_IO_URING"));
    for feature in crate::ring::Feature::ALL {
        let found = rings::judge_feature(feature, refused());
        assert_eq!((found.state, found.advice.is_some()), (State::Missing, true));
    }
}

#[test]
fn limits_of_the_control_group() {
    assert_eq!(state(&limits::judge_cgroup(CgroupVersion::V2)), State::Ok);
    assert_eq!(state(&limits::judge_cgroup(CgroupVersion::V1)), State::Warn);
    assert_eq!(state(&limits::judge_cgroup(CgroupVersion::None)), State::Missing);
    let quota = |cpu_milli| Limits { memory_bytes: Some(1 << 30), cpu_milli };
    assert!(limits::judge_memory(quota(None), 4 << 30).found.contains("1GiB of 4GiB"));
    assert!(limits::judge_cpu(quota(Some(2500)), 4).found.contains("2.50 CPUs of 4"));
    assert_eq!(state(&limits::judge_cpu(quota(Some(4000)), 4)), State::Ok);
    assert_eq!(state(&limits::judge_open_files(Some(1024))), State::Warn);
    assert_eq!(state(&limits::judge_open_files(None)), State::Ok);
}

#[test]
fn rdma_devices_with_their_link() {
    let device = |up| Device {
        kind: DeviceKind::Rdma,
        name: "mlx5_0".into(),
        numa_node: None,
        speed_mbit: None,
        size_bytes: None,
        link_up: Some(up),
    };
    assert_eq!(state(&limits::judge_rdma(&[])), State::Missing);
    assert_eq!(state(&limits::judge_rdma(&[device(true)])), State::Ok);
    let down = limits::judge_rdma(&[device(false)]);
    assert_eq!((down.state, down.found.as_str()), (State::Warn, "link down: mlx5_0"));
}
