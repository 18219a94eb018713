//! COPY TO and INSERT INTO: all or nothing.

use std::sync::atomic::Ordering;

use crate::lab::Lab;

/// Fails at its last row, after rows that could be written.
const FAILS_LATE: &str =
    "select 10 / n as n from (select unnest(range(20000, -1, -1)) as n union all select 1) as t";

#[tokio::test(flavor = "multi_thread")]
async fn copies_to_files_and_folders() {
    for lab in Lab::both() {
        lab.write("in.csv", "n,m\n1,a\n2,b\n3,b\n");
        assert_eq!(lab.value("copy (select * from '$dir/in.csv') to '$dir/new/deep/out.parquet'").await, "3");
        assert_eq!(lab.files("new"), ["deep/out.parquet"]);
        lab.rows("copy (select 7 as n) to '$dir/new/deep/out.parquet'").await;
        assert_eq!(lab.value("select sum(n) from '$dir/new/deep/out.parquet'").await, "7");
        for rows in [1, 2] {
            lab.rows("copy (select 1 as n) to '$dir/folder/' stored as parquet").await;
            assert_eq!(lab.value("select count(*) from '$dir/folder/'").await, rows.to_string());
        }
        lab.rows("copy (select * from '$dir/in.csv') to '$dir/hive/' stored as csv partitioned by (m)").await;
        let folders: Vec<_> =
            lab.files("hive").iter().map(|file| file.split('/').next().unwrap().to_owned()).collect();
        assert_eq!(folders, ["m=a", "m=b"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_add_files_to_a_folder() {
    for lab in Lab::both() {
        lab.rows("create external table t (n bigint, m varchar) stored as parquet location '$dir/t/'").await;
        assert_eq!(lab.value("select count(*) from t").await, "0");
        lab.rows("insert into t values (1, 'a'), (2, 'b')").await;
        lab.rows("insert into t select n + 10, m from t").await;
        assert_eq!(lab.value("select sum(n) from t").await, "26");
        assert!(lab.files("t").iter().all(|file| file.ends_with(".parquet")), "{:?}", lab.files("t"));
        lab.rows(
            "create external table p (n bigint, m varchar) stored as parquet partitioned by (m) \
             location '$dir/p/'",
        )
        .await;
        lab.rows("insert into p select n, m from t").await;
        assert_eq!(lab.value("select sum(n) from p where m = 'b'").await, "14");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_leaves_nothing() {
    for lab in Lab::both() {
        lab.rows("create external table t (n bigint) stored as parquet location '$dir/t/'").await;
        lab.rows("insert into t values (1)").await;
        let before = lab.files("");
        for write in [
            "copy (FAILS) to '$dir/a/b/out.parquet'",
            "copy (FAILS) to '$dir/out.csv'",
            "copy (FAILS) to '$dir/out.arrow'",
            "copy (FAILS) to '$dir/folder/' stored as json",
            "copy (FAILS) to '$dir/t/' stored as parquet",
            "insert into t FAILS",
        ] {
            let fault = lab.fault(&write.replace("FAILS", FAILS_LATE)).await;
            assert!(fault.to_lowercase().contains("divi"), "{fault}");
            assert_eq!(lab.files(""), before, "{write}");
            assert!(!lab.path("a").exists() && !lab.path("folder").exists(), "{write}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_leaves_the_old_file() {
    for lab in Lab::both() {
        lab.rows("copy (select 1 as n) to '$dir/out.parquet'").await;
        lab.fault(&format!("copy ({FAILS_LATE}) to '$dir/out.parquet'")).await;
        assert_eq!(lab.value("select n from '$dir/out.parquet'").await, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_write_leaves_nothing() {
    for lab in Lab::both() {
        let sql = lab.path("out.parquet").display().to_string();
        let sql = format!("copy (select unnest(range(1000000)) as n) to '{sql}'");
        let stream = lab.session.sql(&sql).await.unwrap().execute_stream().await.unwrap();
        assert_eq!(std::fs::read_dir(lab.folder.path()).unwrap().count(), 1, "the staging folder is there");
        drop(stream);
        assert_eq!(std::fs::read_dir(lab.folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_attempt_writes_its_rows_once() {
    let lab = Lab::cluster(2, 1);
    lab.runner.lose_first_results.store(true, Ordering::SeqCst);
    lab.rows("create external table t (n bigint) stored as parquet location '$dir/t/'").await;
    lab.rows("insert into t values (1), (2)").await;
    lab.rows("copy (select 1 as n union all select 2) to '$dir/folder/' stored as csv").await;
    assert_eq!(lab.value("select count(*) from t").await, "2");
    assert_eq!(lab.value("select count(*) from '$dir/folder/'").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_told() {
    for lab in Lab::both() {
        lab.write("in.csv", "n\n1\n");
        lab.write("gz/in.csv.gz", [0x1f, 0x8b]);
        lab.rows("create external table one stored as csv location '$dir/in.csv'").await;
        let fault = lab.fault("insert into one values (2)").await;
        assert!(fault.contains("rows cannot be added to table 'one'"), "{fault}");
        let fault = lab.fault("copy (select 1 as n) to '$dir/in.csv/x.csv'").await;
        assert!(fault.contains("a part of the path is a file"), "{fault}");
        let fault = lab.fault("copy (select 1 as n) to 'gs://bucket/x.csv'").await;
        assert!(fault.contains("there is no store of the kind 'gs'"), "{fault}");
        let fault = lab.fault("copy (select 1 as n) to '$dir/x.csv' options ('format.delimeter' ';')").await;
        assert!(fault.contains("delimeter"), "{fault}");
    }
}
