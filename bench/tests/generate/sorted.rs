//! Files of sorted rows.

use std::fs::{self, File};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use firesteel_bench::{Benchmark, GenerateOptions, Manifest};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{SCALE, make, read};

/// By what each table is sorted, where that is not its first column.
const KEYS: [(&str, &[&str]); 3] = [
    ("lineitem", &["l_shipdate"]),
    ("orders", &["o_orderdate"]),
    ("partsupp", &["ps_partkey", "ps_suppkey"]),
];

fn key_of(table: &str, rows: &RecordBatch) -> Vec<String> {
    let by_name = KEYS.iter().find(|(name, _)| *name == table);
    let first = || vec![rows.schema().field(0).name().clone()];
    by_name.map_or_else(first, |(_, key)| key.iter().map(|name| (*name).to_owned()).collect())
}

/// The rows by their key, those that tie in the order in which they are.
fn sorted(rows: &RecordBatch, key: &[String]) -> RecordBatch {
    let column = |values: ArrayRef| SortColumn {
        values,
        options: Some(SortOptions { descending: false, nulls_first: false }),
    };
    let mut columns: Vec<_> =
        key.iter().map(|name| column(rows.column_by_name(name).unwrap().clone())).collect();
    let positions = UInt32Array::from_iter_values(0..u32::try_from(rows.num_rows()).unwrap());
    columns.push(column(std::sync::Arc::new(positions)));
    take_record_batch(rows, &lexsort_to_indices(&columns, None).unwrap()).unwrap()
}

/// What the footer of a file says of its order: positions of columns, of which none is descending or has nulls first.
fn declared(options: &GenerateOptions, manifest: &Manifest, table: &str) -> Option<Vec<i32>> {
    let file = File::open(options.out.join(&manifest.tables[table].files[0].path)).unwrap();
    let footer = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let columns = footer.metadata().row_group(0).sorting_columns()?;
    assert!(columns.iter().all(|column| !column.descending && !column.nulls_first));
    Some(columns.iter().map(|column| column.column_idx).collect())
}

fn check(benchmark: Benchmark, scale: f64) {
    let dir = tempfile::tempdir().unwrap();
    let options = |name: &str, files: u32, sorted: bool| GenerateOptions {
        sorted,
        files,
        ..GenerateOptions::new(benchmark, scale, dir.path().join(name))
    };
    let (plain, one, many) = (options("plain", 1, false), options("one", 1, true), options("many", 5, true));
    let (in_plain, in_one, in_many) = (make(&plain), make(&one), make(&many));
    assert!(in_many.recipe.sorted);
    assert!(!many.out.join(".sort").exists());
    for table in benchmark.table_names() {
        let rows = read(&plain.out, &in_plain, table);
        let key = key_of(table, &rows);
        let expected = sorted(&rows, &key);
        assert!(read(&one.out, &in_one, table) == expected, "{table} in one file");
        assert!(read(&many.out, &in_many, table) == expected, "{table} in many files");
        assert_eq!(declared(&plain, &in_plain, table), None);
        let positions: Vec<_> =
            key.iter().map(|name| i32::try_from(rows.schema().index_of(name).unwrap()).unwrap()).collect();
        assert_eq!(declared(&many, &in_many, table), Some(positions), "{table}");
    }
}

#[test]
fn rows_are_sorted_within_and_across_files() {
    check(Benchmark::Tpch, SCALE);
    check(Benchmark::Tpcds, SCALE);
}

#[test]
fn files_of_sorted_rows_are_alike_in_size() {
    let dir = tempfile::tempdir().unwrap();
    let options = GenerateOptions {
        sorted: true,
        ..GenerateOptions::new(Benchmark::Tpch, SCALE, dir.path().join("data"))
    };
    let manifest = make(&options);
    for (table, entry) in &manifest.tables {
        let mean = entry.rows / entry.files.len() as u64;
        assert!(
            entry.files.iter().all(|file| file.rows > mean / 2 && file.rows < mean * 2),
            "{table} {:?}",
            entry.files
        );
    }
    assert_eq!(manifest.tables["lineitem"].files.len(), 8);
}

#[test]
fn a_folder_of_sorted_rows_left_half_way_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let options = GenerateOptions {
        sorted: true,
        files: 3,
        ..GenerateOptions::new(Benchmark::Tpch, SCALE, dir.path().join("data"))
    };
    let whole = make(&options);
    let path = |name: &str| options.out.join(name);
    let kept = || fs::metadata(path("lineitem/part-000.parquet")).unwrap().modified().unwrap();
    let before = kept();

    fs::rename(path("manifest.json"), path(".in-work.json")).unwrap();
    fs::write(path(".in-work.json"), serde_json::to_vec(&whole.recipe).unwrap()).unwrap();
    fs::remove_file(path("lineitem/part-001.parquet")).unwrap();
    fs::create_dir_all(path(".sort/lineitem")).unwrap();
    fs::write(path(".sort/lineitem/run-00000.arrow"), "half a run").unwrap();
    fs::write(path(".sort/lineitem/run-00077.arrow"), "of another plan").unwrap();
    assert_eq!(make(&options), whole);
    assert_eq!(kept(), before);
    assert!(!path(".sort").exists());
}
