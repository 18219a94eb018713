//! The benchmark queries, as data.

use std::fmt::Write;
use std::path::Path;

/// One query of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Its name, such as `q01`.
    pub name: &'static str,
    /// Its text: one SELECT, with the specification's validation parameters.
    pub sql: &'static str,
}

macro_rules! tpch {
    ($($name:literal)*) => {
        [$(Query { name: $name, sql: include_str!(concat!("../queries/tpch/", $name, ".sql")) }),*]
    };
}

/// The 22 queries of TPC-H, in order.
pub const TPCH: [Query; 22] = tpch!(
    "q01" "q02" "q03" "q04" "q05" "q06" "q07" "q08" "q09" "q10" "q11"
    "q12" "q13" "q14" "q15" "q16" "q17" "q18" "q19" "q20" "q21" "q22"
);

/// The tables of TPC-H.
pub const TPCH_TABLES: [&str; 8] =
    ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// The TPC-H query of this name (`q01`, `q1` or `1`).
#[must_use]
pub fn tpch(name: &str) -> Option<Query> {
    let digits = name.strip_prefix(['q', 'Q']).unwrap_or(name);
    let number: usize = digits.parse().ok()?;
    TPCH.get(number.checked_sub(1)?).copied()
}

/// SQL that makes the tables under `data`, a folder made by [`generate`](crate::generate()), known to a session: one
/// `CREATE EXTERNAL TABLE` each.
#[must_use]
pub fn tpch_tables_sql(data: &Path) -> Vec<String> {
    TPCH_TABLES.iter().map(|table| external_table(data, table)).collect()
}

/// [`tpch_tables_sql`] followed by `query`, as one script.
#[must_use]
pub fn tpch_script(data: &Path, query: &Query) -> String {
    let mut script = String::new();
    for statement in tpch_tables_sql(data) {
        writeln!(script, "{statement};").expect("a string takes all");
    }
    script + query.sql
}

fn external_table(data: &Path, table: &str) -> String {
    let location = format!("{}/", data.join(table).display()).replace('\'', "''");
    format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{location}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_found_as_people_name_them() {
        for name in ["q05", "Q5", "5"] {
            assert_eq!(tpch(name).unwrap().name, "q05");
        }
        for name in ["", "q0", "q23", "five"] {
            assert_eq!(tpch(name), None);
        }
        assert!(TPCH.iter().all(|q| q.sql.to_ascii_lowercase().contains("select")));
    }

    #[test]
    fn a_quote_in_a_path_stays_inside_its_literal() {
        let sql = &tpch_tables_sql(Path::new("/data/it's"))[0];
        assert_eq!(sql, "CREATE EXTERNAL TABLE customer STORED AS PARQUET LOCATION '/data/it''s/customer/'");
    }
}
