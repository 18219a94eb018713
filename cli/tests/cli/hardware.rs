//! `firesteel topology` and `firesteel doctor`.

use crate::support::run;

const HOST: &str = "pack:2 [numa(memory=68719476736)] l3:4 core:8 pu:2";

#[test]
fn a_described_machine_is_drawn() {
    let tree = run(&["topology", "--synthetic", HOST]).printed();
    assert!(tree.contains("64 cores") && tree.contains("128GiB"), "{tree}");
    assert!(tree.lines().count() > 8, "{tree}");
    let json = run(&["topology", "--synthetic", HOST, "--json"]).printed();
    let topology: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(topology["cores"].as_array().unwrap().len(), 64);
    assert_eq!(topology["numa_nodes"].as_array().unwrap().len(), 2);
}

#[test]
fn this_machine_is_drawn() {
    assert!(run(&["topology"]).printed().contains("core"));
}

#[test]
fn a_description_that_is_none_is_refused() {
    run(&["topology", "--synthetic", "nonsense:x"]).told(2, &["nonsense:x"]);
    run(&["topology", "--xml", "/no/such/host.xml"]).told(2, &["/no/such/host.xml"]);
}

#[test]
fn the_doctor_names_what_it_looked_at_and_what_to_change() {
    let json = run(&["doctor", "--json"]).printed();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["can_run"], true);
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() > 5, "{json}");
    for finding in findings {
        let advised = finding["advice"].is_string();
        assert_eq!(advised, finding["state"] != "ok", "{finding}");
    }
    assert!(run(&["doctor"]).printed().contains("Firesteel can run here"));
}
