//! Mistakes in statements and in what they read: each gets one clear error.

use crate::files::people;
use crate::support::{names_in, run, sql};

#[test]
fn names_that_do_not_exist_are_named() {
    sql(&["-c", "select * from nowhere"]).told(1, &["nowhere"]);
    sql(&["-c", "select nix from (values (1)) t(x)"]).told(1, &["nix"]);
    sql(&["-c", "select no_such_function(1)"]).told(1, &["no_such_function"]);
}

#[test]
fn sql_that_does_not_parse_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    let script = format!("copy (select 1) to '{}';\nselec 2", out.display());
    sql(&["-c", &script]).told(1, &["selec"]);
    assert!(!out.exists());
}

#[test]
fn the_statement_that_fails_is_told() {
    sql(&["-q", "-c", "select 1;\n\nselect * from nowhere"])
        .told(1, &["nowhere", "statement 2 of 2", "line 3"]);
}

#[test]
fn files_that_are_not_there_or_empty_are_named() {
    sql(&["-c", "select * from '/no/such/file.parquet'"]).told(1, &["/no/such/file.parquet"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    sql(&["-c", &format!("create external table t stored as parquet location '{path}/'; select * from t")])
        .told(1, &[path]);
    sql(&["-f", "/no/such/script.sql"]).told(2, &["/no/such/script.sql"]);
    sql(&["-f", path]).told(2, &[path]);
}

#[test]
fn a_damaged_parquet_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.parquet");
    let copy = format!("copy (select * from generate_series(1, 1000)) to '{}'", whole.display());
    sql(&["-q", "-c", &copy]).printed();
    let bytes = std::fs::read(&whole).unwrap();
    let cut = folder.path().join("cut.parquet");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    sql(&["-c", &format!("select * from '{}'", cut.display())]).told(1, &["cut.parquet"]);
    std::fs::write(&cut, b"").unwrap();
    sql(&["-c", &format!("select * from '{}'", cut.display())]).told(1, &["cut.parquet"]);
}

#[test]
fn a_csv_file_with_ragged_rows_is_named() {
    let (folder, file) = people();
    std::fs::write(&file, "id,name\n1,Ada\n2,Grace,Hopper,1906\n").unwrap();
    sql(&["-c", &format!("select * from '{}'", file.display())]).told(1, &["people.csv"]);
    assert_eq!(names_in(folder.path()), ["people.csv"]);
}

#[test]
fn a_copy_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let query = "select 1000 / (i - 500000) as v from generate_series(1, 1000000) as s(i)";
    sql(&["-c", &format!("copy ({query}) to '{}/v.parquet'", out.display())]).told(1, &["zero"]);
    assert_eq!(names_in(&out), Vec::<String>::new());
}

#[test]
fn more_cores_than_the_machine_has_are_refused() {
    run(&["sql", "--cores", "4000", "-c", "select 1"]).told(1, &["4000"]);
    run(&["local-cluster", "--cores-per-executor", "4000", "--port", "0"])
        .told(2, &["4000", "--cores-per-executor"]);
}

#[test]
fn a_manager_that_is_not_there_ends_with_3() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for arguments in [
        &["jobs", "--manager", &free][..],
        &["nodes", "--manager", &free],
        &["sql", "--manager", &free, "-c", "select 1"],
    ] {
        run(arguments).told(3, &[&free, "hint: "]);
    }
    let folder = tempfile::tempdir().unwrap();
    let job = folder.path().join("job.sql");
    std::fs::write(&job, "select 1").unwrap();
    run(&["submit", job.to_str().unwrap(), "--manager", &free]).told(3, &[&free]);
}

#[test]
fn jobs_that_cannot_be_are_not_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let job = folder.path().join("job.sql");
    let submit = |sql: &str, more: &[&str]| {
        std::fs::write(&job, sql).unwrap();
        run(&[&["submit", job.to_str().unwrap(), "--manager", "127.0.0.1:1"][..], more].concat())
    };
    submit("selec 1", &[]).told(1, &["selec"]);
    submit("-- nothing\n", &[]).told(2, &["holds no statement"]);
    submit("select 1;", &["--detach", "--deploy-mode", "client"]).told(2, &["--detach"]);
    run(&["submit", "/no/such/job.sql"]).told(2, &["/no/such/job.sql"]);
}
