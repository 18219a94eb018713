//! The tables of TPC-H, and how each is cut into files.

use arrow::record_batch::RecordBatchReader;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

use super::manifest::Recipe;

/// A file holds at least about this many rows, so a small table is not cut into crumbs.
const ROWS_PER_FILE_MIN: u64 = 5_000;

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

    fn files(self, recipe: &Recipe) -> u32 {
        let worth = self.rows(recipe.scale) / ROWS_PER_FILE_MIN;
        u32::try_from(worth).unwrap_or(u32::MAX).clamp(1, recipe.files)
    }
}

/// A file's share of a table: the `index`th of `count`, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub table: Table,
    pub index: u32,
    pub count: u32,
}

impl Part {
    /// Where it lies below the folder.
    pub fn path(&self) -> String {
        format!("{}/part-{:03}.parquet", self.table.name(), self.index)
    }

    /// Its rows.
    pub fn rows(&self, scale: f64) -> Box<dyn RecordBatchReader> {
        let (nth, of) = (self.index as i32 + 1, self.count as i32);
        match self.table {
            Table::LineItem => Box::new(LineItemArrow::new(LineItemGenerator::new(scale, nth, of))),
            Table::Orders => Box::new(OrderArrow::new(OrderGenerator::new(scale, nth, of))),
            Table::PartSupp => Box::new(PartSuppArrow::new(PartSuppGenerator::new(scale, nth, of))),
            Table::Part => Box::new(PartArrow::new(PartGenerator::new(scale, nth, of))),
            Table::Customer => Box::new(CustomerArrow::new(CustomerGenerator::new(scale, nth, of))),
            Table::Supplier => Box::new(SupplierArrow::new(SupplierGenerator::new(scale, nth, of))),
            Table::Nation => Box::new(NationArrow::new(NationGenerator::new(scale, nth, of))),
            Table::Region => Box::new(RegionArrow::new(RegionGenerator::new(scale, nth, of))),
        }
    }
}

/// All files of all tables.
pub(super) fn parts(recipe: &Recipe) -> Vec<Part> {
    let of_table = |table: Table| {
        let count = table.files(recipe);
        (0..count).map(move |index| Part { table, index, count })
    };
    Table::ALL.into_iter().flat_map(of_table).collect()
}

/// Rows of all tables, about.
pub(super) fn estimated_rows(scale: f64) -> u64 {
    Table::ALL.into_iter().map(|table| table.rows(scale)).sum()
}
