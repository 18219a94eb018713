//! Generated folders: what is in them, and what becomes of one that was left half-way.

#![allow(clippy::unwrap_used)]

mod answers;
mod csv;
mod skew;
mod sorted;

use std::fs::{self, File};
use std::path::Path;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use firesteel_bench::progress::Silent;
use firesteel_bench::{Benchmark, Compression, Format, GenerateOptions, Manifest, generate};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const SCALE: f64 = 0.01;

fn make(options: &GenerateOptions) -> Manifest {
    generate(options, &Silent).unwrap()
}

/// The whole table as one batch, its files in order.
fn read(folder: &Path, manifest: &Manifest, table: &str) -> RecordBatch {
    let batches: Vec<_> = manifest.tables[table]
        .files
        .iter()
        .flat_map(|file| {
            let file = File::open(folder.join(&file.path)).unwrap();
            ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap)
        })
        .collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[test]
fn rows_depend_on_the_scale_alone() {
    let dir = tempfile::tempdir().unwrap();
    let one = GenerateOptions {
        files: 1,
        threads: Some(1),
        ..GenerateOptions::new(Benchmark::Tpch, SCALE, dir.path().join("one"))
    };
    let many = GenerateOptions {
        files: 3,
        row_group_rows: Some(1000),
        compression: Some(Compression::Zstd),
        ..GenerateOptions::new(Benchmark::Tpch, SCALE, dir.path().join("many"))
    };
    let (in_one, in_many) = (make(&one), make(&many));
    let counts = [
        ("customer", 1_500),
        ("lineitem", 60_175),
        ("nation", 25),
        ("orders", 15_000),
        ("part", 2_000),
        ("partsupp", 8_000),
        ("region", 5),
        ("supplier", 100),
    ];
    assert_eq!(in_one.tables.len(), counts.len());
    for (table, rows) in counts {
        assert_eq!(in_one.tables[table].rows, rows, "{table}");
        assert_eq!(read(&one.out, &in_one, table), read(&many.out, &in_many, table), "{table}");
    }
    assert_eq!(in_one.tables["lineitem"].files.len(), 1);
    assert_eq!(in_many.tables["lineitem"].files.len(), 3);
    let file = File::open(many.out.join(&in_many.tables["orders"].files[0].path)).unwrap();
    let footer = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(footer.metadata().row_group(0).num_rows(), 1000);
}

#[test]
fn a_folder_left_half_way_is_taken_up_and_a_complete_one_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        GenerateOptions { files: 2, ..GenerateOptions::new(Benchmark::Tpch, SCALE, dir.path().join("data")) };
    let whole = make(&options);
    let path = |name: &str| options.out.join(name);
    let unchanged = || fs::metadata(path("orders/part-000.parquet")).unwrap().modified().unwrap();
    let before = unchanged();

    // What a crash leaves: no manifest, the marker, one file missing, one cut short under its temporary name, one torn.
    fs::rename(path("manifest.json"), path(".in-work.json")).unwrap();
    fs::write(path(".in-work.json"), serde_json::to_vec(&whole.recipe).unwrap()).unwrap();
    fs::remove_file(path("lineitem/part-001.parquet")).unwrap();
    fs::write(path("lineitem/part-001.parquet.tmp"), b"PAR1 half a f").unwrap();
    fs::write(path("customer/part-000.parquet"), b"PAR1").unwrap();
    assert_eq!(make(&options), whole);
    assert_eq!(unchanged(), before);
    assert!(!path(".in-work.json").exists());
    assert!(!path("lineitem/part-001.parquet.tmp").exists());

    // A file that went missing from a complete folder is made again, and nothing else.
    fs::remove_file(path("part/part-000.parquet")).unwrap();
    assert_eq!(make(&options), whole);
    assert_eq!(make(&options), whole);
    assert_eq!(unchanged(), before);
}

#[test]
fn a_folder_that_is_not_ours_to_fill_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |options: &GenerateOptions, says: &str| {
        let error = generate(options, &Silent).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.message.contains(options.out.file_name().unwrap().to_str().unwrap()), "{error}");
    };
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.tex"), "").unwrap();
    refuse(&GenerateOptions::new(Benchmark::Tpch, SCALE, &foreign), "thesis.tex");
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    refuse(&GenerateOptions::new(Benchmark::Tpch, SCALE, &file), "a file is in the way");

    let other = GenerateOptions {
        files: 1,
        ..GenerateOptions::new(Benchmark::Tpch, 0.001, dir.path().join("other"))
    };
    make(&other);
    refuse(&GenerateOptions { scale: SCALE, ..other.clone() }, "scale 0.001");
    refuse(&GenerateOptions { sorted: true, ..other.clone() }, "not sorted");
    refuse(&GenerateOptions { format: Format::Csv, ..other.clone() }, "parquet");
    refuse(&GenerateOptions { skew: Some("zipf:1".parse().unwrap()), ..other.clone() }, "no skew");

    let busy = dir.path().join("busy");
    fs::create_dir(&busy).unwrap();
    let marker = File::create(busy.join(".in-work.json")).unwrap();
    marker.lock().unwrap();
    refuse(&GenerateOptions::new(Benchmark::Tpch, SCALE, &busy), "another process");
}

#[test]
fn a_file_that_was_changed_is_told_from_what_was_written_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        GenerateOptions { files: 2, ..GenerateOptions::new(Benchmark::Tpch, 0.001, dir.path().join("data")) };
    let whole = make(&options);
    let (region, nation) =
        (options.out.join("region/part-000.parquet"), options.out.join("nation/part-000.parquet"));
    // A sound file of other rows, of another size: the folder is not complete any more.
    fs::copy(&nation, &region).unwrap();
    assert_eq!(make(&options), whole);
    whole.check_content(&options.out).unwrap();

    // One of the same size is found by its checksum alone.
    let mut bytes = fs::read(&region).unwrap();
    bytes[10] ^= 1;
    fs::write(&region, bytes).unwrap();
    let error = whole.check_content(&options.out).unwrap_err();
    assert!(error.to_string().contains("region/part-000.parquet was changed"), "{error}");
}
