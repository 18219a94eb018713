//! Queries that are one operator and little else.

use firesteel_micro::{Bench, Throughput};

use crate::data::{LINES_PER_ORDER, digest_rows, lines, orders, rows_of, write_parquet};
use crate::session::OneCore;

/// Lines: full size, and tiny.
const LINES: (usize, usize) = (1 << 20, 2_000);

const SCANS: [(&str, &str); 3] = [
    ("parquet", "select * from lines_in_file"),
    ("parquet_two_columns", "select orderkey, price from lines_in_file"),
    ("series", "select * from generate_series(1, $lines)"),
];

const FILTERS: [(&str, &str); 3] = [
    ("parquet", "select orderkey, price from lines_in_file where shipped < date '1994-01-01'"),
    ("numbers", "select orderkey, price from lines where discount between 0.02 and 0.04 and quantity < 24"),
    ("text", "select orderkey from lines where comment like '%7f%a%'"),
];

const JOINS: [(&str, &str); 3] = [
    ("hash_inner", "select price, priority from lines join orders on lines.orderkey = orders.orderkey"),
    (
        "hash_semi",
        "select orderkey, priority from orders where exists \
         (select 1 from lines where lines.orderkey = orders.orderkey and quantity > 45)",
    ),
    (
        "hash_left",
        "select orders.orderkey, partkey from orders left join lines \
         on lines.orderkey = orders.orderkey and quantity > 45",
    ),
];

const MERGE_JOINS: [(&str, &str); 1] =
    [("merge_inner", "select price, priority from lines join orders on lines.orderkey = orders.orderkey")];

const AGGREGATIONS: [(&str, &str); 3] = [
    ("one_group", "select count(shipped), sum(price), min(comment), max(comment) from lines"),
    (
        "few_groups",
        "select flag, count(*), sum(quantity), sum(price * (1 - discount)), avg(discount) from lines group by flag",
    ),
    ("many_groups", "select orderkey, count(*), sum(price), max(shipped) from lines group by orderkey"),
];

pub fn queries(bench: &mut Bench) {
    let count = bench.size(LINES.0, LINES.1);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder that can be written to");
    let file = folder.path().join("lines.parquet");
    let (lines, orders) = (lines(count), orders(count));
    write_parquet(&file, &lines);

    let session = OneCore::new();
    session.add_table("lines", &lines);
    session.add_table("orders", &orders);
    session.run(&format!(
        "create external table lines_in_file stored as parquet location '{}'",
        file.display().to_string().replace('\'', "''")
    ));
    group(bench, "scan", count, &session, &SCANS);
    group(bench, "filter", count, &session, &FILTERS);
    let of_both = count + count / LINES_PER_ORDER;
    group(bench, "join", of_both, &session, &JOINS);
    group(bench, "aggregate", count, &session, &AGGREGATIONS);
    session.run("set datafusion.optimizer.prefer_hash_join = false");
    group(bench, "join", of_both, &session, &MERGE_JOINS);
}

/// Measures queries of a kind, over `lines` lines of which each takes in `rows` rows.
fn group(bench: &mut Bench, name: &str, rows: usize, session: &OneCore, queries: &[(&str, &str)]) {
    let mut group = bench.group(name, Throughput::Elements(rows as u64));
    group.samples(20);
    for (name, sql) in queries {
        let sql = sql.replace("$lines", &rows.to_string());
        group.bench_timed(
            name,
            |times| session.time(times, &sql),
            |rows, digest| {
                assert!(rows_of(rows) > 0, "{sql} has no rows");
                digest_rows(rows, digest);
            },
        );
    }
}
