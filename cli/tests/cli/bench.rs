//! `firesteel bench`: from data to a page, and what is refused on the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use firesteel_testing::data;
use firesteel_testing::oracle::tpch::Scale;

use crate::support::{Ended, Reaped, command, names_in, run, run_with_input};

#[test]
fn a_run_is_checked_kept_compared_and_shown() {
    let data = data::tpch(Scale::Tenth).unwrap();
    let data = data.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (first, second, other, page) = (file("a.json"), file("b.json"), file("c.json"), file("page.html"));
    let measure = |queries: &str, out: &str| {
        let options =
            ["--queries", queries, "--iterations", "1", "--warmup", "0", "--cores", "1", "--out", out];
        let arguments = [&["bench", "run", "tpch", "--local", "--data", data][..], &options[..]].concat();
        run(&arguments).printed()
    };
    assert!(measure("1,6", &first).contains("answers checked against stored answers"));
    measure("1,6", &second);
    measure("6", &other);

    let record: serde_json::Value = serde_json::from_str(&fs::read_to_string(&first).unwrap()).unwrap();
    assert_eq!(record["queries"][1]["name"], "q06");
    assert_eq!(record["queries"][1]["verdict"]["is"], "right");
    assert!(record["queries"][0]["runs"][0]["outcome"]["seconds"].as_f64().unwrap() > 0.0);
    assert!(record["data"]["checksum"].as_str().unwrap().len() == 16);

    let compared = run(&["bench", "compare", &first, &second, "--fail-above", "5%"]).printed();
    assert!(compared.contains("q01") && compared.contains("too few runs"), "{compared}");
    run(&["bench", "compare", &first, &other]).told(1, &["q01"]);

    run(&["bench", "report", &first, &second, "--html", &page]).printed();
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("q06") && page.contains("not comparable to published TPC results"));
}

#[test]
fn verify_says_how_many_answers_are_right() {
    let data = data::tpch(Scale::Tenth).unwrap();
    let data = data.to_str().unwrap();
    let told =
        run(&["bench", "verify", "tpch", "--local", "--data", data, "--queries", "1-3,q06", "-q"]).printed();
    assert_eq!(told, "4 of 4 answers are right\n");
}

/// Runs the command where DuckDB is only found in `path`.
fn without_duckdb(arguments: &[&str], path: &Path) -> Ended {
    command(arguments).env("PATH", path).env("HOME", path).output().unwrap().into()
}

/// A shell script in place of DuckDB that has one answer to all questions.
fn fake_duckdb(program: &Path, answer: &str) {
    let script = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\n[ \"$1\" = --version ] && {{ echo 'v9.8.7 (Fake)'; exit; }}\n\
         file=$(sed -n \"s/^) TO '\\(.*\\)' (FORMAT.*/\\1/p\")\n{answer}\n"
    );
    fs::write(program, script).unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn where_no_answer_is_stored_duckdb_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (small, out, right) = (path("small"), path("out.json"), path("right.csv"));
    run(&["bench", "gen", "tpch", "--scale", "0.001", "--out", &small, "-q"]).printed();
    let sql = firesteel_bench::queries::tpch("q06").unwrap().sql;
    let request = serde_json::json!({ "query": "q06", "sql": sql, "answer": right }).to_string();
    let worker = ["bench", "worker", "tpch", "--local", "--cores", "1", "--data", &small];
    run_with_input(&worker, &format!("{request}\n")).printed();

    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let verify = |queries: &str, more: &[&str]| {
        let arguments =
            ["bench", "verify", "tpch", "--local", "--cores", "1", "--data", &small, "-q", "--out", &out];
        without_duckdb(&[&arguments[..], &["--queries", queries], more].concat(), &bin)
    };
    fake_duckdb(&bin.join("duckdb"), &format!("cp '{right}' \"$file\""));
    assert_eq!(verify("6", &[]).printed(), "1 of 1 answers are right\n");
    let record: serde_json::Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(
        (&record["verified"], &record["queries"][0]["verdict"]["is"]),
        (&"duckdb 9.8.7".into(), &"right".into())
    );
    verify("6,14", &["--against", "duckdb"]).told(1, &["1 of 2 queries failed", "q14: wrong answer"]);

    let other = bin.join("other");
    fake_duckdb(&other, "echo 'Out of Memory Error: no' >&2; exit 1");
    let said = verify("6", &["--duckdb", other.to_str().unwrap()]);
    said.told(1, &["1 answers could not be checked against duckdb 9.8.7", "q06"]);
    verify("6", &["--duckdb", "/bin/true"]).told(1, &["/bin/true is no DuckDB"]);
}

