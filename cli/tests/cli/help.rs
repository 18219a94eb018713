//! Help, versions, exit codes of usage, completions.

use crate::support::run;

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
    let expected =
        format!("firesteel {} (wire version {})\n", env!("CARGO_PKG_VERSION"), firesteel_base::version::WIRE);
    assert_eq!(run(&["--version"]).printed(), expected);
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
