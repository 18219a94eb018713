//! Foreign keys that follow Zipf's law.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use firesteel_bench::{Benchmark, GenerateOptions, Manifest, Skew};

use super::{SCALE, make, read};

struct Data {
    options: GenerateOptions,
    manifest: Manifest,
    _dir: tempfile::TempDir,
}

impl Data {
    fn of(benchmark: Benchmark, skew: Option<&str>, files: u32, sorted: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let skew = skew.map(|skew| skew.parse().unwrap());
        let options = GenerateOptions {
            skew,
            files,
            sorted,
            ..GenerateOptions::new(benchmark, SCALE, dir.path().join("data"))
        };
        Self { manifest: make(&options), options, _dir: dir }
    }

    fn table(&self, name: &str) -> RecordBatch {
        read(&self.options.out, &self.manifest, name)
    }
}

/// A column of keys.
fn keys(rows: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    let column = cast(rows.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
    column.as_primitive::<Int64Type>().iter().collect()
}

/// A column of keys without nulls.
fn all_keys(rows: &RecordBatch, name: &str) -> Vec<i64> {
    keys(rows, name).into_iter().map(Option::unwrap).collect()
}

/// How often each value occurs, the most frequent first.
fn frequencies<T: Eq + Hash>(values: impl IntoIterator<Item = T>) -> Vec<u64> {
    let mut counts = HashMap::<T, u64>::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts
}

/// The exponent of Zipf's law that fits the frequencies of these ranks best: the slope of their logarithms, by least squares.
fn exponent(frequencies: &[u64], ranks: std::ops::Range<usize>) -> f64 {
    let points: Vec<_> =
        ranks.map(|rank| ((rank as f64).ln(), (frequencies[rank - 1] as f64).ln())).collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    -covariance / variance
}

fn difference(one: &RecordBatch, other: &RecordBatch) -> Vec<String> {
    let schema = one.schema();
    let fields = schema.fields().iter().enumerate();
    fields
        .filter(|(at, _)| one.column(*at) != other.column(*at))
        .map(|(_, field)| field.name().clone())
        .collect()
}

#[test]
fn keys_of_tpch_follow_the_law_and_name_rows_that_exist() {
    for (text, wanted) in [("zipf:0.6", 0.6), ("zipf:1", 1.0), ("zipf:1.4", 1.4)] {
        let data = Data::of(Benchmark::Tpch, Some(text), 2, false);
        let (lines, orders) = (data.table("lineitem"), data.table("orders"));
        let (parts, suppliers) = (all_keys(&lines, "l_partkey"), all_keys(&lines, "l_suppkey"));
        let customers = all_keys(&orders, "o_custkey");
        for of in [frequencies(&parts), frequencies(&customers)] {
            let found = exponent(&of, 1..60);
            assert!((found - wanted).abs() < 0.12, "{text}: {found}");
        }
        // A third of the customers have no orders.
        assert!(customers.iter().all(|customer| (1..=1_500).contains(customer) && customer % 3 != 0));
        let supplied = data.table("partsupp");
        let supplied: HashSet<_> =
            all_keys(&supplied, "ps_partkey").into_iter().zip(all_keys(&supplied, "ps_suppkey")).collect();
        assert!(parts.iter().copied().zip(suppliers.iter().copied()).all(|both| supplied.contains(&both)));
        // Of the four suppliers of the part in demand, one is.
        let of_part = frequencies(&parts)[0] as f64;
        let both = frequencies(parts.iter().zip(&suppliers))[0] as f64;
        let share = 1.0 / (1..=4).map(|rank| f64::from(rank).powf(-wanted)).sum::<f64>();
        assert!((both / of_part - share).abs() < 0.05, "{text}: {} of {of_part}", both);
    }
}

#[test]
fn nothing_but_foreign_keys_of_fact_tables_changes() {
    let skewed = Data::of(Benchmark::Tpch, Some("zipf:1"), 1, false);
    let plain = Data::of(Benchmark::Tpch, None, 1, false);
    for table in Benchmark::Tpch.table_names() {
        let expected: &[&str] = match table {
            "lineitem" => &["l_partkey", "l_suppkey"],
            "orders" => &["o_custkey"],
            _ => &[],
        };
        assert_eq!(difference(&skewed.table(table), &plain.table(table)), expected, "{table}");
    }
    let Some(Skew::Zipf { exponent, seed }) = skewed.manifest.recipe.skew else {
        panic!("it is written down")
    };
    assert_eq!((exponent, seed), (1.0, Skew::SEED));
    assert_eq!(skewed.manifest.recipe.seed, "fixed by the generator");
}

#[test]
fn skewed_rows_do_not_depend_on_files() {
    let (one, many) = (
        Data::of(Benchmark::Tpch, Some("zipf:1"), 1, false),
        Data::of(Benchmark::Tpch, Some("zipf:1"), 7, false),
    );
    for table in ["lineitem", "orders"] {
        assert_eq!(one.table(table), many.table(table), "{table}");
    }
    // Keys and sorting do not get into each other's way.
    let sorted = Data::of(Benchmark::Tpch, Some("zipf:1"), 3, true);
    let counted = |data: &Data| frequencies(all_keys(&data.table("lineitem"), "l_partkey"));
    assert_eq!(counted(&sorted), counted(&one));
}

/// A table of sales or returns, and its columns of orders, items and customers.
struct Lines {
    table: &'static str,
    order: &'static str,
    item: &'static str,
    customers: [&'static str; 2],
}

impl Lines {
    const fn of(
        table: &'static str,
        order: &'static str,
        item: &'static str,
        customers: [&'static str; 2],
    ) -> Self {
        Self { table, order, item, customers }
    }
}

/// Sales and their returns.
const CHANNELS: [[Lines; 2]; 3] = [
    [
        Lines::of("store_sales", "ss_ticket_number", "ss_item_sk", ["ss_customer_sk"; 2]),
        Lines::of("store_returns", "sr_ticket_number", "sr_item_sk", ["sr_customer_sk"; 2]),
    ],
    [
        Lines::of(
            "catalog_sales",
            "cs_order_number",
            "cs_item_sk",
            ["cs_bill_customer_sk", "cs_ship_customer_sk"],
        ),
        Lines::of(
            "catalog_returns",
            "cr_order_number",
            "cr_item_sk",
            ["cr_refunded_customer_sk", "cr_returning_customer_sk"],
        ),
    ],
    [
        Lines::of(
            "web_sales",
            "ws_order_number",
            "ws_item_sk",
            ["ws_bill_customer_sk", "ws_ship_customer_sk"],
        ),
        Lines::of(
            "web_returns",
            "wr_order_number",
            "wr_item_sk",
            ["wr_refunded_customer_sk", "wr_returning_customer_sk"],
        ),
    ],
];

#[test]
fn keys_of_tpcds_follow_the_law_and_returns_are_of_sales() {
    let data = Data::of(Benchmark::Tpcds, Some("zipf:0.8"), 4, false);
    let plain = Data::of(Benchmark::Tpcds, None, 4, false);
    let items: HashSet<_> = all_keys(&data.table("item"), "i_item_sk").into_iter().collect();
    let customers: HashSet<_> = all_keys(&data.table("customer"), "c_customer_sk").into_iter().collect();
    for [sales, returns] in CHANNELS {
        let sold = lines(&data, &sales);
        let distinct: HashSet<_> = sold.iter().copied().collect();
        assert_eq!(distinct.len(), sold.len(), "an order of {} holds an item once", sales.table);
        assert!(lines(&data, &returns).iter().all(|line| distinct.contains(line)), "{}", returns.table);
        for Lines { table, item, customers: buyers, .. } in [&sales, &returns] {
            let (rows, evenly) = (data.table(table), plain.table(table));
            let mut expected = vec![*item, buyers[0], buyers[1]];
            expected.sort_unstable();
            expected.dedup();
            let mut changed = difference(&rows, &evenly);
            changed.sort_unstable();
            assert_eq!(changed, expected, "{table}");
            assert!(all_keys(&rows, item).iter().all(|item| items.contains(item)), "{table}");
            for buyer in buyers {
                let keys = keys(&rows, buyer);
                assert!(keys.iter().flatten().all(|customer| customers.contains(customer)), "{table}");
                let nulls = |rows: &RecordBatch| rows.column_by_name(buyer).unwrap().nulls().cloned();
                assert_eq!(nulls(&rows), nulls(&evenly), "{table}");
            }
        }
        // The first ranks are flattened, as an order holds an item once.
        let found = exponent(&frequencies(sold.iter().map(|(_, item)| item)), 10..100);
        assert!((found - 0.8).abs() < 0.2, "{}: {found}", sales.table);
        let (most, evenly) = (orders_of_one(&data, &sales), orders_of_one(&plain, &sales));
        assert!(most > 4 * evenly, "{}: {most} and {evenly}", sales.table);
    }
}

/// The lines of a table, each as its order and its item.
fn lines(data: &Data, of: &Lines) -> Vec<(i64, i64)> {
    let rows = data.table(of.table);
    all_keys(&rows, of.order).into_iter().zip(all_keys(&rows, of.item)).collect()
}

/// The orders of the customer who has most of them.
fn orders_of_one(data: &Data, sales: &Lines) -> u64 {
    let rows = data.table(sales.table);
    let lines = all_keys(&rows, sales.order).into_iter().zip(keys(&rows, sales.customers[0]));
    let orders: HashSet<_> = lines.filter_map(|(order, customer)| Some((order, customer?))).collect();
    frequencies(orders.into_iter().map(|(_, customer)| customer))[0]
}

#[test]
fn who_returns_what_they_bought_still_does() {
    let same = |data: &Data| {
        let sales = data.table("store_sales");
        let buyers: HashMap<_, _> = all_keys(&sales, "ss_ticket_number")
            .into_iter()
            .zip(keys(&sales, "ss_customer_sk"))
            .filter_map(|(order, customer)| Some((order, customer?)))
            .collect();
        let returns = data.table("store_returns");
        let pairs = all_keys(&returns, "sr_ticket_number").into_iter().zip(keys(&returns, "sr_customer_sk"));
        pairs.filter(|(order, customer)| buyers.get(order) == customer.as_ref()).count()
    };
    let plain = same(&Data::of(Benchmark::Tpcds, None, 1, false));
    let skewed = same(&Data::of(Benchmark::Tpcds, Some("zipf:0.5"), 1, false));
    // Two different customers may become one.
    assert!(skewed >= plain && skewed < plain + plain / 10, "{skewed} and {plain}");
}
