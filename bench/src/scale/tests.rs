use super::*;
use crate::record::samples::{failed, record};
use crate::record::{FailureKind, Outcome, RunRecord, Verdict};
use crate::{Benchmark, queries};

/// Seconds of q01 and q02 on a cluster of so many one-core executors, on a machine with 8 processors.
fn run(executors: u32, q01: f64, q02: f64) -> Measured {
    let mut record = record("firesteel", &[("q01", &[q01, q01 + 0.5, q01 - 0.5]), ("q02", &[q02])]);
    record.cores = executors;
    record.mode = format!("cluster of {executors}");
    Measured { executors, record }
}

fn three() -> [Measured; 3] {
    [run(1, 8.0, 2.0), run(2, 4.0, 1.5), run(4, 2.5, 1.5)]
}

/// A single-node engine on one core.
fn engine(queries: &[(&str, &[f64])]) -> RunRecord {
    let mut record = record("duckdb", queries);
    record.cores = 1;
    record
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

fn fail(measured: &mut Measured, query: usize) {
    measured.record.queries[query].runs.push(failed(FailureKind::Timeout, "stopped after 9 s"));
}

#[test]
fn speed_up_and_efficiency_are_relative_to_the_smallest_size() {
    let scaling = scaling(&three(), None, 8).unwrap();
    let sizes = &scaling.sizes;
    assert_eq!(sizes.iter().map(|size| size.numbers.seconds).collect::<Vec<_>>(), [10.0, 5.5, 4.0]);
    assert_eq!(sizes[0].numbers.speed_up, Some(1.0));
    close(sizes[1].numbers.speed_up.unwrap(), 10.0 / 5.5);
    close(sizes[1].numbers.efficiency.unwrap(), 10.0 / 11.0);
    close(sizes[2].numbers.efficiency.unwrap(), 10.0 / 16.0);
    assert_eq!(sizes[2].numbers.core_seconds, 16.0);
    close(sizes[0].geometric_mean_seconds.unwrap(), 4.0);
    close(sizes[2].geometric_mean_seconds.unwrap(), (2.5_f64 * 1.5).sqrt());
    assert!(sizes.iter().all(|size| !size.oversubscribed && size.numbers.cpu_seconds.is_none()));
}

#[test]
fn the_smallest_size_need_not_be_one_nor_come_first() {
    let scaling = scaling(&[run(6, 2.0, 1.0), run(2, 4.0, 2.0)], None, 8).unwrap();
    assert_eq!(scaling.sizes.iter().map(|size| size.executors).collect::<Vec<_>>(), [2, 6]);
    assert_eq!(scaling.sizes[1].numbers.speed_up, Some(2.0));
    close(scaling.sizes[1].numbers.efficiency.unwrap(), 6.0 * 2.0 / (3.0 * 6.0));
    assert!(scaling.to_string().contains("relative to 2 executors"), "{scaling}");
}

#[test]
fn queries_are_in_the_order_of_their_waste() {
    let scaling = scaling(&three(), None, 8).unwrap();
    assert_eq!(scaling.queries.iter().map(|query| query.name.as_str()).collect::<Vec<_>>(), ["q02", "q01"]);
    let q02 = &scaling.queries[0];
    close(q02.sizes[2].efficiency.unwrap(), 2.0 / (1.5 * 4.0));
    assert_eq!(q02.sizes[2].core_seconds, 6.0);
    assert_eq!((q02.seconds_to_beat, q02.cost), (None, None));
}

#[test]
fn a_query_that_failed_at_one_size_is_left_out_at_all_and_named() {
    let mut measured = three();
    fail(&mut measured[1], 0);
    let scaled = scaling(&measured, None, 8).unwrap();
    assert_eq!(scaled.sizes.iter().map(|size| size.numbers.seconds).collect::<Vec<_>>(), [2.0, 1.5, 1.5]);
    assert_eq!(scaled.queries.len(), 1);
    let LeftOut { query, run, why } = &scaled.left_out[0];
    assert_eq!(
        (query.as_str(), run.as_str(), why.as_str()),
        ("q01", "the run on 2 executors", "timeout: stopped after 9 s")
    );
    let text = scaled.to_string();
    assert!(text.contains("left out: q01, in the run on 2 executors: timeout: stopped after 9 s"), "{text}");
    assert!(text.contains("over the 1 query that passed at every size"), "{text}");

    // A wrong answer and a query that was not asked are no times either.
    measured[2].record.queries[1].verdict = Verdict::Wrong("4 rows, not 5".to_owned());
    let fault = scaling(&measured, None, 8).unwrap_err();
    assert_eq!(fault.message, "no query passed at every size, so there is nothing to compare");
    assert!(fault.detail.unwrap().ends_with("q02 in the run on 4 executors: wrong answer: 4 rows, not 5"));
    let mut measured = three();
    measured[0].record.queries.remove(1);
    assert_eq!(scaling(&measured, None, 8).unwrap().left_out[0].why, "it was not asked");
}

#[test]
fn no_efficiency_is_claimed_of_more_threads_than_the_machine_has_cores() {
    let scaling = scaling(&three(), None, 2).unwrap();
    assert_eq!(
        scaling.sizes.iter().map(|size| size.oversubscribed).collect::<Vec<_>>(),
        [false, false, true]
    );
    let last = scaling.sizes[2].numbers;
    assert_eq!((last.speed_up, last.efficiency), (Some(2.5), None));
    assert!(scaling.queries.iter().all(|query| query.sizes[2].efficiency.is_none()));
    assert_eq!(scaling.estimate.unwrap().sizes, 2);
    let text = scaling.to_string();
    assert!(
        text.contains(
            "oversubscribed, with more core threads than this machine's 2 cores: the sizes of 4 exec"
        ),
        "{text}"
    );
    assert!(text.contains("eff. on 2") && !text.contains("eff. on 4"), "{text}");
    assert!(text.contains("loopback stands in for a network"), "{text}");
}

#[test]
fn cores_are_counted_and_not_executors() {
    let mut measured = [run(1, 8.0, 2.0), run(2, 4.0, 1.0)];
    for run in &mut measured {
        run.record.cores = run.executors * 3;
    }
    let scaling = scaling(&measured, Some(&engine(&[("q01", &[5.0]), ("q02", &[1.5])])), 6).unwrap();
    assert_eq!(scaling.sizes[1].numbers.core_seconds, 30.0);
    assert_eq!(scaling.sizes[1].numbers.efficiency, Some(1.0));
    assert_eq!(scaling.against.unwrap().cost, Some(Cost::Cores { cores: 6, executors: 2 }));
}

#[test]
fn measured_processor_time_is_told_when_every_run_has_it() {
    let mut measured = three();
    let set = |run: &mut crate::record::Run, seconds: f64| {
        if let Outcome::Done(measures) = &mut run.outcome {
            measures.cpu_seconds = Some(seconds);
        }
    };
    for (run, seconds) in measured[0].record.queries[0].runs.iter_mut().zip([7.0, 9.0, 6.0]) {
        set(run, seconds);
    }
    let scaled = scaling(&measured, None, 8).unwrap();
    let cpu = |scaling: &Scaling, name: &str| {
        scaling.queries.iter().find(|query| query.name == name).unwrap().sizes[0].cpu_seconds
    };
    assert_eq!((cpu(&scaled, "q01"), cpu(&scaled, "q02")), (Some(7.0), None));
    assert_eq!(scaled.sizes[0].numbers.cpu_seconds, None, "a sum without q02 would be too small");
    set(&mut measured[0].record.queries[1].runs[0], 1.5);
    let scaled = scaling(&measured, None, 8).unwrap();
    assert_eq!(scaled.sizes[0].numbers.cpu_seconds, Some(8.5));
    assert!(scaled.to_string().contains("CPU s on 1"), "{scaled}");
}

#[test]
fn cost_is_the_smallest_measured_size_that_takes_less() {
    let cost = |seconds: f64, machine_cores: u32| {
        let record = engine(&[("q01", &[seconds - 1.0]), ("q02", &[1.0])]);
        scaling(&three(), Some(&record), machine_cores).unwrap().against.unwrap().cost
    };
    assert_eq!(cost(10.5, 8), Some(Cost::Cores { cores: 1, executors: 1 }));
    // As fast is not faster.
    assert_eq!(cost(10.0, 8), Some(Cost::Cores { cores: 2, executors: 2 }));
    assert_eq!(cost(5.0, 8), Some(Cost::Cores { cores: 4, executors: 4 }));
    assert_eq!(cost(4.0, 8), Some(Cost::NotWithin { cores: 4 }));
    // Four threads on two cores are not four cores.
    assert_eq!(cost(5.0, 2), Some(Cost::NotWithin { cores: 2 }));
    assert_eq!(cost(5.0, 0), None);
}

#[test]
fn cost_is_told_for_each_query_and_over_those_that_both_passed() {
    let mut record = engine(&[("q01", &[5.0]), ("q02", &[1.0]), ("q99", &[0.1])]);
    let scaled = scaling(&three(), Some(&record), 8).unwrap();
    let costs: Vec<_> = scaled.queries.iter().map(|query| (query.seconds_to_beat, query.cost)).collect();
    assert_eq!(
        costs,
        [
            (Some(1.0), Some(Cost::NotWithin { cores: 4 })),
            (Some(5.0), Some(Cost::Cores { cores: 2, executors: 2 }))
        ]
    );

    record.queries[1].runs.push(failed(FailureKind::Error, "out of memory\nat 3"));
    let scaled = scaling(&three(), Some(&record), 8).unwrap();
    let against = scaled.against.as_ref().unwrap();
    assert_eq!((&against.queries[..], against.seconds), (&["q01".to_owned()][..], 5.0));
    assert_eq!(against.cluster_seconds, [8.0, 4.0, 2.5]);
    assert_eq!(against.cost, Some(Cost::Cores { cores: 2, executors: 2 }));
    assert_eq!(scaled.queries[0].cost, None);
    assert_eq!(scaled.sizes[0].numbers.seconds, 10.0, "the scaling is still over both queries");
    let text = scaled.to_string();
    assert!(
        text.contains(
            "COST: 2 cores (2 executors) of the cluster beat duckdb 0.1.0 (local, 1 core): 4.000 s against 5.000 s, over the 1 \
             query that passed in both"
        ),
        "{text}"
    );
    assert!(text.contains("left out: q02, in duckdb 0.1.0: error: out of memory\n"), "{text}");
}

#[test]
fn an_estimate_is_called_one_and_stands_beside_the_measurement() {
    // 2 + 8 / n seconds.
    let measured = [run(1, 9.0, 1.0), run(2, 5.0, 1.0), run(4, 3.0, 1.0)];
    let text = |seconds: f64| {
        let scaling =
            scaling(&measured, Some(&engine(&[("q01", &[seconds - 0.5]), ("q02", &[0.5])])), 8).unwrap();
        close(scaling.estimate.unwrap().serial_share, 0.2);
        scaling.to_string()
    };
    let beaten = text(3.5);
    let not_within =
        "COST: duckdb 0.1.0 (local, 1 core) is not beaten within 4 cores of the cluster: 4.000 s there";
    assert!(beaten.contains(not_within), "{beaten}");
    assert!(
        beaten.contains("Estimate, not a measurement: by Amdahl's law through 3 sizes it would take 6 cores"),
        "{beaten}"
    );
    assert!(beaten.contains("20% of the time on one core is not shortened by more cores"), "{beaten}");
    let never = text(1.5);
    assert!(never.contains("by Amdahl's law through 3 sizes no number of cores would beat it"), "{never}");
    assert!(!text(9.0).contains("not a measurement"), "what was measured is not estimated");
}

#[test]
fn runs_that_differ_in_more_than_their_size_are_refused() {
    assert!(scaling(&[], None, 8).is_err());
    let told = |change: fn(&mut Measured)| {
        let mut measured = three();
        change(&mut measured[1]);
        let fault = scaling(&measured, None, 8).unwrap_err();
        format!("{} {}", fault.message, fault.detail.unwrap_or_default())
    };
    let other = told(|run| run.record.data.checksum = "0".to_owned());
    assert!(
        other.contains(
            "checksum of the data: 9f2c51d07be4a613 in the run on 1 executor, 0 in the run on 2 exec"
        ),
        "{other}"
    );
    assert!(told(|run| run.record.machine.cpus = 9).contains("processors: 8 in the run on 1 executor, 9"));
    assert!(told(|run| run.executors = 4).contains("two runs on 4 executors"));
    assert!(told(|run| run.record.cores = 3).contains("2 with 3"));
}

#[test]
fn a_record_that_cannot_be_beaten_fairly_is_refused_before_and_after() {
    let ground = run(1, 1.0, 1.0).record;
    let asked = &queries::TPCH[..2];
    let check = |record: &RunRecord| {
        let before = require_comparable(record, Benchmark::Tpch, &ground.data, &ground.machine, asked);
        let after = scaling(&three(), Some(record), 8).map(|_| ());
        assert_eq!(before.clone().map_err(|fault| fault.message), after.map_err(|fault| fault.message));
        before.map_err(|fault| format!("{} {}", fault.message, fault.detail.unwrap_or_default()))
    };
    let good = engine(&[("q01", &[1.0]), ("q05", &[1.0])]);
    assert_eq!(check(&good), Ok(()));
    let with = |change: fn(&mut RunRecord)| {
        let mut record = good.clone();
        change(&mut record);
        check(&record).unwrap_err()
    };
    assert!(
        with(|record| record.benchmark = "tpcds".to_owned())
            .contains("benchmark: tpcds in the record to beat, tpch in")
    );
    assert!(
        with(|record| record.data.checksum = "0".to_owned())
            .contains("checksum of the data: 0 in the record to beat")
    );
    assert!(
        with(|record| record.machine.cpu = "Arm".to_owned()).contains("processor: Arm in the record to beat")
    );
    assert!(with(|record| record.streams = 4).contains("several streams"));
    assert!(with(|record| record.cold = true).contains("cold caches"));
    let none = with(|record| record.queries[0].runs.clear());
    assert!(none.contains("none of the queries") && none.contains("q01: it did not run"), "{none}");
    assert!(none.contains("q02: it was not asked"), "{none}");
}

#[test]
fn what_else_differs_is_noted() {
    let mut record = engine(&[("q01", &[1.0])]);
    record.cores = 2;
    record.warmup = 0;
    let mut measured = three();
    measured[2].record.verified = None;
    let notes = scaling(&measured, Some(&record), 8).unwrap().notes;
    for expected in [
        "duckdb 0.1.0 had 2 cores; COST as its authors define it asks for one",
        "warm-up runs: 0 in duckdb 0.1.0, 1 in the cluster",
        "answers were NOT checked",
    ] {
        assert!(notes.iter().any(|note| note == expected), "{notes:?}");
    }
    assert!(!notes.iter().any(|note| note.contains("without a warm-up")), "{notes:?}");
    for run in &mut measured {
        run.record.warmup = 0;
    }
    let notes = scaling(&measured, None, 8).unwrap().notes;
    assert!(notes.iter().any(|note| note.starts_with("without a warm-up")), "{notes:?}");
}

#[test]
fn the_text_has_a_line_for_each_size_and_query() {
    let text = scaling(&three(), None, 2).unwrap().to_string();
    let lines: Vec<&str> = text.lines().collect();
    let sizes = "\
executors  cores  total s  geo mean s  speed-up  efficiency  core-s  CPU s
1              1   10.000       4.000      1.00        100%  10.000      -
2              2    5.500       2.449      1.82         91%  11.000      -
4              4    4.000       1.936      2.50           -  16.000      -  oversubscribed";
    assert!(text.contains(sizes), "{text}");
    assert!(lines.contains(&"q02     2.000   1.500   1.500        67%"), "{text}");
    assert!(lines.contains(&"q01          8.000        8.000       10.000"), "{text}");
    assert!(!text.contains(" \n"), "{text}");
}

#[test]
fn the_json_has_every_number() {
    let record = engine(&[("q01", &[5.0]), ("q02", &[1.0])]);
    let json = serde_json::to_value(scaling(&three(), Some(&record), 2).unwrap()).unwrap();
    assert_eq!(json["sizes"][1]["efficiency"].as_f64().unwrap(), 10.0 / 5.5 / 2.0);
    assert_eq!(json["sizes"][2]["oversubscribed"], true);
    assert!(json["sizes"][2]["efficiency"].is_null());
    assert_eq!(json["queries"][1]["cost"]["is"], "cores");
    assert_eq!(json["against"]["cost"], serde_json::json!({ "is": "cores", "cores": 2, "executors": 2 }));
    assert!(json["estimate"]["serial_share"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_page_draws_the_curve_and_shows_the_records() {
    let record = engine(&[("q01", &[5.0]), ("q02", &[1.0])]);
    let mut measured = three();
    measured.reverse();
    let scaled = scaling(&measured, Some(&record), 2).unwrap();
    let html = page(&scaled, &measured, Some(&record)).unwrap();
    for expected in [
        "<h2>Scaling</h2>",
        "<h2>Medians</h2>",
        "4 runs of 2 queries",
        "4 <b class=\"bad\">oversubscribed</b>",
        "<title>total on 2 cores: speed-up 1.82</title>",
        "<title>total on 4 cores: speed-up 2.50, oversubscribed</title>",
        "more core threads than the machine&#39;s 2 cores",
        "COST: 2 cores (2 executors) of the cluster beat duckdb 0.1.0",
        "<td>not within 2 cores</td>",
    ] {
        assert!(html.contains(expected), "{expected}\n{html}");
    }
    for text in ["<script", "http:", "https:", "url(", " src=", " href="] {
        assert!(!html.contains(text), "{text}");
    }
    let (smallest, largest) = (html.find("cluster of 1<").unwrap(), html.find("cluster of 4<").unwrap());
    assert!(smallest < largest, "the records are in the order of the sizes");
    assert!(
        !page(&scaling(&measured[..1], None, 8).unwrap(), &measured[..1], None)
            .unwrap()
            .contains("class=\"curve\"")
    );
}

#[test]
fn markup_in_a_record_is_text_of_the_section_too() {
    let evil = "<img src=x>";
    let mut measured = three();
    for run in &mut measured {
        run.record.queries[0].name = evil.to_owned();
        run.record.engine.name = evil.to_owned();
    }
    fail(&mut measured[0], 1);
    measured[1].record.queries[1].verdict = Verdict::Wrong(evil.to_owned());
    let mut record = engine(&[(evil, &[5.0])]);
    record.engine.name = evil.to_owned();
    let scaled = scaling(&measured, Some(&record), 2).unwrap();
    assert!(!page(&scaled, &measured, Some(&record)).unwrap().contains("<img"));
}
