//! Files of comma-separated text.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::csv::ReaderBuilder;
use arrow::datatypes::SchemaRef;
use firesteel_bench::{Benchmark, Compression, Format, GenerateOptions, Manifest};
use flate2::read::MultiGzDecoder;

use super::{SCALE, make, read};

/// The whole table as one batch, its files in order, read as rows of `schema`.
fn read_csv(folder: &Path, manifest: &Manifest, table: &str, schema: SchemaRef) -> RecordBatch {
    let of_file = |path: &str| -> Vec<RecordBatch> {
        let file = File::open(folder.join(path)).unwrap();
        let text: Box<dyn Read> =
            if path.ends_with(".gz") { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let reader = ReaderBuilder::new(schema.clone()).with_header(true).build(text).unwrap();
        reader.map(Result::unwrap).collect()
    };
    let batches: Vec<_> = manifest.tables[table].files.iter().flat_map(|file| of_file(&file.path)).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// Every table of the text files is that of the Parquet files.
fn check(benchmark: Benchmark, scale: f64, compression: Compression, extension: &str) {
    let dir = tempfile::tempdir().unwrap();
    let parquet = GenerateOptions::new(benchmark, scale, dir.path().join("parquet"));
    let csv = GenerateOptions {
        format: Format::Csv,
        compression: Some(compression),
        files: 3,
        ..GenerateOptions::new(benchmark, scale, dir.path().join("csv"))
    };
    let (in_parquet, in_csv) = (make(&parquet), make(&csv));
    assert_eq!(in_csv.recipe.row_group_rows, None);
    for table in benchmark.table_names() {
        let rows = read(&parquet.out, &in_parquet, table);
        assert_eq!(read_csv(&csv.out, &in_csv, table, rows.schema()), rows, "{table}");
        assert_eq!(in_csv.tables[table].rows, rows.num_rows() as u64);
        assert_eq!(in_csv.tables[table].files[0].path, format!("{table}/part-000.{extension}"));
    }
}

#[test]
fn text_files_hold_what_parquet_files_hold() {
    check(Benchmark::Tpch, SCALE, Compression::None, "csv");
    check(Benchmark::Tpcds, SCALE, Compression::None, "csv");
}

#[test]
fn gzip_files_hold_what_parquet_files_hold() {
    check(Benchmark::Tpch, SCALE, Compression::Gzip, "csv.gz");
}

#[test]
fn text_files_left_half_way_are_made_again_and_the_others_kept() {
    let dir = tempfile::tempdir().unwrap();
    for compression in [Compression::None, Compression::Gzip] {
        let options = GenerateOptions {
            format: Format::Csv,
            compression: Some(compression),
            files: 2,
            ..GenerateOptions::new(Benchmark::Tpch, SCALE, dir.path().join(compression.to_string()))
        };
        let whole = make(&options);
        let path = |name: &str| options.out.join(name);
        let kept = path(&whole.tables["orders"].files[0].path);
        let before = fs::metadata(&kept).unwrap().modified().unwrap();

        let cut = path(&whole.tables["lineitem"].files[1].path);
        let bytes = fs::read(&cut).unwrap();
        fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        fs::rename(path("manifest.json"), path(".in-work.json")).unwrap();
        fs::write(path(".in-work.json"), serde_json::to_vec(&whole.recipe).unwrap()).unwrap();
        assert_eq!(make(&options), whole);
        assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before);

        // Whole lines are missing, which only the manifest tells.
        let end =
            bytes.len() - 1 - bytes[..bytes.len() - 1].iter().rev().position(|byte| *byte == b'\n').unwrap();
        fs::write(&cut, &bytes[..end]).unwrap();
        assert_eq!(make(&options), whole);
        assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before);
    }
}
