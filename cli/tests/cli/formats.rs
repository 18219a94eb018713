//! A result in each of its formats, on standard output and in a file.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::files::{people, select_people};
use crate::support::{command, names_in, sql, sql_arguments};

const TABLE: &str = "\
+----+---------------+
| id | name          |
+====================+
|  1 | Ada           |
|  2 | NULL          |
|  3 | Grace, Hopper |
+----+---------------+
";
const CSV: &str = "id,name\n1,Ada\n2,\n3,\"Grace, Hopper\"\n";
const JSONL: &str =
    "{\"id\":1,\"name\":\"Ada\"}\n{\"id\":2,\"name\":null}\n{\"id\":3,\"name\":\"Grace, Hopper\"}\n";

#[test]
fn texts_on_standard_output() {
    let (_folder, file) = people();
    let query = select_people(&file);
    for (format, expected) in [("table", TABLE), ("csv", CSV), ("jsonl", JSONL)] {
        assert_eq!(sql(&["-q", "--format", format, "-c", &query]).printed(), expected, "{format}");
    }
    let json = sql(&["-q", "--format", "json", "-c", &query]).printed();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[1], serde_json::json!({ "id": 2, "name": null }));
    assert!(json.ends_with("]\n"), "{json}");
}

#[test]
fn the_name_of_the_file_decides_unless_a_format_is_given() {
    let (folder, file) = people();
    let query = select_people(&file);
    for (name, format, expected) in
        [("out.csv", None, CSV), ("out.jsonl", None, JSONL), ("out.txt", Some("csv"), CSV)]
    {
        let out = folder.path().join(name);
        let mut arguments = vec!["-q", "-c", &query, "--output", out.to_str().unwrap()];
        arguments.extend(format.into_iter().flat_map(|format| ["--format", format]));
        assert_eq!(sql(&arguments).printed(), "");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), expected, "{name}");
    }
    assert_eq!(names_in(folder.path()), ["out.csv", "out.jsonl", "out.txt", "people.csv"]);
}

#[test]
fn binary_files_can_be_read_by_others() {
    let (folder, file) = people();
    let query = select_people(&file);
    let written = |name: &str| {
        let out = folder.path().join(name);
        sql(&["-q", "-c", &query, "-o", out.to_str().unwrap()]).printed();
        File::open(out).unwrap()
    };
    let arrow = FileReader::try_new(written("out.arrow"), None).unwrap();
    assert_people(&arrow.map(Result::unwrap).collect::<Vec<_>>());
    let parquet = ParquetRecordBatchReaderBuilder::try_new(written("out.parquet")).unwrap().build().unwrap();
    assert_people(&parquet.map(Result::unwrap).collect::<Vec<_>>());
}

#[test]
fn arrow_on_standard_output_is_a_stream() {
    let (_folder, file) = people();
    let query = select_people(&file);
    let output = command(&sql_arguments(&["--format", "arrow", "-c", &query])).output().unwrap();
    let batches = StreamReader::try_new(output.stdout.as_slice(), None).unwrap();
    assert_people(&batches.map(Result::unwrap).collect::<Vec<_>>());
}

fn assert_people(batches: &[RecordBatch]) {
    let batch = arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1, 2, 3]);
    assert!(batch.column(1).is_null(1) && batch.column(1).is_valid(0));
}

#[test]
fn a_result_without_rows_has_its_columns() {
    let none = "select 1 as a, 'x' as b where false";
    assert_eq!(sql(&["-q", "--format", "csv", "-c", none]).printed(), "a,b\n");
    assert_eq!(sql(&["-q", "--format", "json", "-c", none]).printed(), "[]\n");
    assert!(sql(&["-q", "-c", none]).printed().contains("| a | b |"));
}

#[test]
fn no_more_rows_are_shown_than_asked_for() {
    let ended = sql(&[
        "--format",
        "csv",
        "--max-rows",
        "2",
        "-c",
        "select * from (values (1), (2), (3)) t(v) order by v",
    ]);
    assert!(ended.stderr.contains("(2 rows shown, there are more"), "{}", ended.stderr);
    assert_eq!(ended.printed(), "v\n1\n2\n");
}

#[test]
fn what_cannot_be_written_ends_with_5() {
    sql(&["-c", "select 1", "-o", "/no/such/folder/x.csv"]).told(5, &["/no/such/folder/x.csv", "hint: "]);
    let folder = tempfile::tempdir().unwrap();
    sql(&["-c", "select 1", "-o", folder.path().to_str().unwrap()]).told(5, &["it is a folder"]);
    let full = "select i, i * i as square from generate_series(1, 1000000) as s(i)";
    if Path::new("/dev/full").exists() {
        sql(&["-c", full, "--format", "csv", "-o", "/dev/full"]).told(5, &["/dev/full"]);
    }
}

#[test]
fn a_query_that_fails_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    std::fs::write(&out, "old").unwrap();
    let query = "select 1000 / (i - 500000) as v from generate_series(1, 1000000) as s(i)";
    sql(&["-c", query, "-o", out.to_str().unwrap()]).told(1, &["zero"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "old");
    assert_eq!(names_in(folder.path()), ["out.csv"]);
}