#[test]
fn a_query_that_takes_too_long_is_a_failure_of_the_run() {
    let data = data::tpch(Scale::Tenth).unwrap();
    let data = data.to_str().unwrap();
    run(&["bench", "run", "tpch", "--local", "--data", data, "--queries", "1", "--timeout", "0.001"])
        .told(1, &["1 of 1 queries failed", "q01: timeout: stopped after 0.001 s"]);
}

#[test]
fn data_that_is_not_what_it_should_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ask = |data: &str| run(&["bench", "run", "tpch", "--local", "--data", data, "--queries", "6"]);
    ask(&path("nowhere")).told(1, &["nowhere", "bench gen"]);
    ask(folder.path().to_str().unwrap()).told(1, &["holds no benchmark data"]);

    let small = path("small");
    run(&["bench", "gen", "tpch", "--scale", "0.001", "--out", &small, "-q"]).printed();
    run(&["bench", "run", "tpcds", "--local", "--data", &small]).told(1, &["tpch", "tpcds"]);
    let verify = ["bench", "verify", "tpch", "--local", "--data", &small, "--queries", "6"];
    let nothing = folder.path();
    without_duckdb(&verify, nothing)
        .told(1, &["no stored answers", "0.001", "scale 1", "pip install duckdb"]);
    without_duckdb(&[&verify[..], &["--against", "stored"]].concat(), nothing)
        .told(1, &["no stored answers"]);
    without_duckdb(&[&verify[..], &["--against", "duckdb"]].concat(), nothing)
        .told(1, &["no DuckDB", "--duckdb"]);
    let pointless = ["--against", "stored", "--duckdb", "/bin/true"];
    run(&[&verify[..], &pointless].concat()).told(2, &["--duckdb", "--against stored"]);
    run(&["bench", "run", "tpch", "--data", &small, "--queries", "23"]).told(2, &["23", "1 to 22"]);
    fs::write(format!("{small}/region/part-000.parquet"), "short").unwrap();
    ask(&small).told(1, &["region/part-000.parquet", "5 bytes"]);
    fs::remove_file(format!("{small}/nation/part-000.parquet")).unwrap();
    ask(&small).told(1, &["is missing"]);
}

fn record(path: &str) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// `bench run` with these words on one core, each query once.
fn once(words: &[&str]) -> crate::support::Ended {
    let place = ["--local", "--cores", "1", "--memory", "512MiB", "--iterations", "1", "--warmup", "0"];
    run(&[&["bench", "run"][..], words, &place[..]].concat())
}

#[test]
fn rows_are_shuffled_checked_kept_compared_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (first, second, other, page) = (file("a.json"), file("b.json"), file("c.json"), file("page.html"));
    let told =
        once(&["shuffle", "--bytes", "1MiB", "--keys", "uniform,zipf:1,zipf:1.1", "--out", &first]).printed();
    assert!(told.contains("answers checked against sums known beforehand"), "{told}");
    assert!(told.contains("GB/s a core") && told.lines().any(|line| line.starts_with("zipf-1.1 ")), "{told}");

    let kept = record(&first);
    assert_eq!((&kept["benchmark"], &kept["mode"]), (&"shuffle".into(), &"local".into()));
    assert_eq!((&kept["data"]["rows"], &kept["data"]["bytes"]), (&16_384.into(), &(1 << 20).into()));
    let queries = kept["queries"].as_array().unwrap();
    assert_eq!(
        queries.iter().map(|query| &query["name"]).collect::<Vec<_>>(),
        ["uniform", "zipf-1", "zipf-1.1"]
    );
    for query in queries {
        assert_eq!(query["verdict"]["is"], "right", "{query}");
        let measures = &query["runs"][0]["outcome"];
        assert_eq!((&measures["input_rows"], &measures["stages"]), (&16_384.into(), &1.into()), "{query}");
        assert!(
            measures["tasks"].as_u64().unwrap() > 0 && measures["peak_memory_bytes"].as_u64().unwrap() > 0
        );
    }

    once(&["shuffle", "--bytes", "1MiB", "--keys", "uniform,zipf:1,zipf:1.1", "--out", &second]).printed();
    let compared = run(&["bench", "compare", &first, &second]).printed();
    assert!(compared.starts_with("shuffle\n") && compared.contains("zipf-1.1"), "{compared}");
    once(&["shuffle", "--bytes", "1MiB", "--columns", "4", "--queries", "uniform", "--out", &other])
        .printed();
    run(&["bench", "compare", &first, &other]).told(1, &["checksum", "zipf-1.1"]);
    run(&["bench", "report", &first, &other, "--html", &page]).told(1, &["32\u{a0}768 rows"]);

    run(&["bench", "report", &first, &second, "--html", &page]).printed();
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("Rows moved") && page.contains("GB/s a core"), "{page}");
    assert!(!page.contains("TPC"), "no TPC benchmark has to do with it");
}

