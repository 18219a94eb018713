//! The skew of TPC-H.
//!
//! - `l_partkey` follows the law over all parts.
//! - `l_suppkey` is one of the four suppliers that PARTSUPP names for the part, and follows the law over those four.
//! - `o_custkey` follows the law over the customers that may order. As the specification has it, customers whose key is a
//!   multiple of three have no orders; with the skew more may have none, as hardly anything is drawn for the last ranks.
//! - Prices are those of the part that the generator would have named: `l_extendedprice` is not that part's retail price
//!   times the quantity any more, but `o_totalprice` is still the sum of its lines.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use tpchgen::generators::PartSuppGeneratorIterator;

use super::super::tables::TpchTable as Table;
use super::keys::Keys;
use super::zipf::{Draws, Zipf};
use super::{Mapped, Skew, column, replace};

/// Suppliers of a part.
const SUPPLIERS: u64 = 4;

/// The rows of `table`, with skewed keys when it is a fact table.
pub fn skewed(
    table: Table,
    scale: f64,
    skew: Skew,
    rows: Box<dyn RecordBatchReader>,
) -> Box<dyn RecordBatchReader> {
    match table {
        Table::LineItem => {
            let lines = Lines::new(scale, skew);
            Box::new(Mapped { rows, change: move |batch| lines.change(&batch) })
        }
        Table::Orders => {
            let orders = Orders::new(scale, skew);
            Box::new(Mapped { rows, change: move |batch| orders.change(&batch) })
        }
        _ => rows,
    }
}

struct Lines {
    scale: f64,
    seed: u64,
    parts: Keys,
    suppliers: Zipf,
}

impl Lines {
    fn new(scale: f64, skew: Skew) -> Self {
        let Skew::Zipf { exponent, seed } = skew;
        let parts = Keys::new(skew, Table::Part.rows(scale));
        Self { scale, seed, parts, suppliers: Zipf::new(SUPPLIERS, exponent) }
    }

    fn change(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let orders = column::<Int64Type>(batch, "l_orderkey").values();
        let lines = column::<Int32Type>(batch, "l_linenumber").values();
        let keys = orders.iter().zip(lines).map(|(order, line)| self.draw(*order, *line));
        let (parts, suppliers): (Vec<_>, Vec<_>) = keys.unzip();
        replace(
            batch,
            vec![
                ("l_partkey", Arc::new(Int64Array::from(parts))),
                ("l_suppkey", Arc::new(Int64Array::from(suppliers))),
            ],
        )
    }

    /// The part and the supplier of a line.
    fn draw(&self, order: i64, line: i32) -> (i64, i64) {
        let mut draws = Draws::of(self.seed, [order, line.into()]);
        let part = self.parts.draw(&mut draws) as i64 + 1;
        let number = self.suppliers.draw(&mut draws) as i64 - 1;
        (part, PartSuppGeneratorIterator::select_part_supplier(part, number, self.scale))
    }
}

struct Orders {
    seed: u64,
    customers: Keys,
}

impl Orders {
    fn new(scale: f64, skew: Skew) -> Self {
        let Skew::Zipf { seed, .. } = skew;
        let customers = Table::Customer.rows(scale);
        Self { seed, customers: Keys::new(skew, customers - customers / 3) }
    }

    fn change(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let orders = column::<Int64Type>(batch, "o_orderkey").values();
        let customers = orders.iter().map(|order| self.draw(*order)).collect::<Vec<_>>();
        replace(batch, vec![("o_custkey", Arc::new(Int64Array::from(customers)))])
    }

    /// The customer of an order: of 0, 1, 2, 3, .. the keys 1, 2, 4, 5, ..
    fn draw(&self, order: i64) -> i64 {
        // An order has no line 0, so this is the draw of nothing else.
        let nth = self.customers.draw(&mut Draws::of(self.seed, [order, 0])) as i64;
        nth / 2 * 3 + nth % 2 + 1
    }
}
