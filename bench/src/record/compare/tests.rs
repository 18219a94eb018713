use super::super::samples::{failed, record};
use super::super::{FailureKind, Verdict};
use super::*;

const BASE: [(&str, &[f64]); 3] = [
    ("q1", &[1.0, 1.01, 1.02, 1.03, 1.04]),
    ("q2", &[2.0, 2.01, 2.02, 2.03, 2.04]),
    ("q3", &[3.0, 3.01, 3.02, 3.03, 3.04]),
];

fn compared(base: &[(&str, &[f64])], new: &[(&str, &[f64])]) -> Comparison {
    compare(&record("firesteel", base), &record("firesteel", new), CompareOptions::default()).unwrap()
}

fn changes(comparison: &Comparison) -> Vec<Change> {
    comparison.queries.iter().map(|query| query.change).collect()
}

#[test]
fn a_change_beyond_noise_has_a_direction() {
    let new: [(&str, &[f64]); 3] = [
        ("q3", &[3.005, 3.015, 3.025, 3.001, 3.035]),
        ("q2", &[2.2, 2.21, 2.22, 2.23, 2.24]),
        ("q1", &[0.5, 0.51, 0.52, 0.53, 0.54]),
    ];
    let comparison = compared(&BASE, &new);
    assert_eq!(changes(&comparison), [Change::Faster, Change::Slower, Change::Same]);
    let q2 = &comparison.queries[1];
    assert_eq!((q2.base_seconds, q2.new_seconds), (Some(2.02), Some(2.22)));
    assert!((q2.ratio.unwrap() - 2.22 / 2.02).abs() < 1e-12);
    assert!((q2.p_value.unwrap() - 2.0 / 252.0).abs() < 1e-12);
    let total = comparison.total_ratio.unwrap();
    assert!((total - (0.52 + 2.22 + 3.015) / (1.02 + 2.02 + 3.02)).abs() < 1e-12);
    let mean = (0.52_f64 / 1.02 * (2.22 / 2.02) * (3.015 / 3.02)).cbrt();
    assert!((comparison.geometric_mean_ratio.unwrap() - mean).abs() < 1e-12);
}

#[test]
fn too_few_runs_are_told_from_noise() {
    let comparison = compared(&[("q1", &[1.0, 1.1, 1.2])], &[("q1", &[9.0, 9.1, 9.2])]);
    assert_eq!(changes(&comparison), [Change::TooFewRuns]);
    assert_eq!(comparison.regressions(0.0).count(), 0);
    let text = comparison.to_string();
    assert!(text.contains("same (too few runs to tell)"), "{text}");
    assert!(text.contains("takes 4 runs of a query on each side"), "{text}");
}

#[test]
fn failures_come_and_go() {
    let (mut base, mut new) = (record("firesteel", &BASE), record("firesteel", &BASE));
    base.queries[0].runs.push(failed(FailureKind::Error, "out of memory"));
    new.queries[1].verdict = Verdict::Wrong("4 rows, not 5".to_owned());
    base.queries[2].runs.clear();
    new.queries[2].runs.push(failed(FailureKind::Timeout, "stopped after 300 s\nof 300 s"));
    let comparison = compare(&base, &new, CompareOptions::default()).unwrap();
    assert_eq!(changes(&comparison), [Change::Fixed, Change::Broken, Change::StillFailing]);
    assert_eq!((comparison.total_ratio, comparison.geometric_mean_ratio), (None, None));
    assert_eq!(comparison.regressions(9.0).map(|query| query.name.as_str()).collect::<Vec<_>>(), ["q2"]);
    let text = comparison.to_string();
    assert!(text.contains("BROKEN: wrong answer: 4 rows, not 5\n"), "{text}");
    assert!(text.contains("fails in both: timeout: stopped after 300 s\n"), "{text}");
}

#[test]
fn totals_are_over_the_queries_that_passed_in_both() {
    let base = record("firesteel", &BASE);
    let mut new = record("firesteel", &BASE);
    new.queries[2].runs.push(failed(FailureKind::Error, "no"));
    let comparison = compare(&base, &new, CompareOptions::default()).unwrap();
    assert_eq!(comparison.base_total_seconds, Some(1.02 + 2.02));
    assert_eq!(comparison.total_ratio, Some(1.0));
    assert!(comparison.to_string().contains("over the 2 of 3 queries that passed in both"));
}

