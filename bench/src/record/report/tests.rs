use super::super::samples::{failed, record};
use super::super::{FailureKind, Outcome, Sample, Throughput, Verdict};
use super::*;

const TWO: [(&str, &[f64]); 2] = [("q1", &[1.0, 1.5, 2.0]), ("q2", &[4.0, 4.5, 5.0])];

fn pair() -> [RunRecord; 2] {
    [record("firesteel", &TWO), record("duckdb", &[("q1", &[3.0]), ("q2", &[9.0])])]
}

fn has(page: &str, expected: &[&str]) {
    for text in expected {
        assert!(page.contains(text), "{text}\n{page}");
    }
}

#[test]
fn a_page_names_runs_medians_and_ratios() {
    let page = html(&pair()).unwrap();
    has(
        &page,
        &[
            "<h1>TPC-H at scale 1</h1>",
            "2 runs of 2 queries of TPC-H at scale 1",
            "Run A took 6.000 s for all queries; as a multiple of that, B 2.00.",
            "<td class=\"n best\">1.500</td><td class=\"n ratio\">×1.00</td><td class=\"n\">3.000</td>\
             <td class=\"n ratio\">×2.00</td>",
            "verified by stored answers",
            "<code>firesteel bench run</code>",
            "Derived from TPC-H; not comparable to published TPC results.",
        ],
    );
    assert!(!page.contains("class=\"notice\""));
    assert!(!page.contains("over time"));
}

#[test]
fn a_page_loads_nothing_and_runs_nothing() {
    let page = html(&pair()).unwrap();
    for text in ["<script", "http:", "https:", "url(", "@import", " src=", " href=", "<link", "onload"] {
        assert!(!page.contains(text), "{text}");
    }
}

#[test]
fn markup_in_a_record_is_shown_as_text() {
    let evil = "<script>alert(1)</script>\"><img src=x onerror='alert(2)'>";
    let mut one = record(evil, &[(evil, &[1.0, 2.0]), ("q2", &[1.0]), ("q3", &[1.0])]);
    one.queries[1].runs.push(failed(FailureKind::Error, evil));
    one.queries[2].verdict = Verdict::Wrong(evil.to_owned());
    for field in [&mut one.benchmark, &mut one.mode, &mut one.started, &mut one.engine.version] {
        *field = evil.to_owned();
    }
    for field in
        [&mut one.data.path, &mut one.data.compression, &mut one.data.generator, &mut one.machine.cpu]
    {
        *field = evil.to_owned();
    }
    for field in [&mut one.data.checksum, &mut one.machine.disk, &mut one.machine.kernel] {
        *field = evil.to_owned();
    }
    one.command.push(evil.to_owned());
    one.engine.commit = Some(evil.to_owned());
    one.verified = Some(evil.to_owned());
    one.settings.insert(evil.to_owned(), evil.to_owned());
    one.versions.insert(evil.to_owned(), evil.to_owned());
    let page = html(&[one]).unwrap();
    assert!(!page.contains("<script") && !page.contains("<img"));
    assert!(!page.contains("\"><img"));
    has(
        &page,
        &["title=\"error: &lt;script&gt;alert(1)&lt;/script&gt;&quot;&gt;&lt;img src=x onerror=&#39;"],
    );
}

#[test]
fn failures_are_told_and_take_totals_away() {
    let mut records = pair();
    records[1].queries[1].runs.push(failed(FailureKind::Timeout, "stopped after 300 s"));
    let page = html(&records).unwrap();
    has(
        &page,
        &[
            "<b>Run B:</b> queries failed.",
            "<b class=\"bad\">1 of 2</b>",
            "<b class=\"bad\" title=\"timeout: stopped after 300 s\">FAIL</b>",
            "<td class=\"message\">timeout: stopped after 300 s</td>",
            "Total of the 1 that passed in every run",
            "<td class=\"n\">–</td><td class=\"n\">–</td>",
        ],
    );
}

#[test]
fn a_part_of_the_queries_has_no_total() {
    let records = [record("firesteel", &TWO), record("duckdb", &TWO[..1])];
    let page = html(&records).unwrap();
    has(&page, &["<b>Run B:</b> queries of other runs are missing.", "not run"]);
    assert!(!page.contains("as a multiple of that"));
}

