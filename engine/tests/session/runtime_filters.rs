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

#[tokio::test(flavor = "multi_thread")]
async fn outer_and_anti_joins_keep_the_rows_that_find_nothing() {
    for lab in Lab::both() {
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