#[test]
fn one_column_and_many_are_shuffled() {
    for columns in ["1", "256"] {
        once(&["shuffle", "--bytes", "64KiB", "--columns", columns, "--keys", "zipf:2"]).printed();
    }
}

#[test]
fn lineitem_is_sorted_and_grouped() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, sorted, out) = (path("data"), path("it's sorted"), path("sort.json"));
    run(&["bench", "gen", "tpch", "--scale", "0.01", "--files", "2", "--out", &data, "-q"]).printed();
    once(&["sort", "--data", &data, "--out-data", &sorted]).told(1, &["it's sorted", "folder that is there"]);
    fs::create_dir(&sorted).unwrap();
    let told = once(&["sort", "--data", &data, "--out-data", &sorted, "--out", &out]).printed();
    assert!(told.contains("answers checked against the files read another way"), "{told}");
    assert!(names_in(sorted.as_ref()).is_empty(), "sorted files are left");

    let kept = record(&out);
    assert_eq!((&kept["benchmark"], &kept["data"]["scale"]), (&"sort".into(), &0.01.into()));
    let queries = kept["queries"].as_array().unwrap();
    let names = ["sort-orderkey", "sort-partkey", "group-orders", "distinct-suppliers", "group-parts"];
    assert_eq!(queries.iter().map(|query| &query["name"]).collect::<Vec<_>>(), names);
    for query in queries {
        assert_eq!(query["verdict"]["is"], "right", "{query}");
        assert_eq!(query["runs"][0]["outcome"]["input_rows"], 60_175, "{query}");
    }
    once(&["sort", "--data", &data, "--queries", "group-parts", "--no-verify", "--cold"]).printed();
    let hard = path("hard");
    let hard_words = ["--scale", "0.001", "--sorted", "--skew", "zipf:1.5", "--out", &hard, "-q"];
    run(&[&["bench", "gen", "tpch"][..], &hard_words[..]].concat()).printed();
    once(&["sort", "--data", &hard]).printed();
    once(&["sort", "--data", &data, "--queries", "sort-comment"]).told(2, &["sort-comment", "sort-orderkey"]);
}

#[test]
fn workloads_take_their_own_options_only() {
    for (words, names) in [
        (&["shuffle", "--data", "x"][..], &["--data"][..]),
        (&["shuffle", "--cold"], &["--cold"]),
        (&["shuffle", "--streams", "2"], &["--streams"]),
        (&["shuffle", "--out-data", "x"], &["--out-data"]),
        (&["sort", "--data", "x", "--bytes", "1MiB"], &["--bytes"]),
        (&["sort", "--data", "x", "--keys", "uniform"], &["--keys"]),
        (&["sort", "--data", "x", "--streams", "2"], &["--streams"]),
        (&["sort"], &["--data"]),
        (&["tpch", "--data", "x", "--columns", "8"], &["--columns"]),
        (&["tpch", "--data", "x", "--out-data", "x"], &["--out-data"]),
        (&["shufle"], &["shufle", "shuffle"]),
    ] {
        let ended = once(words);
        assert_eq!(ended.code, Some(2), "{words:?}\n{}", ended.stderr);
        assert!(names.iter().all(|name| ended.stderr.contains(name)), "{words:?}\n{}", ended.stderr);
    }
    let help = run(&["bench", "run", "--help"]).printed();
    for workload in ["tpch", "tpcds", "shuffle", "sort"] {
        assert!(help.contains(&format!("\n  {workload} ")), "{workload} is not in\n{help}");
        let own = run(&["bench", "run", workload, "--help"]).printed();
        assert!(own.contains("--iterations <N>") && own.contains("--manager <HOST:PORT,..>"), "{own}");
    }
}

