//! A folder stands for the hierarchy: what is written where. What a kernel makes of it shows `testing/lab/guest/cgroups.sh`.

use tempfile::TempDir;

use super::*;

/// A hierarchy with one group `unit`, which has these controllers.
fn hierarchy(controllers: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
    let unit = root.path().join("unit");
    fs::create_dir(&unit).unwrap();
    for (file, text) in [
        ("cgroup.controllers", controllers),
        ("cgroup.type", "domain\n"),
        ("cgroup.procs", ""),
        ("cgroup.subtree_control", ""),
    ] {
        fs::write(unit.join(file), text).unwrap();
    }
    root
}

fn read(root: &TempDir, file: &str) -> String {
    fs::read_to_string(root.path().join(file)).unwrap()
}

#[test]
fn a_unit_gets_a_daemon_and_groups_beside_it() {
    let root = hierarchy("cpuset cpu memory pids\n");
    // Left behind by one before, and not ours.
    fs::create_dir(root.path().join("unit/executor-7")).unwrap();
    fs::create_dir(root.path().join("unit/others")).unwrap();
    let groups = Groups::claim(&Place::new(root.path(), "/unit"), "host1").unwrap();
    assert_eq!(groups.folder(), root.path().join("unit"));
    assert_eq!(read(&root, "unit/daemon/cgroup.procs"), std::process::id().to_string());
    assert!(!root.path().join("unit/executor-7").exists() && root.path().join("unit/others").exists());
    let limits = GroupLimits { cpus: vec![3, 1, 2, 1], node: Some(1), memory_bytes: 1 << 30 };
    let group = groups.make("executor-0", &limits).unwrap();
    let file = |name: &str| read(&root, &format!("unit/executor-0/{name}"));
    assert_eq!((file("cpuset.cpus"), file("cpuset.mems")), ("1-3".to_owned(), "1".to_owned()));
    assert_eq!((file("memory.max"), file("memory.oom.group")), ("1073741824".to_owned(), "1".to_owned()));
    let mut command = Command::new("true");
    group.join_on_start(&mut command).unwrap();
    assert!(command.status().unwrap().success());
    assert_eq!(file("cgroup.procs"), "0");
}

#[test]
fn what_is_not_asked_for_is_not_set() {
    let root = hierarchy("cpuset memory\n");
    let groups = Groups::claim(&Place::new(root.path(), "unit"), "host1").unwrap();
    groups.make("driver-job7", &GroupLimits { memory_bytes: 1, ..GroupLimits::default() }).unwrap();
    let mut names: Vec<_> = fs::read_dir(root.path().join("unit/driver-job7"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["memory.max", "memory.oom.group"]);
}

#[test]
fn at_the_root_the_groups_have_one_around_them() {
    let root = hierarchy("");
    for file in ["cgroup.procs", "cgroup.subtree_control"] {
        fs::write(root.path().join(file), "1\n2\n").unwrap();
    }
    let groups = Groups::claim(&Place::new(root.path(), "/"), "host1").unwrap();
    assert_eq!(groups.folder(), root.path().join("firesteel-host1"));
    // One that is there already.
    let place = Place::new(root.path(), "/firesteel-host1/daemon");
    fs::write(root.path().join("firesteel-host1/cgroup.controllers"), "memory cpuset\n").unwrap();
    fs::write(root.path().join("firesteel-host1/cgroup.type"), "domain\n").unwrap();
    fs::write(root.path().join("firesteel-host1/cgroup.procs"), "").unwrap();
    assert_eq!(examine(&place, "host1").unwrap(), root.path().join("firesteel-host1"));
}

#[test]
fn what_is_missing_is_named() {
    let none = tempfile::tempdir().unwrap();
    let told = |place: &Place| examine(place, "host1").unwrap_err().to_string();
    assert!(told(&Place::new(none.path(), "/")).contains("version 2 are not mounted"));
    let root = hierarchy("memory pids\n");
    assert!(told(&Place::new(root.path(), "/elsewhere")).contains("elsewhere, is not there"));
    let place = Place::new(root.path(), "/unit");
    assert!(told(&place).contains("has no controller cpuset"), "{}", told(&place));
    fs::write(root.path().join("unit/cgroup.controllers"), "memory cpuset").unwrap();
    fs::write(root.path().join("unit/cgroup.procs"), format!("{}\n1\n", std::process::id())).unwrap();
    assert!(
        told(&place).contains("other processes are in the control group") && told(&place).contains("pid 1")
    );
    fs::write(root.path().join("unit/cgroup.procs"), "").unwrap();
    fs::create_dir(root.path().join("unit/daemon")).unwrap();
    fs::write(root.path().join("unit/daemon/cgroup.procs"), "1\n").unwrap();
    assert!(told(&place).contains("daemon (pid 1)"), "{}", told(&place));
    let before = root.path().join("unit/cgroup.subtree_control");
    assert!(Groups::claim(&place, "host1").is_err() && fs::read_to_string(before).unwrap().is_empty());
}

#[test]
fn another_binding_than_the_one_set_is_an_error() {
    let root = hierarchy("cpuset memory\n");
    let groups = Groups::claim(&Place::new(root.path(), "/unit"), "host1").unwrap();
    let executor = root.path().join("unit/executor-0");
    fs::create_dir(&executor).unwrap();
    fs::write(executor.join("cpuset.cpus.effective"), "0-1\n").unwrap();
    let limits = GroupLimits { cpus: vec![0, 1, 2], ..GroupLimits::default() };
    let fault = groups.make("executor-0", &limits).unwrap_err().to_string();
    assert!(fault.ends_with("was set to 0-2, but '0-1' is in force"), "{fault}");
}

#[test]
fn events_are_read() {
    let text = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 1\n";
    assert_eq!(parse_events(text), MemoryEvents { oom: 2, oom_kill: 1 });
    assert_eq!(parse_events("oom_kill x\n"), MemoryEvents::default());
}
