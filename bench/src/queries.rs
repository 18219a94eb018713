//! The benchmark queries, as data.

use std::fmt::Write;
use std::path::Path;

use arrow::datatypes::{DataType, Schema};

use crate::{Benchmark, Format, Manifest};

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

/// SQL that makes the tables of a benchmark under `data`, a folder of Parquet files made by
/// [`generate`](crate::generate()), known to a session: one `CREATE EXTERNAL TABLE` each.
#[must_use]
pub fn tables_sql(benchmark: Benchmark, data: &Path) -> Vec<String> {
    benchmark.table_names().into_iter().map(|table| parquet_table(data, table)).collect()
}

/// [`tables_sql`] of a folder with that manifest, in whichever format its files are. Where they do not say the types of
/// columns, those are declared: they are the ones of the Parquet files.
#[must_use]
pub fn tables_sql_of(manifest: &Manifest, data: &Path) -> Vec<String> {
    let benchmark = manifest.recipe.benchmark;
    match manifest.recipe.format {
        Format::Parquet => tables_sql(benchmark, data),
        Format::Csv => {
            let tables = benchmark.schemas().into_iter();
            tables.map(|(table, schema)| csv_table(data, table, &schema)).collect()
        }
    }
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

fn parquet_table(data: &Path, table: &str) -> String {
    format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{}'", location(data, table))
}

fn csv_table(data: &Path, table: &str, schema: &Schema) -> String {
    let column = |field: &arrow::datatypes::FieldRef| {
        let null = if field.is_nullable() { "" } else { " NOT NULL" };
        format!("{} {}{null}", field.name(), sql_type(field.data_type()))
    };
    let columns: Vec<_> = schema.fields().iter().map(column).collect();
    format!(
        "CREATE EXTERNAL TABLE {table} ({}) STORED AS CSV LOCATION '{}' OPTIONS ('format.has_header' 'true')",
        columns.join(", "),
        location(data, table)
    )
}

fn location(data: &Path, table: &str) -> String {
    format!("{}/", data.join(table).display()).replace('\'', "''")
}

/// A type as SQL names it; the benchmarks have no others.
fn sql_type(of: &DataType) -> String {
    match of {
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        other => unreachable!("no benchmark has a column of the type {other}"),
    }
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
    fn every_column_of_csv_files_has_a_type() {
        for benchmark in [Benchmark::Tpch, Benchmark::Tpcds] {
            let statements: Vec<_> = benchmark
                .schemas()
                .iter()
                .map(|(table, schema)| csv_table(Path::new("/d"), table, schema))
                .collect();
            assert_eq!(statements.len(), benchmark.table_names().len());
        }
        let (_, region) = &Benchmark::Tpch.schemas()[6];
        assert_eq!(
            csv_table(Path::new("/d"), "region", region),
            "CREATE EXTERNAL TABLE region (r_regionkey BIGINT NOT NULL, r_name VARCHAR NOT NULL, r_comment VARCHAR NOT NULL) \
             STORED AS CSV LOCATION '/d/region/' OPTIONS ('format.has_header' 'true')"
        );
    }

    #[test]
    fn a_quote_in_a_path_stays_inside_its_literal() {
        let sql = &tpch_tables_sql(Path::new("/data/it's"))[0];
        assert_eq!(sql, "CREATE EXTERNAL TABLE customer STORED AS PARQUET LOCATION '/data/it''s/customer/'");
    }
}