#[test]
fn what_cannot_be_shuffled_is_refused() {
    for (option, value, names) in [
        ("--bytes", "much", &["'much' is not a size such as"][..]),
        ("--bytes", "-1", &["--bytes"]),
        ("--bytes", "0", &["0B cannot be shuffled", "64B to 64TiB"]),
        ("--bytes", "63", &["64B to 64TiB"]),
        ("--bytes", "65TiB", &["64B to 64TiB"]),
        ("--columns", "0", &["0 columns", "1 to 256"]),
        ("--columns", "257", &["1 to 256"]),
        ("--columns", "-3", &["-3"]),
        ("--keys", "gauss", &["gauss", "uniform or zipf:EXPONENT"]),
        ("--keys", "zipf:fast", &["zipf:fast", "such as zipf:1.1"]),
        ("--keys", "zipf:-1", &["zipf:-1", "above 0"]),
        ("--keys", "", &["--keys"]),
        ("--keys", "uniform,uniform", &["uniform are there twice"]),
        ("--queries", "zipf-3", &["zipf-3", "its queries are uniform, zipf-1.1"]),
        ("--queries", "1", &["shuffle has no query '1'"]),
    ] {
        let option = format!("{option}={value}");
        once(&["shuffle", &option]).told(2, names);
    }
}

#[test]
fn data_that_cannot_be_sorted_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    once(&["sort", "--data", &path("nowhere")]).told(1, &["nowhere", "bench gen"]);
    let text = path("text");
    run(&["bench", "gen", "tpch", "--scale", "0.001", "--format", "csv", "--out", &text, "-q"]).printed();
    once(&["sort", "--data", &text]).told(1, &["csv files", "as Parquet files"]);
    let small = path("small");
    run(&["bench", "gen", "tpch", "--scale", "0.001", "--out", &small, "-q"]).printed();
    fs::write(format!("{small}/lineitem/part-000.parquet"), "short").unwrap();
    once(&["sort", "--data", &small]).told(1, &["lineitem/part-000.parquet", "5 bytes"]);
}

#[test]
fn a_shuffle_that_takes_too_long_is_a_failure_of_the_run() {
    let words = ["shuffle", "--bytes", "1GiB", "--queries", "zipf-1.1", "--timeout", "0.001"];
    once(&words).told(1, &["1 of 1 queries failed", "zipf-1.1: timeout: stopped after 0.001 s"]);
}

#[test]
fn options_of_gen_that_make_no_sense_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("data");
    let refused = |options: &[&str], names: &[&str]| {
        let arguments = [&["bench", "gen", "tpch", "--out", out.to_str().unwrap()], options].concat();
        run(&arguments).told(2, names);
        assert!(!out.exists());
    };
    refused(&["--compression", "brotli"], &["brotli", "give snappy, zstd, lz4, gzip or none"]);
    refused(&["--compression", "gzip"], &["parquet files", "gzip", "give snappy, zstd, lz4 or none"]);
    refused(&["--format", "orc"], &["orc", "give parquet or csv"]);
    refused(&["--format", "csv", "--compression", "zstd"], &["csv files", "zstd", "give none or gzip"]);
    refused(
        &["--format", "csv", "--row-group-rows", "1000"],
        &["no row groups", "leave --row-group-rows out"],
    );
    for skew in ["zipf:0", "zipf:x", "zipf", "normal", "normal:1"] {
        refused(&["--skew", skew], &[skew, "give zipf:A", "above 0"]);
    }
    refused(&["--scale", "0"], &["scale is 0"]);
}

#[test]
fn text_files_are_a_benchmarks_data_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let gen_arguments = ["bench", "gen", "tpch", "--scale", "0.1", "--format", "csv", "--out", data];
    run(&[&gen_arguments[..], &["--compression", "gzip", "-q"]].concat()).printed();
    let told =
        run(&["bench", "verify", "tpch", "--local", "--data", data, "--queries", "1,3,6,16", "-q"]).printed();
    assert_eq!(told, "4 of 4 answers are right\n");
    // The folder is of gzip files.
    run(&gen_arguments).told(1, &["made with other options", "gzip"]);
}

#[test]
fn answers_over_skewed_data_are_not_held_against_stored_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, record) = (path("data"), path("a.json"));
    run(&["bench", "gen", "tpch", "--scale", "0.1", "--skew", "zipf:1", "--sorted", "--out", &data, "-q"])
        .printed();
    run(&["bench", "verify", "tpch", "--local", "--data", &data, "--queries", "8", "--against", "stored"])
        .told(1, &["skewed (zipf:1)", "without --skew"]);
    let options = ["--queries", "8", "--iterations", "1", "--warmup", "0", "--cores", "1", "--out", &record];
    let ask = [&["bench", "run", "tpch", "--local", "--data", &data], &options[..]].concat();
    let told = without_duckdb(&ask, folder.path()).printed();
    assert!(told.contains("answers NOT checked"), "{told}");
    let record: serde_json::Value = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
    assert_eq!(record["verified"], serde_json::Value::Null);
    assert_eq!(record["queries"][0]["verdict"]["is"], "unverified");
    assert_eq!(
        (&record["data"]["skew"], &record["data"]["sorted"], &record["data"]["format"]),
        (&"zipf:1".into(), &true.into(), &"parquet".into())
    );
}

