//! The same questions have the same answers, however the files are.

use std::fs;
use std::path::Path;

use arrow::array::RecordBatch;
use firesteel_bench::queries::{self, Query};
use firesteel_bench::run::Target;
use firesteel_bench::verify::{Answer, Expected, Rules, compare, write_csv};
use firesteel_bench::{Benchmark, Compression, Format, GenerateOptions};
use firesteel_driver::{LocalOptions, Session};

use super::{SCALE, make};

/// The answers to `asked` over the data that `options` make.
async fn answers(options: &GenerateOptions, asked: &[Query]) -> Vec<Vec<RecordBatch>> {
    make(options);
    let session = Session::local(LocalOptions { cores: Some(2), ..LocalOptions::default() }).await.unwrap();
    let target = Target::of(session.clone()).await.unwrap();
    target.register(options.benchmark, &options.out).await.unwrap();
    let mut answers = Vec::new();
    for query in asked {
        answers.push(target.measure(query.sql, true).await.unwrap().rows);
    }
    session.close().await;
    answers
}

fn check(asked: &[Query], expected: &[Vec<RecordBatch>], found: &[Vec<RecordBatch>], how: &Path) {
    for (query, (expected, found)) in asked.iter().zip(expected.iter().zip(found)) {
        let text = tempfile::NamedTempFile::new().unwrap();
        write_csv(expected, text.path()).unwrap();
        let expected = Expected::from_csv(&fs::read_to_string(text.path()).unwrap()).unwrap();
        let found = Answer::from_batches(found).unwrap();
        compare(&expected, &found, &Rules::of(query.sql))
            .unwrap_or_else(|fault| panic!("{} over {}: {fault}", query.name, how.display()));
    }
}

fn rows(answer: &[RecordBatch]) -> usize {
    answer.iter().map(RecordBatch::num_rows).sum()
}

fn variants(benchmark: Benchmark, dir: &Path) -> Vec<GenerateOptions> {
    let plain = |name: &str| GenerateOptions::new(benchmark, SCALE, dir.join(name));
    vec![
        GenerateOptions { format: Format::Csv, files: 2, ..plain("csv") },
        GenerateOptions {
            format: Format::Csv,
            compression: Some(Compression::Gzip),
            files: 2,
            sorted: true,
            ..plain("sorted gzip")
        },
        GenerateOptions { sorted: true, files: 3, row_group_rows: Some(2_000), ..plain("sorted parquet") },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_and_orders_have_the_same_answers_to_tpch() {
    let dir = tempfile::tempdir().unwrap();
    let plain = GenerateOptions::new(Benchmark::Tpch, SCALE, dir.path().join("plain"));
    let expected = answers(&plain, &queries::TPCH).await;
    assert!(expected.iter().filter(|answer| rows(answer) > 0).count() > 15);
    for options in variants(Benchmark::Tpch, dir.path()) {
        let found = answers(&options, &queries::TPCH).await;
        check(&queries::TPCH, &expected, &found, &options.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_and_orders_have_the_same_answers_to_tpcds() {
    let dir = tempfile::tempdir().unwrap();
    // Few queries, of all three channels, with dates, decimals and returns.
    let asked: Vec<_> =
        [3, 7, 19, 25, 37, 42, 50, 62, 79, 91, 96].map(|number| queries::TPCDS[number - 1]).to_vec();
    let plain = GenerateOptions::new(Benchmark::Tpcds, SCALE, dir.path().join("plain"));
    let expected = answers(&plain, &asked).await;
    assert!(expected.iter().filter(|answer| rows(answer) > 0).count() > 5);
    for options in variants(Benchmark::Tpcds, dir.path()) {
        let found = answers(&options, &asked).await;
        check(&asked, &expected, &found, &options.out);
    }
}