#[test]
fn answers_that_nobody_checked_stand_out() {
    let mut records = pair();
    records[0].verified = None;
    records[1].queries[0].verdict = Verdict::Unverified;
    let page = html(&records).unwrap();
    has(
        &page,
        &[
            "<b>Runs A and B:</b> answers were <b class=\"bad\">NOT VERIFIED</b>.",
            "<td><b class=\"bad\">NOT VERIFIED</b></td>",
            "verified by stored answers; 1 <b class=\"bad\">NOT VERIFIED</b>",
        ],
    );
}

#[test]
fn unlike_runs_are_marked() {
    let mut records = pair();
    records[1].machine.cpu = "Intel Xeon".to_owned();
    records[1].data.checksum = "00".to_owned();
    records[1].cores = 4;
    records[1].cold = true;
    records[1].iterations = 1;
    let page = html(&records).unwrap();
    for what in [
        "the machine is not",
        "the data is not",
        "the cores are not",
        "the caches are not",
        "a query did not run",
    ] {
        has(&page, &[&format!("<b>Run B:</b> {what}")]);
    }
    assert!(!page.contains("as a multiple of that"), "what does not compare has no ranking");
}

#[test]
fn samples_and_streams_are_shown() {
    let mut records = pair();
    records[0].timeline = vec![
        Sample { at: 0.0, cpu_cores: 2.0, memory_bytes: 0 },
        Sample { at: 20.0, cpu_cores: 8.0, memory_bytes: 1 << 30 },
    ];
    records[0].throughput = Some(Throughput { streams: 4, seconds: 60.0, queries: 8 });
    let page = html(&records).unwrap();
    has(
        &page,
        &[
            "<td class=\"n\">480 (4 streams)</td>",
            "Cores: mean 5.0, most 8.0",
            "Memory: most 1GiB",
            "d=\"M0.0 75.0L1000.0 0.0\"",
            "d=\"M0.0 100L0.0 75.0L1000.0 0.0L1000.0 100Z\"",
            "<span>10 s</span><span>20 s</span>",
        ],
    );
}

#[test]
fn nothing_and_unlike_benchmarks_are_refused() {
    assert_eq!(html(&[]).unwrap_err().message, "there is no run to report on");
    let mut records = pair();
    records[1].data.scale = 10.0;
    let error = html(&records).unwrap_err();
    assert_eq!(error.detail.unwrap(), "TPC-H at scale 1 and TPC-H at scale 10 were given");
    records[1].data.scale = 1.0;
    records[1].benchmark = "tpcds".to_owned();
    assert!(html(&records).is_err());
}

#[test]
fn a_run_without_queries_still_has_a_page() {
    has(&html(&[record("firesteel", &[])]).unwrap(), &["1 run of 0 queries"]);
}

#[test]
fn rows_that_were_moved_are_shown_and_owe_nothing_to_tpc() {
    let mut records = pair();
    for record in &mut records {
        record.benchmark = "shuffle".to_owned();
        (record.data.scale, record.data.files, record.data.rows) = (0.0, 0, 16_384);
        record.data.bytes = 1 << 20;
        for run in &mut record.queries[0].runs {
            let Outcome::Done(measures) = &mut run.outcome else { panic!("it ended well") };
            (measures.input_rows, measures.input_bytes) = (Some(16_384), Some(1_200_000));
            (measures.bytes_shuffled, measures.bytes_copied) = (Some(1_200_000), Some(2_400_000));
        }
    }
    records[1].queries[0].runs.push(failed(FailureKind::Error, "no memory"));
    let page = html(&records).unwrap();
    has(
        &page,
        &[
            "<h1>shuffle of 16\u{a0}384 rows in 1MiB of memory</h1>",
            "2 runs of 2 queries of shuffle of 16\u{a0}384 rows in 1MiB of memory. Each query",
            "<td class=\"n\">0.000</td><td class=\"n\">2.000</td><td class=\"n\">-</td>",
            "<b class=\"bad\" title=\"error: no memory\">FAIL</b>",
            "<dd>/data/tpch-1 by tpchgen 4.0.0, 16\u{a0}384 rows in 1MiB of memory</dd>",
        ],
    );
    assert!(!page.contains("TPC") && !page.contains("<footer>"));

    records[1].data.bytes = 2 << 20;
    assert!(html(&records).unwrap_err().detail.unwrap().contains("2MiB"));
}

#[test]
fn a_sort_of_a_benchmark_s_data_says_so() {
    let mut one = record("firesteel", &[("sort-orderkey", &[1.0])]);
    one.benchmark = "sort".to_owned();
    has(
        &html(&[one]).unwrap(),
        &[
            "<h1>sort of TPC-H at scale 1</h1>",
            "Derived from TPC-H; not comparable to published TPC results.",
        ],
    );
}
