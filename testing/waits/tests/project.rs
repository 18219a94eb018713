//! Every wait of the product has a deadline where it is, or a row in `docs/waits.md`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use firesteel_waits::{CALLS, Table, find, read_sources};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

#[test]
fn every_wait_has_a_deadline_or_an_owner() {
    let sources = read_sources(root()).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(sources.len() > 200, "only {} sources were found", sources.len());
    let waits = find(&sources);
    assert!(waits.len() > 100, "only {} waits were found: the lint has gone blind", waits.len());
    let told = Table::read(&fs::read_to_string(root().join("docs/waits.md")).unwrap()).check(&waits);
    assert!(told.is_empty(), "{told}");
}

/// `CancelJob` as its client's method is named.
fn method(call: &str) -> String {
    let parts = call.char_indices().map(|(at, c)| match c.is_uppercase() && at > 0 {
        true => format!("_{}", c.to_lowercase()),
        false => c.to_lowercase().to_string(),
    });
    parts.collect()
}

#[test]
fn the_calls_of_the_wire_are_known() {
    let mut calls = Vec::new();
    for file in fs::read_dir(root().join("protocol/proto")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let named = text.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        calls.extend(named.map(method));
    }
    calls.sort_unstable();
    assert_eq!(calls, CALLS, "testing/waits/src/names.rs: CALLS must be the calls of protocol/proto");
}
