//! Sessions on this machine.

use firesteel_base::ByteSize;
use firesteel_driver::{LocalOptions, Phase, Session};
use firesteel_engine::datafusion::prelude::ParquetReadOptions;
use futures::StreamExt;

use crate::support::{QUERIES, Tables, local, local_options, number, rows, until};

#[tokio::test]
async fn parquet_csv_and_values_are_queried_alike_with_any_number_of_cores() {
    let tables = Tables::make(20_000).await;
    let (one, _scratch) = local(1).await;
    let (two, _scratch_too) = local(2).await;
    tables.register(&one).await;
    tables.register(&two).await;
    for sql in QUERIES {
        let (left, right) = (rows(&one, sql).await, rows(&two, sql).await);
        assert_eq!(left, right, "{sql}");
        assert!(left.len() > 1, "{sql}: {left:?}");
    }
    let joined = "select count(*) from t join (values (1), (2), (99)) as w(g) on t.g = w.g";
    assert_eq!(number(&two, joined).await, 2 * 20_000 / 17 + 2);
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn the_dataframe_interface_runs_as_jobs_too() {
    let tables = Tables::make(1000).await;
    let (session, _scratch) = local(2).await;
    let frame = session
        .context()
        .read_parquet(format!("{}/t/", tables.path().display()), ParquetReadOptions::default())
        .await
        .unwrap();
    assert_eq!(frame.count().await.unwrap(), 1000);
    let progress = until(&session, |progress| progress.phase == Phase::Succeeded).await;
    assert_eq!(progress.tasks(), (1, 1), "in local mode a query is one stage of one task");
    session.close().await;
}

#[tokio::test]
async fn more_partitions_than_cores_are_dealt_out() {
    let tables = Tables::make(1000).await;
    let (session, _scratch) = local(2).await;
    tables.register(&session).await;
    let union = "select k from t union all select k from t union all select v from t";
    assert_eq!(rows(&session, union).await.len(), 3 * 1000 + 1);
    session.sql("set firesteel.partitions = 7").await.unwrap();
    assert_eq!(rows(&session, union).await.len(), 3 * 1000 + 1);
    assert_eq!(rows(&session, "select v, count(*) from t group by v").await.len(), 143 + 1);
    session.close().await;
}

#[tokio::test]
async fn a_result_larger_than_memory_streams() {
    let scratch = tempfile::tempdir().unwrap();
    let options = LocalOptions { memory: Some(ByteSize(32 << 20)), ..local_options(2, scratch.path()) };
    let session = Session::local(options).await.unwrap();
    // 8 million rows of 16 bytes are four times the memory.
    let sql = "select a.value * 4000 + b.value as n, a.value as m \
               from generate_series(0, 1999) a, generate_series(0, 3999) b";
    let mut stream = session.sql(sql).await.unwrap().execute_stream().await.unwrap();
    let mut count = 0;
    while let Some(batch) = stream.next().await {
        count += batch.unwrap().num_rows();
    }
    assert_eq!(count, 8_000_000);
    session.close().await;
}

#[tokio::test]
async fn two_sessions_do_not_know_of_each_other() {
    let (left, _scratch) = local(1).await;
    let (right, _scratch_too) = local(1).await;
    left.sql("create view w as select 1 as n").await.unwrap();
    right.sql("create view w as select 2 as n").await.unwrap();
    let (one, two) = tokio::join!(number(&left, "select n from w"), number(&right, "select n from w"));
    assert_eq!((one, two), (1, 2));
    left.close().await;
    assert_eq!(number(&right, "select n + 1 from w").await, 3);
    right.close().await;
}

#[tokio::test]
async fn queries_of_one_session_run_at_the_same_time() {
    let tables = Tables::make(5000).await;
    let (session, _scratch) = local(2).await;
    tables.register(&session).await;
    let counts = (0..6).map(|g| {
        let session = session.clone();
        async move { number(&session, &format!("select count(*) from t where g = {g}")).await }
    });
    let counts: Vec<_> = futures::future::join_all(counts).await;
    assert_eq!(counts.iter().sum::<i64>(), 5000 / 17 * 6 + 2);
    session.close().await;
}

#[test]
fn the_callers_runtime_does_not_matter() {
    // Without any runtime; the session's own work is on its own threads.
    let scratch = tempfile::tempdir().unwrap();
    let options = local_options(1, scratch.path());
    let session = futures::executor::block_on(Session::local(options)).unwrap();
    let count =
        futures::executor::block_on(number(&session, "select count(*) from (values (1), (2)) as t(v)"));
    assert_eq!(count, 2);
    futures::executor::block_on(session.close());
}

#[tokio::test]
async fn a_closed_session_leaves_nothing_in_its_scratch_folder() {
    let (session, scratch) = local(2).await;
    number(&session, "select count(*) from generate_series(1, 100000)").await;
    session.close().await;
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_the_machine_does_not_have_is_refused() {
    let error =
        Session::local(LocalOptions { cores: Some(100_000), ..LocalOptions::default() }).await.unwrap_err();
    assert!(error.message.contains("100000 cores are asked for"), "{error}");
    let conf = [("datafusion.execution.batch_sise".to_owned(), "1".to_owned())].into();
    let error =
        Session::local(LocalOptions { cores: Some(1), conf, ..LocalOptions::default() }).await.unwrap_err();
    assert!(error.to_string().contains("batch_size"), "{error}");
}
