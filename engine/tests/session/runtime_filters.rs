//! Rows that a join would drop are dropped near their scan, and the answer stays the same.

use crate::lab::Lab;

/// Sales of 1000 parts, of which 20 are blue; some sales are of no part.
async fn shop(lab: Lab) -> Lab {
    let sales =
        "select nullif(value % 1000, 999) as part, value % 50 as amount from generate_series(1, 200000)";
    let parts = "select value as part, case when value % 50 = 7 then 'blue' else 'red' end as colour \
                 from generate_series(0, 998)";
    for (name, rows) in [("sales", sales), ("parts", parts)] {
        lab.rows(&format!("copy ({rows}) to '$dir/{name}/' stored as parquet")).await;
        lab.rows(&format!("create external table {name} stored as parquet location '$dir/{name}/'")).await;
    }
    lab
}

/// What parts of a colour bring, above what each of them brings on average. The sums are of all parts before the join.
const QUERY: &str = "select count(*), sum(s.total), min(p.part) from parts p \
     join (select part, sum(amount) as total from sales group by part) s on s.part = p.part where p.colour = 'blue'";

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregation_below_a_join_reads_only_what_the_join_wants() {
    let lab = shop(Lab::local()).await;
    let filtered = lab.rows(&format!("explain analyze {QUERY}")).await;
    let line = filtered.lines().find(|line| line.contains("RuntimeFilterExec: on=[part@")).expect(&filtered);
    // 20 parts of 200 sales each, and not 200,000.
    assert!(line.contains("output_rows=4.00 K") || line.contains("output_rows=4000"), "{line}");
    let with = lab.rows(QUERY).await;
    lab.rows("set firesteel.runtime_filters = false").await;
    let without = lab.rows(&format!("explain analyze {QUERY}")).await;
    assert!(!without.contains("RuntimeFilterExec"), "{without}");
    assert_eq!(with, lab.rows(QUERY).await);
}

/// A cluster that sends no table whole to every task.
async fn without_broadcasts(lab: Lab) -> Lab {
    lab.rows("set firesteel.broadcast_threshold = '0B'").await;
    lab.rows("set datafusion.optimizer.hash_join_single_partition_threshold_rows = 0").await;
    lab
}

/// The rows that come out of the filter that `line` starts with, in the text of EXPLAIN ANALYZE.
fn filtered_rows(text: &str, line: &str) -> String {
    let found = text.lines().find(|found| found.contains(line)).unwrap_or_else(|| panic!("{line}: {text}"));
    // Nothing is said of no rows.
    let Some(rows) = found.split("output_rows=").nth(1) else { return "0".to_owned() };
    rows.split([',', ']']).next().expect("its end").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_told_the_keys_of_a_join_across_an_exchange() {
    let lab = shop(without_broadcasts(Lab::cluster(2, 2)).await).await;
    let with = lab.rows(QUERY).await;
    let text = lab.rows(&format!("explain analyze {QUERY}")).await;
    assert_eq!(filtered_rows(&text, "RuntimeFilterExec: on=[part@0 told by s0]"), "4000", "{text}");
    let text = lab.rows(&format!("explain {QUERY}")).await;
    assert!(text.contains(", tells part@0") && text.contains(", told by s0"), "{text}");
    lab.rows("set firesteel.runtime_filters = false").await;
    let text = lab.rows(&format!("explain analyze {QUERY}")).await;
    assert!(!text.contains("told by"), "{text}");
    assert_eq!(with, lab.rows(QUERY).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_side_in_one_partition_becomes_a_stage_that_tells_its_keys() {
    let lab = shop(Lab::cluster(2, 2)).await;
    let with = lab.rows(QUERY).await;
    let stages = lab.rows(&format!("explain {QUERY}")).await;
    assert!(stages.contains("stage s0: 1 partitions -> broadcast, tells part@0"), "{stages}");
    let text = lab.rows(&format!("explain analyze {QUERY}")).await;
    assert_eq!(filtered_rows(&text, "RuntimeFilterExec: on=[part@0 told by s0]"), "4000", "{text}");
    lab.rows("set firesteel.runtime_filters = false").await;
    assert_eq!(with, lab.rows(QUERY).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_rows_cross_an_exchange_more_to_tell_their_keys() {
    let lab = shop(without_broadcasts(Lab::cluster(2, 2)).await).await;
    // Every part has one amount; 20 parts have that of 49.
    let best = "(select part from sales group by part having sum(amount) > 48 * count(*)) best";
    let summed = "(select part, count(*) as sales from sales group by part) s";
    let query = format!("select count(*), sum(s.sales) from {best} join {summed} on best.part = s.part");
    let with = lab.rows(&query).await;
    let text = lab.rows(&format!("explain analyze {query}")).await;
    assert_eq!(filtered_rows(&text, "RuntimeFilterExec: on=[part@0 told by s1]"), "3800", "{text}");
    lab.rows("set firesteel.runtime_filters = false").await;
    let text = lab.rows(&format!("explain {query}")).await;
    assert!(!text.contains("tells"), "{text}");
    assert_eq!(with, lab.rows(&query).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_columns_are_told_one_by_one() {
    let lab = shop(without_broadcasts(Lab::cluster(2, 2)).await).await;
    let query = "select count(*), sum(s.amount) from sales s \
                 join (select part, amount from sales where part < 20 and amount > 47) few \
                 on s.part = few.part and s.amount = few.amount";
    let text = lab.rows(&format!("explain analyze {query}")).await;
    let line = "RuntimeFilterExec: on=[part@0 told by s0, amount@1 told by s0]";
    // The parts 0 to 19 have amounts of 0 to 19: no row is left to be sent.
    assert_eq!(filtered_rows(&text, line), "0", "{text}");
    let none = lab.rows(query).await;
    lab.rows("set firesteel.runtime_filters = false").await;
    assert_eq!(none, lab.rows(query).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_range_too_widely_let_all_rows_pass() {
    let lab = shop(without_broadcasts(Lab::cluster(2, 2)).await).await;
    let wide = "(select part * 1000000007 as part, total from \
                 (select part, sum(amount) as total from sales group by part)) s";
    let blue = "(select part * 1000000007 as part from parts where colour = 'blue') p";
    let query = format!("select count(*), sum(total) from {blue} join {wide} on s.part = p.part");
    let with = lab.rows(&query).await;
    assert!(with.contains("| 20 "), "{with}");
    lab.rows("set firesteel.runtime_filters = false").await;
    assert_eq!(with, lab.rows(&query).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn outer_and_anti_joins_keep_the_rows_that_find_nothing() {
    let [local, cluster] = Lab::both();
    for lab in [local, cluster, without_broadcasts(Lab::cluster(2, 2)).await] {
        let lab = shop(lab).await;
        let summed = "(select part, sum(amount) as total from sales group by part) s";
        let blue = "(select part from parts where colour = 'blue') p";
        for join in ["left", "right", "full", "left semi", "left anti", "right semi", "right anti"] {
            let query = format!("select count(*) from {blue} {join} join {summed} on s.part = p.part");
            let with = lab.value(&query).await;
            lab.rows("set firesteel.runtime_filters = false").await;
            let without = lab.value(&query).await;
            lab.rows("set firesteel.runtime_filters = true").await;
            assert_eq!(with, without, "{query}");
        }
        let not_in = format!("select count(*) from {summed} where part not in (select part from {blue})");
        assert_eq!(lab.value(&not_in).await, "979");
    }
}
