//! Help, versions, exit codes of usage, completions.

use std::process::Command;

use crate::support::{names_in, run};

const COMMANDS: [&str; 15] = [
    "sql",
    "submit",
    "jobs",
    "nodes",
    "local-cluster",
    "manager",
    "managers",
    "worker",
    "topology",
    "doctor",
    "probe",
    "config",
    "bench",
    "certs",
    "completions",
];

#[test]
fn the_release_and_the_wire_version_are_told() {
    let (build, commit) = (env!("FIRESTEEL_BUILD"), env!("FIRESTEEL_COMMIT"));
    let wire = firesteel_base::version::WIRE;
    let expected = format!("firesteel {build} (commit {commit}, wire version {wire}, for x86-64)\n");
    assert_eq!(run(&["--version"]).printed(), expected);
}

#[test]
fn the_commit_is_the_one_that_is_checked_out() {
    let named = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let git = || {
        let folder = env!("CARGO_MANIFEST_DIR");
        let asked = Command::new("git").args(["-C", folder, "rev-parse", "--short=12", "HEAD"]).output();
        let told = asked.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(told.stdout).unwrap().trim().to_owned())
    };
    let commit = named("FIRESTEEL_COMMIT").or_else(git);
    let release = env!("CARGO_PKG_VERSION");
    let build = commit.as_ref().map_or(release.to_owned(), |commit| format!("{release}+g{commit}"));
    assert_eq!(env!("FIRESTEEL_BUILD"), named("FIRESTEEL_BUILD").unwrap_or(build));
    assert_eq!(env!("FIRESTEEL_COMMIT"), commit.as_deref().unwrap_or("unknown"));
}

#[test]
fn there_is_a_manual_page_for_each_command_and_none_for_hidden_ones() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man");
    run(&["man", "--out", out.to_str().unwrap()]).printed();
    let names = names_in(&out);
    for command in COMMANDS {
        assert!(names.contains(&format!("firesteel-{command}.1")), "{command}: {names:?}");
    }
    assert!(names.contains(&"firesteel.1".to_owned()) && names.contains(&"firesteel-bench-gen.1".to_owned()));
    for hidden in ["executor", "driver", "man"] {
        assert!(!names.contains(&format!("firesteel-{hidden}.1")), "{hidden}");
    }
    let page = std::fs::read_to_string(out.join("firesteel-worker.1")).unwrap();
    for part in [".TH firesteel-worker 1", "SIGTERM stops it", "scratch", env!("FIRESTEEL_BUILD")] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    run(&["man", "--out", file.to_str().unwrap()]).told(1, &[file.to_str().unwrap(), "--out"]);
}

#[test]
fn every_command_is_listed_and_has_a_help() {
    let help = run(&["--help"]).printed();
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in\n{help}");
        let own = run(&[command, "--help"]).printed();
        assert!(own.contains(&format!("Usage: firesteel {command}")), "{own}");
        assert!(own.contains("--config <FILE>"), "{own}");
    }
    assert!(run(&["bench", "gen", "tpch", "--help"]).printed().contains("Examples:"));
}

#[test]
fn the_roles_that_a_worker_starts_are_hidden() {
    let help = run(&["--help"]).printed();
    assert!(!help.contains("\n  executor") && !help.contains("\n  driver"), "{help}");
    run(&["driver", "--help"]).printed();
}

#[test]
fn the_exit_codes_in_the_help_are_those_of_the_page() {
    let page = include_str!("../../../docs/exit-codes.md");
    let rows: Vec<_> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            Some((cells.next()?.parse::<u8>().ok()?, cells.next()?))
        })
        .collect();
    assert_eq!(rows.len(), 7, "{page}");
    let help = run(&["--help"]).printed();
    for (code, meaning) in rows {
        assert!(help.contains(&format!("  {code:<4} {meaning}")), "{code} is not in\n{help}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    for (arguments, says) in [
        (&["sql", "--no-such-flag"][..], "--no-such-flag"),
        (&["slq"][..], "slq"),
        (&["jobs", "show"][..], "<JOB>"),
        (&["jobs", "show", "nonsense"][..], "not a job id such as job7 or 7"),
        (&["sql", "--format", "xml", "-c", "select 1"][..], "csv"),
        (&["sql", "--manager", "head:1", "--cores", "2", "-c", "select 1"][..], "--manager"),
        (&["local-cluster", "--workers", "0"][..], "1..=256"),
        (&["bench", "gen", "tpch"][..], "--out"),
        (&["bench", "gen", "tpch", "--out", "x", "--compression", "rar"][..], "snappy"),
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}\n{}", ended.stderr);
        assert!(ended.stderr.contains(says), "{arguments:?}\n{}", ended.stderr);
    }
}

#[test]
fn without_a_command_the_help_is_shown() {
    let ended = run(&[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("Usage: firesteel"), "{}", ended.stderr);
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).printed();
        assert!(script.contains("local-cluster"), "{shell}");
    }
}