#[test]
fn only_a_slowdown_above_the_limit_is_a_regression() {
    let slower: [(&str, &[f64]); 3] =
        [("q1", &[1.05, 1.06, 1.07, 1.08, 1.09]), ("q2", &[2.5, 2.51, 2.52, 2.53, 2.54]), BASE[2]];
    let options = CompareOptions { fail_above: Some(0.07), ..CompareOptions::default() };
    let (base, new) = (record("firesteel", &BASE), record("firesteel", &slower));
    let comparison = compare(&base, &new, options).unwrap();
    assert_eq!(changes(&comparison), [Change::Slower, Change::Slower, Change::Same]);
    assert_eq!(comparison.regressed, ["q2"]);
    assert_eq!(comparison.regressions(0.01).count(), 2);
    assert!(comparison.to_string().ends_with("broken or, beyond noise, slower by more than 7%: q2\n"));
    let same = compare(&base, &base, options).unwrap();
    assert!(same.to_string().ends_with("no query is broken or, beyond noise, slower by more than 7%\n"));
}

#[test]
fn runs_that_say_nothing_about_each_other_are_refused_with_all_differences() {
    let base = record("firesteel", &BASE);
    let mut new = record("firesteel", &[("q1", &[1.0]), ("q2", &[1.0]), ("q4", &[1.0])]);
    new.benchmark = "tpcds".to_owned();
    new.data.scale = 10.0;
    new.data.generator = "dsdgen 4".to_owned();
    new.data.checksum = "00".to_owned();
    new.machine.cpu = "Intel Xeon".to_owned();
    new.machine.cpus = 16;
    new.machine.memory_bytes += 1;
    new.cores = 4;
    let detail = compare(&base, &new, CompareOptions::default()).unwrap_err().detail.unwrap();
    for told in [
        "benchmark: tpch in the base, tpcds in the new run; scale: 1 in the base, 10 in the new run; ",
        "generator: tpchgen 4.0.0 in the base, dsdgen 4",
        "checksum of the data: 9f2c51d07be4a613 in the base, 00",
        "processor: AMD EPYC 9354 in the base, Intel Xeon",
        "processors: 8 in the base, 16",
        "(34359738368 bytes) in the base, 32.0GiB (34359738369 bytes)",
        "cores: 8 in the base, 4",
        "only in the base: q3; only in the new run: q4",
    ] {
        assert!(detail.contains(told), "{told}: {detail}");
    }
}

#[test]
fn what_may_differ_is_noted() {
    let base = record("firesteel", &BASE);
    let mut new = record("firesteel", &BASE);
    new.mode = "cluster of 2 executors with 1 core".to_owned();
    new.cold = true;
    new.verified = None;
    new.settings.insert("memory".to_owned(), "4GiB".to_owned());
    let comparison = compare(&base, &new, CompareOptions::default()).unwrap();
    assert_eq!(
        comparison.differences,
        [
            "mode: local in the base, cluster of 2 executors with 1 core in the new run",
            "caches: hot in the base, cold in the new run",
            "verified by: stored answers in the base, nothing in the new run",
            "setting memory: none in the base, 4GiB in the new run",
        ]
    );
}

#[test]
fn options_without_sense_are_refused() {
    let base = record("firesteel", &BASE);
    for (alpha, fail_above) in
        [(0.0, None), (1.0, None), (f64::NAN, None), (0.05, Some(-0.1)), (0.05, Some(f64::NAN))]
    {
        assert!(
            compare(&base, &base, CompareOptions { fail_above, alpha }).is_err(),
            "{alpha} {fail_above:?}"
        );
    }
}

#[test]
fn it_prints_as_a_table_and_as_json() {
    let slower: [(&str, &[f64]); 3] = [BASE[0], ("q2", &[2.5, 2.51, 2.52, 2.53, 2.54]), BASE[2]];
    let comparison = compared(&BASE, &slower);
    let expected = "\
tpch at scale 1
base: firesteel 0.1.0, local, 2026-03-01T09:30:00Z
new:  firesteel 0.1.0, local, 2026-03-01T09:30:00Z

query  base s  new s  new/base       p  verdict
q1      1.020  1.020     1.000  1.0000  same (within noise)
q2      2.020  2.520     1.248  0.0079  SLOWER
q3      3.020  3.020     1.000  1.0000  same (within noise)
total   6.060  6.560     1.083          over the 3 of 3 queries that passed in both
mean                     1.077          geometric mean of new/base

beyond noise: p below 0.05 in a Mann-Whitney U test over the runs
";
    assert_eq!(comparison.to_string(), expected);
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["queries"][1]["change"], "slower");
    assert_eq!(json["total_ratio"], 6.56 / 6.06);
}
