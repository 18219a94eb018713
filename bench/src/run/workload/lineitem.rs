//! Lineitem, read without the engine: what a sort must keep, and what groupings must find.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use firesteel_base::UserError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use xxhash_rust::xxh3::xxh3_64;

use crate::verify::Expected;

/// Digits after the point of a quantity.
const QUANTITY_SCALE: i8 = 2;
const QUANTITY: DataType = DataType::Decimal128(15, QUANTITY_SCALE);

/// The files of the table, in the order of their rows.
#[derive(Debug, Clone)]
pub(super) struct Lineitem {
    files: Vec<PathBuf>,
    schema: SchemaRef,
}

/// What rows come to, whatever order they stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Digest {
    rows: u64,
    /// The hashes of all rows, added up.
    hash: u64,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows with the hash {:016x}", self.rows, self.hash)
    }
}

impl Lineitem {
    pub fn open(files: Vec<PathBuf>) -> Result<Self, UserError> {
        let first = files.first().ok_or_else(|| UserError::new("lineitem has no files"))?;
        let schema = reader(first, None)?.1;
        Ok(Self { files, schema })
    }

    /// The digest of the table.
    pub async fn digest(&self) -> Result<Digest, UserError> {
        let mut rows = Rows::of(&self.schema)?;
        for file in &self.files {
            rows.add_file(file, |_| Ok(())).await?;
        }
        Ok(rows.digest)
    }

    /// The digest of another file with the table's columns.
    ///
    /// # Errors
    /// When it is no such file, or its rows are not in the order of `column`.
    pub async fn digest_sorted(&self, file: &Path, column: &str) -> Result<Digest, UserError> {
        let mut rows = Rows::of(&self.schema)?;
        let (mut last, mut row) = (i64::MIN, 0_u64);
        let in_order = |batch: &RecordBatch| {
            for &key in numbers(batch, column)?.as_primitive::<Int64Type>().values() {
                row += 1;
                if key < last {
                    return Err(UserError::new(format!("row {row}: {column} is {key}, after {last}")));
                }
                last = key;
            }
            Ok(())
        };
        rows.add_file(file, in_order).await?;
        Ok(rows.digest)
    }

    /// The groups of the table.
    pub async fn groups(&self) -> Result<Groups, UserError> {
        let mut grouper = Grouper::default();
        if self.each_row(|row| grouper.add(row)).await? {
            return Ok(grouper.groups());
        }
        // The rows do not stand order by order, as they do when nothing else was asked for. All of them in memory, that is 32
        // bytes for each.
        let mut rows = Vec::new();
        let keep = |row| {
            rows.push(row);
            true
        };
        self.each_row(keep).await?;
        rows.sort_unstable();
        let mut grouper = Grouper::default();
        let all = rows.into_iter().all(|row| grouper.add(row));
        assert!(all, "they were sorted by their order first");
        Ok(grouper.groups())
    }

    /// Hands out rows until one is not taken; whether all were.
    async fn each_row(&self, mut take: impl FnMut(Row) -> bool) -> Result<bool, UserError> {
        for file in &self.files {
            let names = ["l_orderkey", "l_partkey", "l_suppkey", "l_quantity"];
            for batch in reader(file, Some(&names))?.0 {
                let batch = batch.map_err(|fault| unreadable(file, &fault))?;
                if !Row::all_of(&batch)?.all(&mut take) {
                    return Ok(false);
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(true)
    }
}

/// What groupings see of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    order: i64,
    supplier: i64,
    part: i64,
    /// In hundredths.
    quantity: i64,
}

impl Row {
    fn all_of(batch: &RecordBatch) -> Result<impl Iterator<Item = Self>, UserError> {
        let keys =
            |name| Ok::<_, UserError>(numbers(batch, name)?.as_primitive::<Int64Type>().values().clone());
        let (orders, suppliers, parts) = (keys("l_orderkey")?, keys("l_suppkey")?, keys("l_partkey")?);
        let quantities = column(batch, "l_quantity", &QUANTITY)?;
        let quantities = quantities.as_primitive::<Decimal128Type>().values().clone();
        Ok((0..batch.num_rows()).map(move |row| Self {
            order: orders[row],
            supplier: suppliers[row],
            part: parts[row],
            quantity: i64::try_from(quantities[row]).expect("a quantity has 15 digits at most"),
        }))
    }
}

/// Rows as bytes that do not depend on how a file holds them, hashed.
struct Rows {
    schema: SchemaRef,
    converter: RowConverter,
    digest: Digest,
}

impl Rows {
    fn of(schema: &SchemaRef) -> Result<Self, UserError> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect())
            .map_err(|fault| UserError::new(format!("rows of lineitem cannot be hashed: {fault}")))?;
        Ok(Self { schema: SchemaRef::clone(schema), converter, digest: Digest::default() })
    }

