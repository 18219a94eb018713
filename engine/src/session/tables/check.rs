//! Files looked at before a table is made of them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::Session;
use datafusion::datasource::file_format::FileFormat;
use firesteel_base::UserError;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::kind::FileKind;
use super::location::Location;
use crate::session::classify;
use crate::session::errors::DAMAGED_PARQUET;

/// How many files are looked at at a time.
const FILES_AT_A_TIME: usize = 32;

/// Files of one location, as they are checked.
pub(super) struct Checked<'a> {
    pub location: &'a Location,
    pub kind: FileKind,
    pub format: &'a Arc<dyn FileFormat>,
    pub store: &'a Arc<dyn ObjectStore>,
    pub state: &'a dyn Session,
}

impl Checked<'_> {
    /// The columns of the files. With `declared`, the table has its columns from elsewhere, and the files need only be
    /// of the kind.
    pub async fn columns(
        &self,
        files: &[ObjectMeta],
        declared: bool,
    ) -> Result<Option<SchemaRef>, UserError> {
        if let Some(first) = files.first() {
            self.check_magic(first).await?;
        }
        if declared && self.kind != FileKind::Parquet {
            return Ok(None);
        }
        let schemas: Vec<(ObjectMeta, SchemaRef)> = futures::stream::iter(files.to_vec())
            .map(|file| async move { self.columns_of(&file).await.map(|columns| (file, columns)) })
            .buffered(FILES_AT_A_TIME)
            .try_collect()
            .await?;
        if declared {
            return Ok(None);
        }
        if let Some(((first, columns), others)) = schemas.split_first() {
            for (other, other_columns) in others {
                self.compare((first, columns), (other, other_columns))?;
            }
        }
        let all = self.format.infer_schema(self.state, self.store, files).await;
        all.map(Some).map_err(|fault| {
            let (_, error) = classify(&fault);
            UserError::new(format!("the columns of '{}' cannot be told", self.location.text))
                .detail(error.message)
        })
    }

    async fn columns_of(&self, file: &ObjectMeta) -> Result<SchemaRef, UserError> {
        match self.format.infer_schema(self.state, self.store, std::slice::from_ref(file)).await {
            Ok(schema) => Ok(schema),
            Err(fault) => {
                let (_, error) = classify(&fault);
                Err(self.unreadable(file, error.message).await)
            }
        }
    }

    /// Refuses a file that begins as one of another kind.
    async fn check_magic(&self, file: &ObjectMeta) -> Result<(), UserError> {
        let head = self.store.get_range(&file.location, 0..file.size.min(8)).await;
        let head = head.map_err(|fault| {
            let (_, error) = classify(&fault.into());
            UserError::new(format!("'{}' cannot be read", self.shown(file))).detail(error.message)
        })?;
        match FileKind::of_magic(&head) {
            Some(kind) if kind != self.kind => Err(UserError::new(format!(
                "'{}' is not a {} file: it is a {} file",
                self.shown(file),
                self.kind.name(),
                kind.name()
            ))
            .hint(format!("create the table STORED AS {}", kind.name()))),
            _ => Ok(()),
        }
    }

    async fn unreadable(&self, file: &ObjectMeta, why: String) -> UserError {
        let shown = self.shown(file);
        if self.kind != FileKind::Parquet {
            return UserError::new(format!("'{shown}' cannot be read as {}", self.kind.name())).detail(why);
        }
        let read = |from: u64| self.store.get_range(&file.location, from..file.size.min(from + 4));
        let is_magic = |bytes: &[u8]| FileKind::of_magic(bytes) == Some(FileKind::Parquet);
        let starts = read(0).await.is_ok_and(|bytes| is_magic(&bytes));
        let ends = read(file.size.saturating_sub(4)).await.is_ok_and(|bytes| is_magic(&bytes));
        match (starts, ends) {
            (false, _) => UserError::new(format!("'{shown}' is not a Parquet file"))
                .detail("it does not begin with the four bytes PAR1"),
            (true, false) => UserError::new(format!("the Parquet file '{shown}' is truncated"))
                .detail(format!("its {} bytes do not end with a footer", file.size)),
            (true, true) => {
                let why = why
                    .strip_prefix(DAMAGED_PARQUET)
                    .map_or(why.as_str(), |why| why.trim_start_matches(": "));
                UserError::new(format!("the Parquet file '{shown}' is damaged")).detail(why)
            }
        }
    }

    /// Refuses two files that do not hold the same columns.
    fn compare(
        &self,
        (file, columns): (&ObjectMeta, &SchemaRef),
        (other_file, other_columns): (&ObjectMeta, &SchemaRef),
    ) -> Result<(), UserError> {
        let refuse = |detail: String| {
            UserError::new(format!("the files of '{}' do not have the same columns", self.location.text))
                .detail(detail)
        };
        if self.kind == FileKind::Json {
            // A line leaves out what it has no value for.
            return Ok(());
        }
        let missing = |name: &str, from: &ObjectMeta, to: &ObjectMeta| {
            refuse(format!("column '{name}' is in {} and not in {}", self.shown(from), self.shown(to)))
                .hint("name the columns in CREATE EXTERNAL TABLE to read missing ones as NULL")
        };
        for field in columns.fields() {
            let Ok(other) = other_columns.field_with_name(field.name()) else {
                return Err(missing(field.name(), file, other_file));
            };
            // A CSV file's types are guessed from its first lines; the guesses are joined.
            if self.kind != FileKind::Csv && !same_type(field.data_type(), other.data_type()) {
                return Err(refuse(format!(
                    "column '{}' is {} in {} and {} in {}",
                    field.name(),
                    field.data_type(),
                    self.shown(file),
                    other.data_type(),
                    self.shown(other_file)
                )));
            }
        }
        let extra =
            other_columns.fields().iter().find(|field| columns.field_with_name(field.name()).is_err());
        match extra {
            Some(field) => Err(missing(field.name(), other_file, file)),
            None if self.kind == FileKind::Csv => {
                self.compare_order((file, columns), (other_file, other_columns))
            }
            None => Ok(()),
        }
    }

    /// Columns of CSV files are found by their place alone.
    fn compare_order(
        &self,
        (file, columns): (&ObjectMeta, &SchemaRef),
        (other_file, other_columns): (&ObjectMeta, &SchemaRef),
    ) -> Result<(), UserError> {
        let moved = columns.fields().iter().zip(other_columns.fields()).find(|(a, b)| a.name() != b.name());
        match moved {
            None => Ok(()),
            Some((a, b)) => Err(UserError::new(format!(
                "the files of '{}' do not have their columns in the same order",
                self.location.text
            ))
            .detail(format!(
                "'{}' in {} stands where '{}' stands in {}",
                b.name(),
                self.shown(other_file),
                a.name(),
                self.shown(file)
            ))),
        }
    }

    fn shown(&self, file: &ObjectMeta) -> String {
        match self.location.local_path() {
            Some(_) => format!("/{}", file.location),
            None => format!("{}{}", self.location.url.object_store(), file.location),
        }
    }
}

/// Whether rows of the two types can stand in one column without being cast; strings in different layouts can.
pub(super) fn same_type(a: &DataType, b: &DataType) -> bool {
    a.equals_datatype(b) || (is_text(a) && is_text(b))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
