//! `firesteel sql`: where statements come from, several of them, interruption.

use std::io::{BufRead, BufReader, Read};

use crate::support::{Reaped, command, names_in, run_with_input, signal, sql, sql_arguments};

/// Rows that fill a pipe many times over.
const MANY: &str = "select i from generate_series(1, 1000000) as s(i) order by i";
/// A query that nobody waits for.
const ENDLESS: &str = "select sum(i % 7) from generate_series(1, 1000000000000) as s(i)";

#[test]
fn statements_come_from_flags_files_and_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("q.sql");
    std::fs::write(&file, "-- a comment; with a semicolon\nselect 2 as two;\n").unwrap();
    let csv = |arguments: &[&str]| sql(&[&["-q", "--format", "csv"][..], arguments].concat()).printed();
    assert_eq!(csv(&["-c", "select 1 as one"]), "one\n1\n");
    assert_eq!(csv(&["-f", file.to_str().unwrap()]), "two\n2\n");
    let input = "select 3 as three";
    let arguments = sql_arguments(&["-q", "--format", "csv"]);
    assert_eq!(run_with_input(&arguments, input).printed(), "three\n3\n");
    assert_eq!(run_with_input(&[arguments, vec!["-f", "-"]].concat(), input).printed(), "three\n3\n");
}

#[test]
fn several_statements_share_a_session_and_each_result_is_printed() {
    let script = "create view v as select 5 as five; select * from v; select five + 1 as six from v";
    let printed = sql(&["-q", "--format", "csv", "-c", script]).printed();
    assert_eq!(printed, "five\n5\nsix\n6\n");
}

#[test]
fn a_file_gets_the_result_of_the_last_statement() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    sql(&["-q", "-c", "select 1 as one; select 2 as two", "-o", out.to_str().unwrap()]).printed();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "two\n2\n");
}

#[test]
fn rows_and_time_are_told_beside_the_result() {
    let ended = sql(&["--format", "csv", "-c", "select 1 as one"]);
    assert!(ended.stderr.starts_with("(1 row, ") && ended.stderr.ends_with(" s)\n"), "{}", ended.stderr);
    assert_eq!(sql(&["-q", "-c", "select 1 as one"]).stderr, "");
}

#[test]
fn settings_are_set_and_wrong_ones_refused() {
    let shown = sql(&[
        "-q",
        "--format",
        "csv",
        "--conf",
        "datafusion.execution.batch_size=4096",
        "-c",
        "show datafusion.execution.batch_size",
    ]);
    assert!(shown.printed().contains("4096"));
    sql(&["--conf", "nonsense", "-c", "select 1"]).told(2, &["--conf nonsense", "KEY=VALUE"]);
    sql(&["--conf", "datafusion.no.such.key=1", "-c", "select 1"]).told(1, &["datafusion.no.such.key"]);
}

#[test]
fn copy_writes_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.parquet");
    let copy = format!("copy (select 1 as a union all select 2) to '{}'", out.display());
    sql(&["-q", "-c", &copy]).printed();
    let count = format!("select count(*) as n from '{}'", out.display());
    assert_eq!(sql(&["-q", "--format", "csv", "-c", &count]).printed(), "n\n2\n");
    assert_eq!(names_in(folder.path()), ["out.parquet"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let child = command(&sql_arguments(&["--format", "csv", "-c", MANY])).spawn().unwrap();
    let mut child = Reaped(child);
    let mut header = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut header).unwrap();
    assert_eq!(header, "i\n");
    let status = child.0.wait().unwrap();
    assert_eq!((status.code(), rest(&mut child).as_str()), (Some(0), ""));
}

#[test]
fn ctrl_c_ends_it_even_while_nobody_reads_its_rows() {
    let child = command(&sql_arguments(&["--format", "csv", "-c", MANY])).spawn().unwrap();
    let mut child = Reaped(child);
    let mut rows = BufReader::new(child.0.stdout.take().unwrap());
    // The header tells that rows are being written; after that it fills the pipe and is held up.
    rows.read_line(&mut String::new()).unwrap();
    signal(&child.0, "INT");
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    assert!(rest(&mut child).contains("error: the query was cancelled by Ctrl-C"));
}

#[test]
fn a_long_query_tells_how_far_it_is_and_can_be_stopped() {
    let mut child = Reaped(command(&sql_arguments(&["-c", ENDLESS])).spawn().unwrap());
    // A log gets its first line only after some seconds; that line tells that the query runs.
    let mut said = BufReader::new(child.0.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("tasks 0/"), "{line}");
    signal(&child.0, "TERM");
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    line.clear();
    said.read_to_string(&mut line).unwrap();
    assert!(line.contains("error: the query was cancelled by SIGTERM"), "{line}");
}

/// What it said on standard error.
fn rest(child: &mut Reaped) -> String {
    let mut said = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}
