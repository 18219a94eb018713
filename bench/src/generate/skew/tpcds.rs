//! The skew of TPC-DS.
//!
//! - The item of a sale follows the law over all rows of ITEM, whatever the date of the sale. An order holds an item once,
//!   as before: where the law draws one again, the next rank that the order does not hold is taken. That flattens the
//!   first ranks, as nothing can be in more than every order.
//! - The customers of a sale follow the law, order by order: where the generator names one customer twice within an order
//!   (who buys and who receives), the skewed keys are one customer too.
//! - A return is of an item of its order. Its customers are skewed as those of sales are, so whoever returns what they
//!   bought still does.
//! - Inventory, and who bought what by which demographics and address, are as before.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use tpcdsgen::config::Table as T;

use super::keys::Keys;
use super::zipf::Draws;
use super::{Mapped, Skew, column, replace};

/// The columns of a fact table that are about an order.
struct Columns {
    order: &'static str,
    item: &'static str,
    customers: &'static [&'static str],
}

/// Those of a table of sales or returns.
fn columns(table: T) -> Option<Columns> {
    let columns = |order, item, customers| Some(Columns { order, item, customers });
    match table {
        T::StoreSales => columns("ss_ticket_number", "ss_item_sk", &["ss_customer_sk"]),
        T::StoreReturns => columns("sr_ticket_number", "sr_item_sk", &["sr_customer_sk"]),
        T::CatalogSales => {
            columns("cs_order_number", "cs_item_sk", &["cs_bill_customer_sk", "cs_ship_customer_sk"])
        }
        T::CatalogReturns => {
            columns("cr_order_number", "cr_item_sk", &["cr_refunded_customer_sk", "cr_returning_customer_sk"])
        }
        T::WebSales => {
            columns("ws_order_number", "ws_item_sk", &["ws_bill_customer_sk", "ws_ship_customer_sk"])
        }
        T::WebReturns => {
            columns("wr_order_number", "wr_item_sk", &["wr_refunded_customer_sk", "wr_returning_customer_sk"])
        }
        _ => None,
    }
}

/// The sales that a table of returns is about.
fn sales_of(returns: T) -> Option<T> {
    match returns {
        T::StoreReturns => Some(T::StoreSales),
        T::CatalogReturns => Some(T::CatalogSales),
        T::WebReturns => Some(T::WebSales),
        _ => None,
    }
}

/// Reads the rows of a table that come from the same orders as others of one share.
pub type Read<'a> = &'a dyn Fn(T) -> Box<dyn RecordBatchReader>;

/// The rows of `table` that `read` gives, with skewed keys when it is one of sales or returns; `rows` counts those of a table.
pub fn skewed(table: T, skew: Skew, rows: impl Fn(T) -> u64, read: Read<'_>) -> Box<dyn RecordBatchReader> {
    let Some(columns) = columns(table) else { return read(table) };
    let law =
        Law { skew, items: Keys::new(skew, rows(T::Item)), customers: Keys::new(skew, rows(T::Customer)) };
    let mut baskets = Baskets::default();
    match sales_of(table) {
        None => Box::new(Mapped {
            rows: read(table),
            change: move |batch| {
                let items = baskets.add(&law, &columns, &batch);
                law.change(&columns, &batch, items)
            },
        }),
        Some(sales) => {
            let sold_columns = self::columns(sales).expect("they are sales");
            let mut sold = Sold { sales: read(sales), columns: sold_columns, baskets, items: HashMap::new() };
            Box::new(Mapped {
                rows: read(table),
                change: move |batch| {
                    let items = sold.items(&law, &columns, &batch)?;
                    law.change(&columns, &batch, items)
                },
            })
        }
    }
}

struct Law {
    skew: Skew,
    items: Keys,
    customers: Keys,
}

impl Law {
    /// Draws for one thing of an order: its own key tells it from the others of the order.
    fn draws(&self, order: i64, what: i64) -> Draws {
        let Skew::Zipf { seed, .. } = self.skew;
        Draws::of(seed, [order, what])
    }

