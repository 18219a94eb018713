//! The tables of TPC-H.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchReader;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

use super::SortKey;
use crate::generate::skew::{self, Skew};

/// A table of TPC-H.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Table {
    LineItem,
    Orders,
    PartSupp,
    Part,
    Customer,
    Supplier,
    Nation,
    Region,
}

impl Table {
    /// All tables, the largest first, so that the longest work is begun first.
    pub const ALL: [Self; 8] = [
        Self::LineItem,
        Self::Orders,
        Self::PartSupp,
        Self::Part,
        Self::Customer,
        Self::Supplier,
        Self::Nation,
        Self::Region,
    ];

    /// Its name in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LineItem => "lineitem",
            Self::Orders => "orders",
            Self::PartSupp => "partsupp",
            Self::Part => "part",
            Self::Customer => "customer",
            Self::Supplier => "supplier",
            Self::Nation => "nation",
            Self::Region => "region",
        }
    }

    /// Rows at `scale`; exact but for lineitem, whose orders have 1 to 7 lines, 4 in the mean.
    #[must_use]
    pub fn rows(self, scale: f64) -> u64 {
        let scaled = |rows_at_one: f64| (rows_at_one * scale) as u64;
        match self {
            Self::LineItem => 4 * scaled(1_500_000.0),
            Self::Orders => scaled(1_500_000.0),
            Self::PartSupp => 4 * scaled(200_000.0),
            Self::Part => scaled(200_000.0),
            Self::Customer => scaled(150_000.0),
            Self::Supplier => scaled(10_000.0),
            Self::Nation => 25,
            Self::Region => 5,
        }
    }

    /// Whether [`Self::rows`] are all rows and no more.
    pub(super) fn rows_are_exact(self) -> bool {
        self != Self::LineItem
    }

    /// Its columns.
    pub(super) fn schema(self) -> SchemaRef {
        match self {
            Self::LineItem => LineItemArrow::schema_ref(),
            Self::Orders => OrderArrow::schema_ref(),
            Self::PartSupp => PartSuppArrow::schema_ref(),
            Self::Part => PartArrow::schema_ref(),
            Self::Customer => CustomerArrow::schema_ref(),
            Self::Supplier => SupplierArrow::schema_ref(),
            Self::Nation => NationArrow::schema_ref(),
            Self::Region => RegionArrow::schema_ref(),
        }
    }

    /// By what it is sorted.
    pub(super) fn sort_key(self) -> SortKey {
        match self {
            Self::LineItem => SortKey::sorted(&["l_shipdate"]),
            Self::Orders => SortKey::sorted(&["o_orderdate"]),
            Self::PartSupp => SortKey::sorted(&["ps_partkey", "ps_suppkey"]),
            Self::Part => SortKey::generated(&["p_partkey"]),
            Self::Customer => SortKey::generated(&["c_custkey"]),
            Self::Supplier => SortKey::generated(&["s_suppkey"]),
            Self::Nation => SortKey::generated(&["n_nationkey"]),
            Self::Region => SortKey::generated(&["r_regionkey"]),
        }
    }

    /// The `index`th of `count` shares of its rows, from 0.
    pub(super) fn read(
        self,
        scale: f64,
        skew: Option<Skew>,
        index: u32,
        count: u32,
    ) -> Box<dyn RecordBatchReader> {
        let rows = self.read_plain(scale, index, count);
        match skew {
            None => rows,
            Some(skew) => skew::tpch::skewed(self, scale, skew, rows),
        }
    }

    fn read_plain(self, scale: f64, index: u32, count: u32) -> Box<dyn RecordBatchReader> {
        let (nth, of) = (index as i32 + 1, count as i32);
        match self {
            Self::LineItem => Box::new(LineItemArrow::new(LineItemGenerator::new(scale, nth, of))),
            Self::Orders => Box::new(OrderArrow::new(OrderGenerator::new(scale, nth, of))),
            Self::PartSupp => Box::new(PartSuppArrow::new(PartSuppGenerator::new(scale, nth, of))),
            Self::Part => Box::new(PartArrow::new(PartGenerator::new(scale, nth, of))),
            Self::Customer => Box::new(CustomerArrow::new(CustomerGenerator::new(scale, nth, of))),
            Self::Supplier => Box::new(SupplierArrow::new(SupplierGenerator::new(scale, nth, of))),
            Self::Nation => Box::new(NationArrow::new(NationGenerator::new(scale, nth, of))),
            Self::Region => Box::new(RegionArrow::new(RegionGenerator::new(scale, nth, of))),
        }
    }
}
