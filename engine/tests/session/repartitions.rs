//! Exchanges that a query asks for are there, and their rows are all there after them.

use datafusion::logical_expr::Partitioning;
use datafusion::physical_plan::common::collect;
use datafusion::prelude::col;
use firesteel_engine::{Output, datafusion};

use crate::lab::Lab;

const DISTRIBUTED: &str =
    "select n % 10 as k, n from (select value as n from generate_series(1, 1000)) distribute by k";

/// The exchanges between the stages of the latest job.
fn exchanges(lab: &Lab) -> Vec<String> {
    let last = lab.runner.last.lock();
    let stages = &last.as_ref().unwrap().graph.stages;
    let exchanges = stages.iter().filter(|stage| !matches!(stage.output, Output::Result));
    exchanges.map(|stage| stage.output.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn distribute_by_is_an_exchange_by_hash() {
    for lab in Lab::both() {
        let text = lab.rows(&format!("explain {DISTRIBUTED}")).await;
        assert!(text.contains("Hash([k@0], 2)"), "{text}");
        let sums = format!("select concat(count(*), ' ', sum(n), ' ', sum(k)) from ({DISTRIBUTED})");
        assert_eq!(lab.value(&sums).await, "1000 500500 4500");
    }
    let lab = Lab::cluster(2, 2);
    lab.value(&format!("select sum(n) from ({DISTRIBUTED})")).await;
    assert_eq!(exchanges(&lab), ["hash([k@0], 4)", "single"]);
}

/// What a grouping requires is there already: there is one exchange, of all rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_grouping_by_the_same_key_needs_no_exchange_of_its_own() {
    let lab = Lab::cluster(2, 1);
    let text = lab.rows(&format!("select k, sum(n) from ({DISTRIBUTED}) group by k order by k")).await;
    assert!(text.contains("| 9 | 50400  |"), "{text}");
    assert_eq!(exchanges(&lab).iter().filter(|exchange| exchange.starts_with("hash")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataframe_is_repartitioned_as_it_asks() {
    let lab = Lab::cluster(2, 1);
    for (partitioning, exchange) in [
        (Partitioning::Hash(vec![col("n")], 3), "hash([n@0], 3)"),
        (Partitioning::RoundRobinBatch(3), "round-robin(3)"),
    ] {
        let frame = lab.session.sql("select value as n from generate_series(1, 1000)").await.unwrap();
        let frame = frame.repartition(partitioning).unwrap();
        let batches = collect(frame.execute_stream().await.unwrap()).await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1000);
        assert_eq!(exchanges(&lab), [exchange]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_told() {
    for lab in Lab::both() {
        let fault = lab.fault("select value as n from generate_series(1, 9) distribute by m").await;
        assert!(fault.contains("column 'm' does not exist"), "{fault}");
    }
}
