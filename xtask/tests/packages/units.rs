//! The units of systemd: known settings, programs and folders that are there, and what must hold of each.
//!
//! `systemd-analyze verify` says more, where there is systemd; docs/packages.md has how.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::made::root;

/// The settings of a unit, each with its values in their order, by section.
type Unit = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// All settings that the units have: a slip of the pen is none of them, and systemd would pass over it.
const KNOWN: [&str; 58] = [
    "After",
    "Description",
    "Documentation",
    "StartLimitBurst",
    "StartLimitIntervalSec",
    "Wants",
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "Delegate",
    "ExecStart",
    "Group",
    "KillMode",
    "LimitMEMLOCK",
    "LimitNOFILE",
    "LockPersonality",
    "LogsDirectory",
    "LogsDirectoryMode",
    "MemoryDenyWriteExecute",
    "MemoryMax",
    "NUMAMask",
    "NUMAPolicy",
    "NoNewPrivileges",
    "NotifyAccess",
    "OOMPolicy",
    "PrivateDevices",
    "PrivateTmp",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadWritePaths",
    "RemoveIPC",
    "Restart",
    "RestartPreventExitStatus",
    "RestartSec",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "StateDirectory",
    "StateDirectoryMode",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "TasksMax",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "UMask",
    "User",
    "WantedBy",
];

fn read(name: &str) -> Unit {
    let text = fs::read_to_string(root().join("packaging").join(name)).unwrap();
    let (mut unit, mut section) = (Unit::new(), String::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix('[') {
            section = head.strip_suffix(']').unwrap().to_owned();
            assert!(["Unit", "Service", "Install"].contains(&section.as_str()), "{name}: {line}");
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
        assert!(KNOWN.contains(&key), "{name}: {key} is no known setting");
        let values = unit.entry(section.clone()).or_default().entry(key.to_owned()).or_default();
        values.push(value.to_owned());
    }
    unit
}

const MANAGER: &str = "systemd/firesteel-manager.service";
const WORKER: &str = "systemd/firesteel-worker.service";
const INSTANCE: &str = "systemd/firesteel-worker@.service";

fn value(unit: &Unit, key: &str) -> String {
    unit["Service"].get(key).map(|values| values.join(" ")).unwrap_or_default()
}

#[test]
fn each_runs_the_program_that_is_packed_and_says_when_it_is_ready() {
    let runs = [
        (MANAGER, "/usr/bin/firesteel manager"),
        (WORKER, "/usr/bin/firesteel worker"),
        (INSTANCE, "/usr/bin/firesteel worker --config /etc/firesteel/worker-%i.toml"),
    ];
    for (name, runs) in runs {
        let unit = read(name);
        assert_eq!(value(&unit, "ExecStart"), runs, "{name}");
        assert_eq!(value(&unit, "Type"), "notify", "{name}");
        assert_eq!(unit["Install"]["WantedBy"], ["multi-user.target"], "{name}");
        assert_eq!(
            value(&unit, "RestartPreventExitStatus"),
            "2",
            "{name}: the code of a wrong configuration"
        );
    }
}

#[test]
fn starts_that_wait_for_a_manager_are_never_too_many() {
    for name in [MANAGER, WORKER, INSTANCE] {
        let unit = read(name);
        let number = |section: &str, key: &str| unit[section][key][0].parse::<u64>().unwrap();
        let one = number("Service", "TimeoutStartSec") + number("Service", "RestartSec");
        let fit = number("Unit", "StartLimitIntervalSec").div_ceil(one);
        assert!(
            fit < number("Unit", "StartLimitBurst"),
            "{name}: {fit} starts that time out fit in the interval"
        );
    }
}

#[test]
fn a_worker_drains_and_takes_its_executors_along() {
    for name in [WORKER, INSTANCE] {
        let unit = read(name);
        assert_eq!(
            value(&unit, "KillMode"),
            "mixed",
            "{name}: SIGTERM to the worker alone, then SIGKILL to the rest"
        );
        assert_eq!(value(&unit, "Delegate"), "yes", "{name}");
        assert_eq!(value(&unit, "OOMPolicy"), "continue", "{name}");
        assert_eq!(value(&unit, "LimitMEMLOCK"), "infinity", "{name}");
        // It makes control groups below its own.
        assert_eq!(value(&unit, "ProtectControlGroups"), "", "{name}");
        for call in ["io_uring_setup", "mbind", "set_mempolicy", "move_pages", "memfd_create"] {
            assert!(value(&unit, "SystemCallFilter").contains(call), "{name}: {call}");
        }
    }
}

#[test]
fn an_instance_is_a_worker_with_its_own_file_and_folder() {
    let (worker, instance) = (read(WORKER), read(INSTANCE));
    let keys: BTreeSet<_> = worker["Service"].keys().chain(instance["Service"].keys()).collect();
    let other: Vec<_> = keys.into_iter().filter(|key| value(&worker, key) != value(&instance, key)).collect();
    assert_eq!(other, ["ExecStart", "StateDirectory"]);
    assert_eq!(value(&instance, "StateDirectory"), "firesteel/scratch-%i");
}

#[test]
fn only_what_a_unit_needs_is_left_to_it() {
    let manager = read(MANAGER);
    assert_eq!(value(&manager, "User"), "firesteel");
    assert_eq!(value(&manager, "CapabilityBoundingSet"), "");
    for name in [MANAGER, WORKER, INSTANCE] {
        let unit = read(name);
        assert_eq!(value(&unit, "ProtectSystem"), "strict", "{name}");
        for key in ["NoNewPrivileges", "PrivateDevices", "ProtectKernelTunables", "RestrictNamespaces"] {
            assert_eq!(value(&unit, key), "yes", "{name}: {key}");
        }
    }
}

#[test]
fn the_example_for_a_numa_node_is_a_drop_in() {
    let drop_in = read("examples/numa-node.conf");
    assert_eq!(drop_in.keys().collect::<Vec<_>>(), ["Service"]);
    for key in ["AllowedCPUs", "NUMAPolicy", "NUMAMask", "MemoryMax"] {
        assert!(drop_in["Service"].contains_key(key), "{key}");
    }
}

#[test]
fn the_user_of_the_units_is_made() {
    let text = fs::read_to_string(root().join("packaging/sysusers/firesteel.conf")).unwrap();
    let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
    assert!(line.starts_with("u firesteel - "), "{line}");
}
