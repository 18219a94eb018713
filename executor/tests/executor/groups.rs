//! Control groups of a worker's children. A folder stands for the kernel's; what the kernel makes of it shows
//! `testing/lab/guest/cgroups.sh`.

use std::fs;
use std::path::{Path, PathBuf};

use firesteel_executor::worker::{CgroupMode, CgroupSettings, WorkerConfig};
use firesteel_hw::cgroup::Place;
use firesteel_protocol::v1;
use v1::manager_to_worker::Message as ToWorker;

use crate::manager::{FakeManager, config, run, script};

/// A hierarchy with a group that is delegated; returns the settings that use it, and the group.
fn delegated(root: &Path) -> (CgroupSettings, PathBuf) {
    fs::write(root.join("cgroup.controllers"), "cpuset memory\n").unwrap();
    let unit = root.join("unit");
    fs::create_dir(&unit).unwrap();
    for (file, text) in [
        ("cgroup.controllers", "cpuset memory pids\n"),
        ("cgroup.type", "domain\n"),
        ("cgroup.procs", ""),
        ("cgroup.subtree_control", ""),
    ] {
        fs::write(unit.join(file), text).unwrap();
    }
    (CgroupSettings { mode: CgroupMode::On, place: Some(Place::new(root, "/unit")) }, unit)
}

/// A child that finds itself in its group, tells there that it was killed for memory, and dies.
fn killed(group: &Path) -> String {
    let group = group.display();
    format!(
        "read told; [ \"$(cat {group}/cgroup.procs)\" = 0 ] || exit 9; \
         printf 'oom 1\\noom_kill 1\\n' > {group}/memory.events; kill -9 $$"
    )
}

fn with_groups(manager: &FakeManager, scratch: &Path, groups: CgroupSettings) -> WorkerConfig {
    let mut config = config(&manager.address, scratch, script("exit 1"), script("exit 1"));
    config.cgroups = groups;
    config.restart.ends_max = 1;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_the_kernel_killed_for_memory_is_told_as_such() {
    let (scratch, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (groups, unit) = delegated(root.path());
    let mut manager = FakeManager::start().await;
    let mut config = with_groups(&manager, scratch.path(), groups);
    config.executor_command = script(&killed(&unit.join("executor-0")));
    let worker = run(config);
    let mut session = manager.session().await;
    let down = session.hear_down().await;
    assert!(down.reason.contains("SIGKILL"), "{}", down.reason);
    // 64 MiB, a quarter of that, and 512 MiB.
    assert!(down.reason.contains("killed by the kernel for memory: limit 592MiB"), "{}", down.reason);
    assert!(down.reason.ends_with("asked to keep to 64MiB"), "{}", down.reason);
    assert_eq!(fs::read_to_string(unit.join("executor-0/memory.max")).unwrap(), (592 << 20).to_string());
    assert_eq!(fs::read_to_string(unit.join("executor-0/memory.oom.group")).unwrap(), "1");
    // It is not pinned here, so the group binds it to nothing.
    assert!(!unit.join("executor-0/cpuset.cpus").exists());
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_has_a_group_of_its_own_too() {
    let (scratch, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (groups, unit) = delegated(root.path());
    let mut manager = FakeManager::start().await;
    let mut config = with_groups(&manager, scratch.path(), groups);
    config.driver_command = script(&killed(&unit.join("driver-job7")));
    let worker = run(config);
    let mut session = manager.session().await;
    session.say(ToWorker::LaunchDriver(v1::LaunchDriver {
        job: 7,
        launch: 1,
        sql: "select 1".to_owned(),
        ..v1::LaunchDriver::default()
    }));
    let ended = session.hear_driver_ended().await;
    let told = format!("{ended:?}");
    assert!(told.contains("killed by the kernel for memory: limit 1.1GiB"), "{told}");
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_must_be_and_cannot_end_the_worker_with_the_reason() {
    let (scratch, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (groups, unit) = delegated(root.path());
    fs::write(unit.join("cgroup.controllers"), "memory pids\n").unwrap();
    let mut manager = FakeManager::start().await;
    let fault = run(with_groups(&manager, scratch.path(), groups.clone())).ended().await.unwrap_err();
    assert!(fault.message.contains("worker.cgroups = 'on'"), "{fault}");
    assert!(fault.detail.as_ref().unwrap().contains("no controller cpuset"), "{fault}");
    assert!(fault.hint.as_ref().unwrap().contains("Delegate="), "{fault}");
    // Where they are only welcome it goes on without.
    let auto = CgroupSettings { mode: CgroupMode::Auto, ..groups };
    let worker = run(with_groups(&manager, scratch.path(), auto));
    assert!(manager.session().await.hear_down().await.reason.contains("exit status: 1"));
    assert!(!unit.join("daemon").exists());
    worker.stop().await.unwrap();
}
