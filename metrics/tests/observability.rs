//! Rules, dashboard and page are of the metrics that there are.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use firesteel_metrics::Kind;
use firesteel_metrics::table::METRICS;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The names in a text that are of metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("firesteel_") || word.starts_with("process_"))
        .collect()
}

/// The names under which the metrics of the table are asked for.
fn known() -> BTreeSet<String> {
    let names = METRICS.iter().flat_map(|metric| match metric.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", metric.name)).to_vec(),
        Kind::Gauge | Kind::Counter => vec![metric.name.to_owned()],
    });
    names.collect()
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    for file in ["packaging/observability/rules.yml", "packaging/observability/dashboard.json"] {
        let text = read(file);
        let named = named(&text);
        assert!(named.len() > 10, "{file}: {named:?}");
        let unknown: Vec<_> = named.into_iter().filter(|name| !known().contains(*name)).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let dashboard = read("packaging/observability/dashboard.json");
    let shown = named(&dashboard);
    let is_shown = |name: &str| shown.contains(name) || shown.contains(format!("{name}_bucket").as_str());
    let missing: Vec<_> = METRICS.iter().map(|metric| metric.name).filter(|name| !is_shown(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_alert_is_explained() {
    let (rules, page) = (read("packaging/observability/rules.yml"), read("docs/metrics.md"));
    let alerts: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let (_, page) = page.split_once("## Alerts").unwrap();
    let explained: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert!(alerts.len() > 10);
    assert_eq!(alerts, explained);
}