    async fn add_file(
        &mut self,
        file: &Path,
        mut check: impl FnMut(&RecordBatch) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        for batch in reader(file, None)?.0 {
            let batch = batch.map_err(|fault| unreadable(file, &fault))?;
            check(&batch)?;
            self.add(&batch)?;
            // Reading takes long: let whoever waits for a signal look for it.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), UserError> {
        let fields = self.schema.fields().iter();
        let columns = fields.map(|field| column(batch, field.name(), field.data_type()));
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let rows = self.converter.convert_columns(&columns).map_err(|fault| unlike(&fault))?;
        for row in &rows {
            self.digest.hash = self.digest.hash.wrapping_add(xxh3_64(row.as_ref()));
        }
        self.digest.rows += batch.num_rows() as u64;
        Ok(())
    }
}

/// What groupings of lineitem come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Groups {
    orders: Grouping,
    parts: Grouping,
    /// Orders by how many suppliers they have: how many there are, and their squares, added up.
    suppliers: u64,
    supplier_squares: u64,
}

/// Groups by one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Grouping {
    groups: u64,
    /// The squares of the rows of each, added up.
    squares: u64,
    /// The quantities of all rows, in hundredths.
    quantity: i128,
    /// The largest quantity of a group.
    most: i128,
}

impl Grouping {
    fn add(&mut self, rows: u64, quantity: i128) {
        self.groups += 1;
        self.squares += rows * rows;
        self.quantity += quantity;
        self.most = self.most.max(quantity);
    }

    fn expected(&self) -> Expected {
        let names = ["groups", "squares", "quantity", "most"].map(str::to_owned).to_vec();
        let quantities = [self.quantity, self.most].map(|sum| format!("{}.{:02}", sum / 100, sum % 100));
        let numbers = [self.groups, self.squares].map(|number| number.to_string());
        Expected { columns: names, rows: vec![numbers.into_iter().chain(quantities).collect()] }
    }
}

impl Groups {
    /// The answer about orders.
    pub fn of_orders(&self) -> Expected {
        self.orders.expected()
    }

    /// The answer about suppliers and parts.
    pub fn of_parts(&self) -> Expected {
        self.parts.expected()
    }

    /// The answer about the suppliers of each order.
    pub fn of_suppliers(&self) -> Expected {
        let names = ["groups", "suppliers", "squares"].map(str::to_owned).to_vec();
        let numbers = [self.orders.groups, self.suppliers, self.supplier_squares];
        Expected { columns: names, rows: vec![numbers.map(|number| number.to_string()).to_vec()] }
    }
}

/// Groups rows that come order by order.
#[derive(Default)]
struct Grouper {
    found: Groups,
    /// The order whose rows come.
    order: Option<Order>,
    /// Rows and quantities by supplier and part.
    parts: HashMap<(i64, i64), (u64, i128)>,
}

struct Order {
    key: i64,
    suppliers: Vec<i64>,
    quantity: i128,
}

impl Grouper {
    /// Takes a row in, unless it is of an order before the last one.
    fn add(&mut self, row: Row) -> bool {
        let quantity = i128::from(row.quantity);
        match &mut self.order {
            Some(order) if order.key > row.order => return false,
            Some(order) if order.key == row.order => {
                order.suppliers.push(row.supplier);
                order.quantity += quantity;
            }
            _ => {
                self.end_order();
                self.order = Some(Order { key: row.order, suppliers: vec![row.supplier], quantity });
            }
        }
        let part = self.parts.entry((row.supplier, row.part)).or_default();
        *part = (part.0 + 1, part.1 + quantity);
        true
    }

    fn end_order(&mut self) {
        let Some(mut order) = self.order.take() else { return };
        self.found.orders.add(order.suppliers.len() as u64, order.quantity);
        order.suppliers.sort_unstable();
        order.suppliers.dedup();
        let suppliers = order.suppliers.len() as u64;
        self.found.suppliers += suppliers;
        self.found.supplier_squares += suppliers * suppliers;
    }

    fn groups(mut self) -> Groups {
        self.end_order();
        for (rows, quantity) in self.parts.values() {
            self.found.parts.add(*rows, *quantity);
        }
        self.found
    }
}

