//! Partitions that are read in parts by key: where a plan allows it, and that every answer stays the same.

use std::sync::atomic::Ordering;

use crate::lab::Lab;

/// Two tables of numbers, in several files each.
async fn tables(lab: &Lab) {
    for part in 0..3 {
        let (first, last) = (part * 700, part * 700 + 699);
        let rows = format!(
            "select case when value % 11 = 0 then null else value % 23 end as k, value as n, value * 7 % 101 as v, \
             concat('text number ', value % 13) as s from generate_series({first}, {last})"
        );
        for (table, rows) in
            [("a", rows.clone()), ("b", format!("select * from ({rows}) where n % 3 = 0 and v > 4"))]
        {
            lab.batches(&format!("copy ({rows}) to '$dir/{table}/{part}.parquet'")).await.unwrap();
        }
    }
    for table in ["a", "b"] {
        let create = format!("create external table {table} stored as parquet location '$dir/{table}/'");
        lab.batches(&create).await.unwrap();
    }
    // Both sides of a join travel, and nothing is grouped before it does.
    lab.batches("set firesteel.broadcast_threshold = '0B'").await.unwrap();
}

/// The rows of an answer, sorted.
async fn sorted(lab: &Lab, sql: &str) -> Vec<String> {
    let mut rows: Vec<_> = lab.rows(sql).await.lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

/// Whether the latest job has a stage whose partitions may be divided by key.
fn may_divide(lab: &Lab) -> bool {
    lab.runner.last.lock().as_ref().unwrap().graph.stages.iter().any(|stage| stage.adapts.by_key)
}

/// Plans that need all rows of a key in one partition.
const BY_KEY: [&str; 15] = [
    "select k, count(*), sum(v) from a group by k",
    "select s, median(v), count(distinct n), count(distinct v) from a group by s",
    "select k, s, array_agg(v order by n) from a group by k, s",
    "select distinct k, s from a",
    "select k, n, row_number() over (partition by k order by n) from a",
    "select s, n, sum(v) over (partition by s order by n rows 3 preceding), max(n) over (partition by s) from a",
    "select a.k, a.n, b.v from a join b on a.k = b.k and a.v = b.v",
    "select a.k, a.n, b.v from a left join b on a.n = b.n",
    "select a.k, b.n, b.v from a right join b on a.k = b.k and a.v = b.n",
    "select a.n, b.n from a full join b on a.n = b.n + 3",
    "select a.n from a where a.v in (select v from b where b.k = a.k)",
    "select a.n from a where not exists (select 1 from b where b.n = a.n)",
    "select a.k, count(*), sum(b.v) from a join b on a.k = b.k group by a.k having count(*) > 3",
    "select k, v from a intersect select k, v from b",
    "select n % 5 as m, count(*) from (select n from a union all select v from b) group by n % 5",
];

#[tokio::test(flavor = "multi_thread")]
async fn answers_stay_the_same_when_every_partition_is_read_in_parts() {
    let lab = Lab::cluster(2, 2);
    tables(&lab).await;
    for sql in BY_KEY {
        lab.runner.key_parts.store(0, Ordering::SeqCst);
        let expected = sorted(&lab, sql).await;
        assert!(may_divide(&lab), "{sql}");
        for parts in [1, 2, 5] {
            lab.runner.key_parts.store(parts, Ordering::SeqCst);
            assert_eq!(sorted(&lab, sql).await, expected, "{sql} in {parts} parts");
        }
    }
}

/// What is made of something else than keys that can be told a second time is not divided.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_not_of_keys_stay_whole() {
    let lab = Lab::cluster(2, 2);
    tables(&lab).await;
    for sql in [
        "select count(*), sum(v) from a",
        "select n, v from a where v > 7",
        "select n, v from a order by v, n limit 9",
        "select n, row_number() over (order by n) from a",
        "select v + 1 from (select v from a distribute by random())",
        "select k, n from a union all select k, n from b",
    ] {
        lab.runner.key_parts.store(2, Ordering::SeqCst);
        sorted(&lab, sql).await;
        assert!(!may_divide(&lab), "{sql}");
    }
}

/// Who merges the lanes of a stage counts on no more of them than were planned.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_whose_lanes_are_merged_is_not_divided() {
    let lab = Lab::cluster(2, 2);
    tables(&lab).await;
    sorted(&lab, "select k, count(*) as c from a group by k order by c, k limit 5").await;
    let last = lab.runner.last.lock();
    let stages = &last.as_ref().unwrap().graph.stages;
    let merged = stages.iter().find(|stage| stage.output.kind() == "merge").unwrap();
    assert!(!merged.adapts.divided.is_empty() && !merged.adapts.by_key);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_divided_where_nothing_is_adapted() {
    let lab = Lab::cluster(2, 2);
    tables(&lab).await;
    lab.batches("set firesteel.adaptive = false").await.unwrap();
    sorted(&lab, BY_KEY[0]).await;
    assert!(!may_divide(&lab));
}