#[test]
fn data_that_is_being_made_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = data.to_str().unwrap();
    let ask = || run(&["bench", "run", "tpch", "--local", "--data", path, "--queries", "6"]);
    let mut making = command(&["bench", "gen", "tpch", "--scale", "1", "--threads", "1", "--out", path]);
    let making = Reaped(making.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    // The folder of a table is made after the lock is taken.
    while !data.join("lineitem").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    ask().told(1, &["is being filled by another process", "wait for it to end"]);
    run(&["bench", "gen", "tpch", "--scale", "1", "--out", path])
        .told(1, &["is being filled by another process"]);
    drop(making);
    ask().told(1, &["is not complete", "run the same `firesteel bench gen` again"]);
}

#[test]
fn data_that_is_not_what_its_manifest_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = data.to_str().unwrap();
    run(&["bench", "gen", "tpch", "--scale", "0.001", "--out", path, "-q"]).printed();
    let file = data.join("region/part-000.parquet");
    let mut bytes = fs::read(&file).unwrap();
    bytes[10] ^= 1;
    fs::write(&file, bytes).unwrap();
    run(&["bench", "verify", "tpch", "--local", "--data", path, "--queries", "6"])
        .told(1, &["region/part-000.parquet was changed"]);

    let manifest = data.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap().replace("\"scale\": 0.001", "\"scale\": 0.01");
    fs::write(&manifest, text).unwrap();
    run(&["bench", "run", "tpch", "--local", "--data", path, "--queries", "6"])
        .told(1, &["scale 0.01", "orders has 15000 rows; there are 1500"]);
    let text = fs::read_to_string(&manifest).unwrap().replace("\"lineitem\":", "\"lineitems\":");
    fs::write(&manifest, text).unwrap();
    run(&["bench", "run", "tpch", "--local", "--data", path, "--queries", "6"])
        .told(1, &["names no table lineitem"]);
}

#[test]
fn what_is_no_record_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.json");
    let path = file.to_str().unwrap();
    run(&["bench", "compare", path, path]).told(1, &["x.json"]);
    fs::write(&file, "{\"format\": 99}").unwrap();
    run(&["bench", "compare", path, path]).told(1, &["x.json", "99"]);
    run(&["bench", "report", path, "--html", "/nowhere/page.html"]).told(1, &["x.json"]);
}

#[test]
fn a_script_can_ask_line_by_line() {
    let data = data::tpch(Scale::Tenth).unwrap();
    let data = data.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("q06.csv");
    let csv = csv.to_str().unwrap();
    let ask = |sql: &str| serde_json::json!({ "query": "q06", "sql": sql, "answer": csv }).to_string() + "\n";
    let sql = firesteel_bench::queries::tpch("q06").unwrap().sql;
    let input = ask(sql) + &ask("select nonsense");
    let arguments = ["bench", "worker", "tpch", "--local", "--cores", "1", "--data", data];
    let printed = run_with_input(&arguments, &input).printed();
    let lines: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert_eq!((&lines[0]["ready"], &lines[0]["cores"]), (&true.into(), &1.into()));
    assert_eq!((&lines[1]["is"], &lines[1]["rows"]), (&"done".into(), &1.into()));
    assert_eq!(lines[2]["kind"], "error");

    let check =
        |query: &str| run(&["bench", "check", "tpch", query, "--scale", "0.1", "--answer", csv]).printed();
    assert_eq!(check("q06"), "{\"is\":\"right\"}\n");
    assert!(check("q05").contains("\"is\":\"wrong\""));
    let against = |right: &str| run(&["bench", "check", "tpch", "q06", "--right", right, "--answer", csv]);
    assert_eq!(against(csv).printed(), "{\"is\":\"right\"}\n");
    let other = folder.path().join("other.csv");
    fs::write(&other, "revenue\n1.00\n").unwrap();
    assert!(against(other.to_str().unwrap()).printed().contains("\"is\":\"wrong\""));
    against("/nowhere.csv").told(1, &["/nowhere.csv"]);
    let info = run(&["bench", "info", "tpch", "--data", data]).printed();
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["data"]["scale"], 0.1);
    assert!(info["machine"]["cpus"].as_u64().unwrap() > 0);
    run_with_input(&arguments, "rubbish\n").told(1, &["no request"]);
}
