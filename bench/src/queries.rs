//! The benchmark queries, as data.

use std::fmt::Write;
use std::path::Path;

use crate::Benchmark;

/// One query of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Its name, such as `q01`.
    pub name: &'static str,
    /// Its text: one SELECT, with the specification's validation parameters.
    pub sql: &'static str,
}

/// `$then!($with "q01" "q02" ...)` for the queries of TPC-H.
macro_rules! for_tpch_queries {
    ($then:ident $with:literal) => {
        $then!(
            $with
            "q01" "q02" "q03" "q04" "q05" "q06" "q07" "q08" "q09" "q10" "q11"
            "q12" "q13" "q14" "q15" "q16" "q17" "q18" "q19" "q20" "q21" "q22"
        )
    };
}

/// `$then!($with "q01" "q02" ...)` for the queries of TPC-DS.
macro_rules! for_tpcds_queries {
    ($then:ident $with:literal) => {
        $then!(
            $with
            "q01" "q02" "q03" "q04" "q05" "q06" "q07" "q08" "q09" "q10" "q11" "q12" "q13" "q14" "q15" "q16"
            "q17" "q18" "q19" "q20" "q21" "q22" "q23" "q24" "q25" "q26" "q27" "q28" "q29" "q30" "q31" "q32"
            "q33" "q34" "q35" "q36" "q37" "q38" "q39" "q40" "q41" "q42" "q43" "q44" "q45" "q46" "q47" "q48"
            "q49" "q50" "q51" "q52" "q53" "q54" "q55" "q56" "q57" "q58" "q59" "q60" "q61" "q62" "q63" "q64"
            "q65" "q66" "q67" "q68" "q69" "q70" "q71" "q72" "q73" "q74" "q75" "q76" "q77" "q78" "q79" "q80"
            "q81" "q82" "q83" "q84" "q85" "q86" "q87" "q88" "q89" "q90" "q91" "q92" "q93" "q94" "q95" "q96"
            "q97" "q98" "q99"
        )
    };
}

macro_rules! queries {
    ($folder:literal $($name:literal)*) => {
        [$(Query { name: $name, sql: include_str!(concat!("../queries/", $folder, "/", $name, ".sql")) }),*]
    };
}

/// The 22 queries of TPC-H, in order.
pub const TPCH: [Query; 22] = for_tpch_queries!(queries "tpch");

/// The 99 queries of TPC-DS, in order.
pub const TPCDS: [Query; 99] = for_tpcds_queries!(queries "tpcds");

/// The queries of a benchmark, in order.
#[must_use]
pub fn all(benchmark: Benchmark) -> &'static [Query] {
    match benchmark {
        Benchmark::Tpch => &TPCH,
        Benchmark::Tpcds => &TPCDS,
    }
}

/// SQL that makes the tables of a benchmark under `data`, a folder made by [`generate`](crate::generate()), known to a
/// session: one `CREATE EXTERNAL TABLE` each.
#[must_use]
pub fn tables_sql(benchmark: Benchmark, data: &Path) -> Vec<String> {
    benchmark.table_names().into_iter().map(|table| external_table(data, table)).collect()
}

/// The TPC-H query of this name (`q01`, `q1` or `1`).
#[must_use]
pub fn tpch(name: &str) -> Option<Query> {
    let digits = name.strip_prefix(['q', 'Q']).unwrap_or(name);
    let number: usize = digits.parse().ok()?;
    TPCH.get(number.checked_sub(1)?).copied()
}

/// [`tables_sql`] of TPC-H.
#[must_use]
pub fn tpch_tables_sql(data: &Path) -> Vec<String> {
    tables_sql(Benchmark::Tpch, data)
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
