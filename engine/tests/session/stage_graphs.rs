//! The stage graph of every TPC-H query on two clusters, frozen: a change of planning shows as a diff.
//!
//! The tables have TPC-H's columns and the statistics of scale 1, and no rows: nothing is run.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use firesteel_engine::datafusion;

use crate::lab::Lab;

/// Days from 1970-01-01 to 1992-01-01 and to 1998-12-01.
const DATES: (i32, i32) = (8035, 10561);
const FILES: usize = 4;

/// A table of scale 1: its rows, its bytes on disk, and its columns with their types.
///
/// Types: `kN` a key from 1 to N, `i` a 32-bit integer, `d` a decimal, `t` a date, `s` a text.
struct Table {
    name: &'static str,
    rows: usize,
    bytes: u64,
    columns: &'static str,
}

const TABLES: [Table; 8] = [
    Table { name: "region", rows: 5, bytes: 2_000, columns: "r_regionkey k5, r_name s, r_comment s" },
    Table {
        name: "nation",
        rows: 25,
        bytes: 3_000,
        columns: "n_nationkey k25, n_name s, n_regionkey k5, n_comment s",
    },
    Table {
        name: "supplier",
        rows: 10_000,
        bytes: 1_000_000,
        columns: "s_suppkey k10000, s_name s, s_address s, s_nationkey k25, s_phone s, s_acctbal d, s_comment s",
    },
    Table {
        name: "customer",
        rows: 150_000,
        bytes: 16_000_000,
        columns: "c_custkey k150000, c_name s, c_address s, c_nationkey k25, c_phone s, c_acctbal d, \
                  c_mktsegment s, c_comment s",
    },
    Table {
        name: "part",
        rows: 200_000,
        bytes: 10_000_000,
        columns: "p_partkey k200000, p_name s, p_mfgr s, p_brand s, p_type s, p_size i, p_container s, \
                  p_retailprice d, p_comment s",
    },
    Table {
        name: "partsupp",
        rows: 800_000,
        bytes: 55_000_000,
        columns: "ps_partkey k200000, ps_suppkey k10000, ps_availqty i, ps_supplycost d, ps_comment s",
    },
    Table {
        name: "orders",
        rows: 1_500_000,
        bytes: 75_000_000,
        columns: "o_orderkey k6000000, o_custkey k150000, o_orderstatus s, o_totalprice d, o_orderdate t, \
                  o_orderpriority s, o_clerk s, o_shippriority i, o_comment s",
    },
    Table {
        name: "lineitem",
        rows: 6_001_215,
        bytes: 270_000_000,
        columns: "l_orderkey k6000000, l_partkey k200000, l_suppkey k10000, l_linenumber i, l_quantity d, \
                  l_extendedprice d, l_discount d, l_tax d, l_returnflag s, l_linestatus s, l_shipdate t, \
                  l_commitdate t, l_receiptdate t, l_shipinstruct s, l_shipmode s, l_comment s",
    },
];

/// Plans as if the table's files were there.
#[derive(Debug)]
struct Planned {
    name: &'static str,
    schema: SchemaRef,
    statistics: Statistics,
    bytes: u64,
}

impl Planned {
    fn new(table: &Table) -> Self {
        let (mut fields, mut statistics) = (Vec::new(), Vec::new());
        for column in table.columns.split(", ") {
            let (name, kind) = column.trim().split_once(' ').unwrap();
            let (data_type, range) = column_of(kind);
            fields.push(Field::new(name, data_type, false));
            statistics.push(ColumnStatistics {
                null_count: Precision::Exact(0),
                min_value: range.clone().map_or(Precision::Absent, |(min, _)| Precision::Exact(min)),
                max_value: range.map_or(Precision::Absent, |(_, max)| Precision::Exact(max)),
                ..ColumnStatistics::new_unknown()
            });
        }
        let bytes = usize::try_from(table.bytes).unwrap();
        Self {
            name: table.name,
            schema: Arc::new(Schema::new(fields)),
            statistics: Statistics {
                num_rows: Precision::Exact(table.rows),
                total_byte_size: Precision::Inexact(bytes * 3),
                column_statistics: statistics,
            },
            bytes: table.bytes,
        }
    }
}

fn column_of(kind: &str) -> (DataType, Option<(ScalarValue, ScalarValue)>) {
    match kind.split_at(1) {
        ("k", max) => {
            let max = max.parse().unwrap();
            (DataType::Int64, Some((ScalarValue::from(1_i64), ScalarValue::Int64(Some(max)))))
        }
        ("i", _) => (DataType::Int32, None),
        ("d", _) => (DataType::Decimal128(15, 2), None),
        ("t", _) => {
            let date = |days| ScalarValue::Date32(Some(days));
            (DataType::Date32, Some((date(DATES.0), date(DATES.1))))
        }
        _ => (DataType::Utf8View, None),
    }
}

#[async_trait::async_trait]
impl TableProvider for Planned {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let file = |number| {
            PartitionedFile::new(format!("tpch/{}.{number}.parquet", self.name), self.bytes / FILES as u64)
        };
        let groups = FileGroup::new((0..FILES).map(file).collect());
        let source = Arc::new(ParquetSource::new(Arc::clone(&self.schema)));
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), source)
            .with_file_groups(groups.split_files(state.config().target_partitions()))
            .with_statistics(self.statistics.clone())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

async fn stage_graph(lab: &Lab, query: &str) -> String {
    let batches = lab.batches(&format!("explain {query}")).await.unwrap();
    let mut graph = String::new();
    for batch in &batches {
        let (kinds, texts) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        for (kind, text) in kinds.iter().flatten().zip(texts.iter().flatten()) {
            if kind == "stage_graph" {
                graph += text;
            }
        }
    }
    graph
}

macro_rules! queries {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../../../bench/queries/tpch/", $name, ".sql")))),*]
    };
}

const QUERIES: [(&str, &str); 22] = queries![
    "q01", "q02", "q03", "q04", "q05", "q06", "q07", "q08", "q09", "q10", "q11", "q12", "q13", "q14", "q15",
    "q16", "q17", "q18", "q19", "q20", "q21", "q22"
];

#[tokio::test(flavor = "multi_thread")]
async fn every_tpch_query() {
    for (executors, cores) in [(2, 1), (2, 4)] {
        let lab = Lab::cluster(executors, cores);
        for table in &TABLES {
            lab.session.context().register_table(table.name, Arc::new(Planned::new(table))).unwrap();
        }
        for (name, query) in QUERIES {
            let graph = stage_graph(&lab, query.trim().trim_end_matches(';')).await;
            assert!(!graph.contains("in the driver"), "{name} must run on executors:\n{graph}");
            insta::assert_snapshot!(format!("{name}_on_{executors}x{cores}"), graph);
        }
    }
}
