//! Faults of all kinds befall a cluster that answers TPC-H, for two minutes; and what checks it sees what is wrong.

use std::fs;
use std::time::Duration;

use firesteel_base::ByteSize;
use firesteel_chaos::schedule::Family;
use firesteel_chaos::story::Tone;
use firesteel_chaos::{Options, run};
use firesteel_testing::data;
use firesteel_testing::oracle::tpch::Scale;

use crate::engines::FIRESTEEL;

fn options(seed: u64, span: Duration, families: &[Family]) -> Options {
    Options {
        binary: FIRESTEEL.into(),
        data: data::tpch(Scale::Tenth).unwrap(),
        answers: None,
        seed,
        span,
        workers: 3,
        clients: 2,
        families: families.to_vec(),
        every: Duration::from_secs(1)..=Duration::from_secs(5),
        memory: ByteSize(512 << 20),
        disk: ByteSize(1 << 30),
        query_max: Duration::from_secs(240),
        submitted: 30,
        keeps_going: false,
        tone: Tone::Lines,
        log: None,
        replay: None,
        conf: Vec::new(),
    }
}

#[test]
fn every_answer_is_right_whatever_breaks() {
    let report = run(&options(1, Duration::from_secs(120), &Family::ALL)).unwrap();
    assert!(report.held(), "{report:#?}");
    assert!(report.counts.faults > 10 && report.counts.right > 10, "{report:#?}");
}

/// The right answers have one digit changed: whoever checks must say that the cluster's are wrong.
#[test]
fn a_wrong_answer_is_noticed() {
    let answers = tempfile::tempdir().unwrap();
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/answers/tpch_sf0.1");
    for entry in fs::read_dir(stored).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (header, rows) = text.split_once('\n').unwrap();
        let changed: String = rows
            .chars()
            .map(|c| {
                if c == '1' {
                    '2'
                } else if c == '2' {
                    '1'
                } else {
                    c
                }
            })
            .collect();
        fs::write(answers.path().join(path.file_name().unwrap()), format!("{header}\n{changed}")).unwrap();
    }
    let options = Options {
        answers: Some(answers.path().to_owned()),
        ..options(2, Duration::from_secs(60), &[Family::Kill])
    };
    let report = run(&options).unwrap();
    assert!(report.breaches[0].contains("the answer is wrong"), "{report:#?}");
    fs::remove_dir_all(report.folder.unwrap()).unwrap();
}
