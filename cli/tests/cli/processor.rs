//! The second program of a package, for newer processors: a script stands for it here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Ended, FIRESTEEL, run};

/// What it is asked to draw.
const HOST: &str = "core:3 pu:1";
const VARIABLE: &str = "FIRESTEEL_PROCESSOR";

/// A package's two programs: the one under test, and a script for the version `of`, which says how it was called and ends with 7.
fn package(of: &str, mode: u32) -> tempfile::TempDir {
    // Beside the program, so that a link will do.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let every = folder.path().join("usr/bin/firesteel");
    let faster = folder.path().join(format!("usr/lib/firesteel/{of}/x86-64-v3/firesteel"));
    for program in [&every, &faster] {
        fs::create_dir_all(program.parent().unwrap()).unwrap();
    }
    if fs::hard_link(FIRESTEEL, &every).is_err() {
        fs::copy(FIRESTEEL, &every).unwrap();
    }
    fs::write(&faster, "#!/bin/sh\necho \"faster: $*\"\nexit 7\n").unwrap();
    fs::set_permissions(&faster, fs::Permissions::from_mode(mode)).unwrap();
    folder
}

fn ask(package: &Path, level: Option<&str>) -> Ended {
    let mut command = Command::new(package.join("usr/bin/firesteel"));
    match level {
        Some(level) => command.env(VARIABLE, level),
        None => command.env_remove(VARIABLE),
    };
    command.args(["topology", "--synthetic", HOST]).output().unwrap().into()
}

fn version() -> String {
    run(&["--version"]).printed().split_whitespace().nth(1).unwrap().to_owned()
}

/// Told by the kernel, not by what is tested.
fn processor_is_new() -> bool {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = told.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    ["avx2", "bmi1", "bmi2", "fma", "movbe"]
        .iter()
        .all(|flag| flags.split_whitespace().any(|word| word == *flag))
}

#[track_caller]
fn assert_itself(ended: Ended) {
    assert!(ended.printed().contains("3 cores"));
}

#[test]
fn it_makes_way_for_the_one_of_this_processor() {
    let package = package(&version(), 0o755);
    let ended = ask(package.path(), None);
    if processor_is_new() {
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(7), "faster: topology --synthetic core:3 pu:1\n")
        );
    } else {
        assert_itself(ended);
    }
}

#[test]
fn it_runs_itself_when_told_so() {
    let package = package(&version(), 0o755);
    assert_itself(ask(package.path(), Some("x86-64")));
    ask(package.path(), Some("x86-64-v9")).told(2, &[VARIABLE, "x86-64-v9", "hint: "]);
}

#[test]
fn it_runs_itself_where_the_other_one_cannot_or_is_of_another_version() {
    assert_itself(ask(package(&version(), 0o644).path(), None));
    assert_itself(ask(package("0.0.1", 0o755).path(), None));
}

#[test]
fn a_version_and_the_doctor_say_what_it_is_compiled_for() {
    let level = if cfg!(target_arch = "x86_64") { "x86-64" } else { std::env::consts::ARCH };
    assert!(run(&["--version"]).printed().contains(&format!(", for {level}")));
    assert!(run(&["doctor"]).printed().contains(&format!(" for {level}")));
}
