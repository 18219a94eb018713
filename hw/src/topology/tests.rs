use std::fs;

use firesteel_base::UserError;
use insta::assert_snapshot;

use super::*;

const TWO_SOCKETS: &str = "pack:2 [numa(memory=68719476736)] l3:4 core:8 pu:2";
const SAMPLE_XML: &str = "tests/data/two_sockets.xml";

fn sample() -> Topology {
    Topology::from_xml(Path::new(SAMPLE_XML)).unwrap()
}

#[test]
fn a_synthetic_two_socket_host() {
    let host = Topology::from_synthetic(TWO_SOCKETS).unwrap();
    assert_eq!((host.packages.len(), host.numa_nodes.len(), host.l3_groups.len()), (2, 2, 8));
    assert_eq!((host.cores.len(), host.cpus().len(), host.memory_bytes()), (64, 128, 128 << 30));
    assert_eq!(host.cores[33].cpus, [66, 67]);
    assert_eq!((host.cores[33].package, host.cores[33].numa_node, host.cores[33].l3), (Some(1), 1, Some(4)));
    assert_snapshot!(host.to_string());
}

#[test]
fn synthetic_hosts_of_other_shapes() {
    for (name, description) in [
        ("one_core", "numa:1(memory=4294967296) core:1 pu:1"),
        ("four_nodes_in_one_package", "pack:1 numa:4(memory=17179869184) l3:1 core:4 pu:1"),
        ("cores_without_l3", "pack:1 [numa(memory=8589934592)] core:4 pu:2"),
    ] {
        assert_snapshot!(name, Topology::from_synthetic(description).unwrap().to_string());
    }
}

#[test]
fn an_xml_file_with_devices() {
    let host = sample();
    assert_eq!(host.machine, "sample-host");
    assert_snapshot!(host.to_string());
}

#[test]
fn this_machine_is_what_the_kernel_says() {
    let host = Topology::discover().unwrap();
    assert_eq!(host.origin, Origin::Machine);
    assert_eq!(host.cpus(), crate::pin::allowed_cpus());
    assert!(host.memory_bytes() > 0);
    for device in &host.devices {
        assert!(!device.name.starts_with("lo"), "virtual: {device:?}");
    }
    let text = host.to_string();
    assert!(text.starts_with(&host.machine) && text.contains("NUMA node"), "{text}");
}

#[test]
fn only_cpus_of_the_affinity_mask_are_seen() {
    // The masks of all threads of a process count, so it takes a process with one thread to see less: hwloc's own
    // restriction is shown on the data.
    let host = Topology::from_synthetic(TWO_SOCKETS).unwrap();
    let part = host.restricted_to(&[65, 66, 67, 70]).unwrap();
    assert_eq!(part.cpus(), [65, 66, 67, 70]);
    assert_eq!((part.node_numbers(), part.l3_groups.len()), (vec![1], 1));
    let fault = host.restricted_to(&[500]).unwrap_err();
    assert!(UserError::from(fault).detail.unwrap().contains("0-127"));
}

#[test]
fn json_gives_back_what_was_written() {
    for host in [Topology::discover().unwrap(), Topology::from_synthetic(TWO_SOCKETS).unwrap(), sample()] {
        assert_eq!(Topology::from_json(&host.to_json()), Ok(host));
    }
    assert!(Topology::from_json("{}").unwrap_err().to_string().contains("machine"));
}

#[test]
fn every_fault_names_its_thing_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.xml");
    let no_xml = folder.path().join("no.xml");
    fs::write(&no_xml, "<not><hwloc>").unwrap();
    let binary = folder.path().join("binary.xml");
    fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    let nul = folder.path().join("nul.xml");
    fs::write(&nul, "<topology>\0</topology>").unwrap();

    for path in [&missing, &no_xml, &binary, &nul] {
        let fault = UserError::from(Topology::from_xml(path).unwrap_err());
        assert!(fault.message.contains(&path.display().to_string()), "{fault}");
        assert!(fault.hint.is_some(), "{fault}");
    }
    for description in ["", "two sockets", "pack:2 core:", "pack:0 pu:1", "a\0b"] {
        let fault = UserError::from(Topology::from_synthetic(description).unwrap_err());
        assert!(fault.message.contains(description), "{fault}");
        assert!(fault.hint.unwrap().contains("pack:2"));
    }
}
