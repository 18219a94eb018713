//! What is not a query over files: views, tables in memory, settings, the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use firesteel_engine::{EngineSession, Place, SessionOptions};

use crate::lab::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn views_and_tables_in_memory() {
    for lab in Lab::both() {
        lab.rows("create table numbers as select * from (values (1), (2), (3)) as t (n)").await;
        lab.rows("create view odd as select n from numbers where n % 2 = 1").await;
        lab.rows("create view big as select n * 100 as n from odd").await;
        assert_eq!(lab.value("select sum(n) from big").await, "400");
        lab.rows("insert into numbers values (5)").await;
        assert_eq!(lab.value("select sum(n) from big").await, "900");
        lab.rows("drop view big").await;
        lab.rows("drop table numbers").await;
        assert!(lab.fault("select * from numbers").await.starts_with("table 'numbers' does not exist"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_read_in_the_driver() {
    for lab in Lab::both() {
        lab.rows("create view one as select 1 as n").await;
        let tables = lab.rows("show tables").await;
        assert!(tables.contains("| one "), "{tables}");
        let job = lab.runner.last.lock().take().unwrap();
        assert!(matches!(job.graph.place, Place::Driver(_)));
        assert_eq!(job.sql, "show tables");
        assert!(lab.rows("describe one").await.contains("Int64"));
        assert_eq!(
            lab.value("select count(*) from information_schema.tables where table_name = 'one'").await,
            "1"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_set_and_shown() {
    let lab = Lab::cluster(2, 1);
    assert!(lab.rows("show firesteel.partitions").await.contains("| firesteel.partitions | 0 "));
    lab.rows("set firesteel.partitions = 5").await;
    assert!(lab.rows("show firesteel.partitions").await.contains("| firesteel.partitions | 5 "));
    lab.rows("select n, count(*) from (values (1), (2)) as t (n) group by n").await;
    let job = lab.runner.last.lock().take().unwrap();
    assert_eq!(job.graph.stages[0].output.partitions(), 5, "{}", job.graph);
    lab.rows("set datafusion.execution.target_partitions = 3").await;
    lab.rows("select n, count(*) from (values (1), (2)) as t (n) group by n").await;
    let job = lab.runner.last.lock().take().unwrap();
    assert_eq!(job.graph.stages[0].output.partitions(), 3, "{}", job.graph);
    let fault = lab.fault("set firesteel.partition = 5").await;
    assert!(fault.contains("did you mean firesteel.partitions?"), "{fault}");
    let fault = lab.fault("set datafusion.runtime.memory_limit = '1G'").await;
    assert!(fault.contains("executors"), "{fault}");
}

#[test]
fn unknown_settings_are_refused_at_the_start() {
    let conf = BTreeMap::from([("datafusion.optimizer.prefer_hash_joins".to_owned(), "true".to_owned())]);
    let options = SessionOptions { conf, ..SessionOptions::default() };
    let lab = Lab::local();
    let fault = EngineSession::new(Arc::clone(&lab.runner) as _, options).unwrap_err();
    assert_eq!(fault.hint.as_deref(), Some("did you mean datafusion.optimizer.prefer_hash_join?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_run_with_their_values() {
    for lab in Lab::both() {
        lab.rows("prepare doubled(bigint) as select $1 * 2 as n").await;
        assert_eq!(lab.value("execute doubled(21)").await, "42");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subqueries_give_one_answer_everywhere() {
    let queries = [
        ("select sum(n) from t where n > (select avg(n) from t)", "7"),
        ("select (select max(n) from t) + 1 as n", "5"),
        ("select max(n) from t order by (select min(n) from t)", "4"),
        ("select count(*) from t where n in (select n + 1 from t)", "3"),
        (
            "with recursive c(n) as (select 1 union all select n + 1 from c where n < 9) select sum(n) from c",
            "45",
        ),
    ];
    for lab in Lab::both() {
        lab.write("t/a.csv", "n\n1\n2\n");
        lab.write("t/b.csv", "n\n3\n4\n");
        lab.rows("create external table t stored as csv location '$dir/t/'").await;
        for (query, answer) in queries {
            assert_eq!(lab.value(query).await, answer, "{query}");
        }
    }
}