/// The batches of a file with all columns or those, and the columns that the file has.
fn reader(file: &Path, names: Option<&[&str]>) -> Result<(ParquetRecordBatchReader, SchemaRef), UserError> {
    let open = || {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?;
        let schema = SchemaRef::clone(builder.schema());
        let mask =
            names.map(|names| ProjectionMask::columns(builder.parquet_schema(), names.iter().copied()));
        let builder = match mask {
            Some(mask) => builder.with_projection(mask),
            None => builder,
        };
        Ok::<_, parquet::errors::ParquetError>((builder.build()?, schema))
    };
    open().map_err(|fault| unreadable(file, &fault))
}

fn unreadable(file: &Path, fault: &dyn fmt::Display) -> UserError {
    UserError::new(format!("{} cannot be read: {fault}", file.display()))
}

fn unlike(fault: &dyn fmt::Display) -> UserError {
    UserError::new(format!("the columns are not those of lineitem: {fault}"))
}

fn numbers(batch: &RecordBatch, name: &str) -> Result<ArrayRef, UserError> {
    column(batch, name, &DataType::Int64)
}

/// A column as that type: files hold texts in more than one.
fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> Result<ArrayRef, UserError> {
    let column = batch.column_by_name(name).ok_or_else(|| unlike(&format!("there is no {name}")))?;
    cast(column, data_type).map_err(|fault| unlike(&fault))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Int64Array, StringArray, StringViewArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// A file of rows of order, part, supplier, quantity in hundredths, and comment.
    fn write(path: &Path, rows: &[(i64, i64, i64, i128, &str)], views: bool) {
        let numbers = |of: &dyn Fn(usize) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values((0..rows.len()).map(of)))
        };
        let quantity = Decimal128Array::from_iter_values(rows.iter().map(|row| row.3));
        let comments = rows.iter().map(|row| row.4);
        let comments: ArrayRef = match views {
            true => Arc::new(StringViewArray::from_iter_values(comments)),
            false => Arc::new(StringArray::from_iter_values(comments)),
        };
        let batch = RecordBatch::try_from_iter([
            ("l_orderkey", numbers(&|row| rows[row].0)),
            ("l_partkey", numbers(&|row| rows[row].1)),
            ("l_suppkey", numbers(&|row| rows[row].2)),
            ("l_quantity", Arc::new(quantity.with_precision_and_scale(15, 2).unwrap())),
            ("l_comment", comments),
        ]);
        let batch = batch.unwrap();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    const ROWS: [(i64, i64, i64, i128, &str); 5] = [
        (1, 10, 7, 100, "a"),
        (1, 20, 8, 250, "b"),
        (1, 10, 7, 1, "c"),
        (3, 10, 7, 5000, "d"),
        (4, 20, 9, 300, "a"),
    ];

    #[tokio::test]
    async fn groups_are_found_whatever_order_the_rows_stand_in() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        write(&one, &ROWS[..2], false);
        write(&two, &ROWS[2..], false);
        for files in [vec![one.clone(), two.clone()], vec![two, one]] {
            let groups = Lineitem::open(files).unwrap().groups().await.unwrap();
            assert_eq!(groups.of_orders().rows, [["3", "11", "56.51", "50.00"]]);
            assert_eq!(groups.of_suppliers().rows, [["3", "4", "6"]]);
            assert_eq!(groups.of_parts().rows, [["3", "11", "56.51", "51.01"]]);
        }
    }

    #[tokio::test]
    async fn a_sorted_file_has_the_digest_of_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("table"), &ROWS, false);
        let table = Lineitem::open(vec![path("table")]).unwrap();
        let right = table.digest().await.unwrap();
        let mut rows = ROWS;
        rows.sort_by_key(|row| row.1);
        write(&path("sorted"), &rows, true);
        assert_eq!(table.digest_sorted(&path("sorted"), "l_partkey").await.unwrap(), right);
        let fault = table.digest_sorted(&path("sorted"), "l_orderkey").await.unwrap_err();
        assert_eq!(fault.message, "row 4: l_orderkey is 1, after 3");

        rows[4].4 = "e";
        write(&path("changed"), &rows, true);
        assert_ne!(table.digest_sorted(&path("changed"), "l_partkey").await.unwrap(), right);
        write(&path("lost"), &rows[1..], true);
        assert_ne!(table.digest_sorted(&path("lost"), "l_partkey").await.unwrap(), right);
        let fault = table.digest_sorted(&path("nowhere"), "l_partkey").await.unwrap_err();
        assert!(fault.message.contains("nowhere cannot be read"), "{fault}");
    }
}