    /// The batch with these items, and customers of its own.
    fn change(
        &self,
        columns: &Columns,
        batch: &RecordBatch,
        items: Vec<i32>,
    ) -> Result<RecordBatch, ArrowError> {
        let orders = column::<Int64Type>(batch, columns.order);
        let mut changed: Vec<(&str, ArrayRef)> = vec![(columns.item, Arc::new(Int32Array::from(items)))];
        for name in columns.customers {
            let customers = column::<Int32Type>(batch, name);
            let drawn = orders.values().iter().zip(customers).map(|(order, customer)| {
                // Items have keys above 0, so customers are told from them by the sign.
                customer
                    .map(|customer| key(self.customers.draw(&mut self.draws(*order, -i64::from(customer)))))
            });
            changed.push((name, Arc::new(drawn.collect::<Int32Array>())));
        }
        replace(batch, changed)
    }
}

/// A key as it stands in tables: from 1.
fn key(from_zero: u64) -> i32 {
    i32::try_from(from_zero + 1).expect("the generator's keys fit")
}

/// The items of orders: which one stands for the one that the generator named. Rows of an order follow each other.
#[derive(Default)]
struct Baskets {
    /// The order of the last row.
    order: i64,
    /// The ranks of its items.
    ranks: HashSet<u64>,
}

impl Baskets {
    /// The items of a batch of sales.
    fn add(&mut self, law: &Law, columns: &Columns, sales: &RecordBatch) -> Vec<i32> {
        let orders = column::<Int64Type>(sales, columns.order).values();
        let items = column::<Int32Type>(sales, columns.item).values();
        orders.iter().zip(items).map(|(order, item)| self.next(law, *order, *item)).collect()
    }

    fn next(&mut self, law: &Law, order: i64, item: i32) -> i32 {
        if order != self.order {
            self.order = order;
            self.ranks.clear();
        }
        let mut rank = law.items.rank(&mut law.draws(order, item.into()));
        while !self.ranks.insert(rank) {
            rank = law.items.after(rank);
        }
        key(law.items.key(rank))
    }
}

/// The sales of a share of the returns, read as far as the returns have come.
struct Sold {
    sales: Box<dyn RecordBatchReader>,
    columns: Columns,
    baskets: Baskets,
    items: HashMap<(i64, i32), i32>,
}

impl Sold {
    /// The items of a batch of returns.
    fn items(&mut self, law: &Law, columns: &Columns, returns: &RecordBatch) -> Result<Vec<i32>, ArrowError> {
        let orders = column::<Int64Type>(returns, columns.order).values();
        let items = column::<Int32Type>(returns, columns.item).values();
        if let Some(first) = orders.first() {
            self.items.retain(|(order, _), _| order >= first);
        }
        orders.iter().zip(items).map(|(order, item)| self.item(law, (*order, *item))).collect()
    }

    /// What the order has instead of the item.
    fn item(&mut self, law: &Law, sold: (i64, i32)) -> Result<i32, ArrowError> {
        loop {
            if let Some(item) = self.items.get(&sold) {
                return Ok(*item);
            }
            let none =
                || ArrowError::ComputeError(format!("item {} of order {} was not sold", sold.1, sold.0));
            let sales = self.sales.next().ok_or_else(none)??;
            let orders = column::<Int64Type>(&sales, self.columns.order).values();
            let items = column::<Int32Type>(&sales, self.columns.item).values();
            let instead = self.baskets.add(law, &self.columns, &sales);
            let sold = orders.iter().copied().zip(items.iter().copied());
            self.items.extend(sold.zip(instead));
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;

    use crate::generate::tables::Table;
    use crate::generate::{Benchmark, GenerateOptions};

    use super::*;

    #[test]
    fn keys_do_not_depend_on_how_a_table_is_cut() {
        let options = GenerateOptions {
            skew: Some("zipf:1.2".parse().unwrap()),
            ..GenerateOptions::new(Benchmark::Tpcds, 0.01, "/nowhere")
        };
        let recipe = options.recipe().unwrap();
        let tables = Benchmark::Tpcds.tables();
        let facts: Vec<_> = tables
            .into_iter()
            .filter(|table| matches!(table, Table::Tpcds(table) if columns(*table).is_some()))
            .collect();
        assert_eq!(facts.len(), 6);
        for table in facts {
            let read = |shares: u32| {
                let batches: Vec<_> = (0..shares)
                    .flat_map(|share| table.slice(&recipe, share, shares).unwrap())
                    .map(Result::unwrap)
                    .collect();
                concat_batches(&table.schema(), &batches).unwrap()
            };
            assert!(read(1) == read(7), "{}", table.name());
        }
    }
}
