//! CREATE EXTERNAL TABLE.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::{ToDFSchema, internal_datafusion_err};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::CreateExternalTable;
use firesteel_base::UserError;

use super::check::{Checked, same_type};
use super::kind::FileKind;
use super::location::{Found, Location};
use crate::session::statements::external;
use crate::session::stores::{AWS, StoreOptions, Stores};

const COMPRESSION: &str = "format.compression";

/// Makes tables of files.
#[derive(Debug)]
pub(super) struct FileTables {
    stores: Arc<Stores>,
}

/// The files of a table, found and checked.
struct Files {
    urls: Vec<ListingTableUrl>,
    format: Arc<dyn FileFormat>,
    /// Columns of the files; `None` when they are declared.
    columns: Option<SchemaRef>,
}

impl FileTables {
    pub fn new(stores: Arc<Stores>) -> Self {
        Self { stores }
    }

    /// Opens the store that a location lies in.
    pub fn open_store(&self, state: &SessionState, location: &Location) -> Result<()> {
        let url = location.url.get_url();
        self.stores.open(state.runtime_env(), url, StoreOptions::new()).map_err(external)
    }

    async fn files(&self, state: &SessionState, cmd: &CreateExternalTable) -> Result<Files> {
        let kind = FileKind::of_type(&cmd.file_type).map_err(external)?;
        one_store(&cmd.locations)?;
        let (for_store, mut options): (HashMap<_, _>, HashMap<_, _>) =
            cmd.options.clone().into_iter().partition(|(key, _)| key.starts_with(AWS));
        let parts = self.find(state, cmd, kind, for_store.into_iter().collect()).await?;
        if !options.contains_key(COMPRESSION)
            && let Some(name) = compression_of(&parts)
        {
            options.insert(COMPRESSION.to_owned(), name.to_owned());
        }
        let format = state
            .get_file_format_factory(kind.name())
            .ok_or_else(|| internal_datafusion_err!("no format {}", kind.name()))?
            .create(state, &options)?;
        let declared = !cmd.schema.fields().is_empty();
        let (mut columns, mut urls) = (None, Vec::new());
        for (location, found) in parts {
            let here = match found {
                Some(found) => {
                    let store = location.store(state).map_err(external)?;
                    let checked =
                        Checked { location: &location, kind, format: &format, store: &store, state };
                    let here = checked.columns(&found.files, declared).await.map_err(external)?;
                    merge(&mut columns, here, &location).map_err(external)?;
                    found.urls
                }
                None => vec![new_folder(&location, format.as_ref())?],
            };
            urls.extend(here.into_iter().map(|url| url.with_table_ref(cmd.name.clone())));
        }
        Ok(Files { urls, format, columns })
    }

    /// What is found at each location; nothing at those that are folders to be.
    async fn find(
        &self,
        state: &SessionState,
        cmd: &CreateExternalTable,
        kind: FileKind,
        for_store: StoreOptions,
    ) -> Result<Vec<(Location, Option<Found>)>> {
        let compression = cmd.options.get(COMPRESSION).map(|name| compression_name(name));
        let declared = !cmd.schema.fields().is_empty();
        let mut parts = Vec::new();
        for text in &cmd.locations {
            let location = Location::parse(text).map_err(external)?;
            let url = location.url.get_url();
            self.stores.open(state.runtime_env(), url, for_store.clone()).map_err(external)?;
            let found = if declared && location.is_new_folder() {
                None
            } else {
                Some(location.find(state, kind, compression.as_deref()).await.map_err(external)?)
            };
            parts.push((location, found));
        }
        Ok(parts)
    }
}

/// A new table's folder. It does not exist yet, perhaps: the trailing slash says what it will be.
fn new_folder(location: &Location, format: &dyn FileFormat) -> Result<ListingTableUrl> {
    let folder = Location::parse(&format!("{}/", location.text.trim_end_matches('/'))).map_err(external)?;
    folder.url.with_glob(&format!("*.{}", format.get_ext().trim_start_matches('.')))
}

fn one_store(locations: &[String]) -> Result<()> {
    let stores = locations.iter().map(|text| Ok(Location::parse(text)?.url.object_store()));
    let stores = stores.collect::<Result<Vec<_>, UserError>>().map_err(external)?;
    match stores.iter().position(|store| *store != stores[0]) {
        Some(at) => Err(external(
            UserError::new("all locations of a table must lie in one store")
                .detail(format!("'{}' and '{}' do not", locations[0], locations[at])),
        )),
        None => Ok(()),
    }
}

/// A compression as files' suffixes name it.
fn compression_name(option: &str) -> String {
    match option.to_lowercase().as_str() {
        "uncompressed" => String::new(),
        "gz" => "gzip".to_owned(),
        "bz2" => "bzip2".to_owned(),
        "zst" => "zstd".to_owned(),
        other => other.to_owned(),
    }
}

/// The compression that the files' names tell.
fn compression_of(parts: &[(Location, Option<Found>)]) -> Option<&'static str> {
    let suffixes = parts.iter().filter_map(|(_, found)| found.as_ref()?.suffix.as_ref());
    suffixes.map(|suffix| suffix.compression).next().flatten()
}

/// Joins the columns of one more location to those so far, which must be the same.
fn merge(
    columns: &mut Option<SchemaRef>,
    here: Option<SchemaRef>,
    location: &Location,
) -> Result<(), UserError> {
    let Some(here) = here else {
        return Ok(());
    };
    let Some(so_far) = columns else {
        *columns = Some(here);
        return Ok(());
    };
    let same = so_far.fields().len() == here.fields().len()
        && so_far
            .fields()
            .iter()
            .zip(here.fields())
            .all(|(a, b)| a.name() == b.name() && same_type(a.data_type(), b.data_type()));
    if !same {
        return Err(UserError::new("the locations of a table must hold the same columns")
            .detail(format!("those of '{}' differ from the ones before", location.text)));
    }
    // Where one location has NULLs, the table has.
    let fields = so_far.fields().iter().zip(here.fields());
    let fields: Vec<_> =
        fields.map(|(a, b)| a.as_ref().clone().with_nullable(a.is_nullable() || b.is_nullable())).collect();
    *so_far = Arc::new(Schema::new_with_metadata(fields, so_far.metadata().clone()));
    Ok(())
}

#[async_trait]
impl TableProviderFactory for FileTables {
    async fn create(&self, state: &dyn Session, cmd: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
        let state = state
            .as_any()
            .downcast_ref::<SessionState>()
            .ok_or_else(|| internal_datafusion_err!("a session of another kind"))?;
        if cmd.unbounded {
            return Err(external(UserError::new("tables without end are not supported")));
        }
        let Files { urls, format, columns } = self.files(state, cmd).await?;
        // The locations' patterns say which files; an extension besides would hide some.
        let options = ListingOptions::new(format).with_file_extension("");
        let partition_columns = partition_columns(state, cmd, &options, &urls).await?;
        let options = options
            .with_table_partition_cols(partition_columns)
            .with_file_sort_order(cmd.order_exprs.clone());
        for url in &urls {
            options.validate_partitions(state, url).await?;
        }
        let columns = match columns {
            Some(columns) => columns,
            None => declared_columns(cmd)?,
        };
        check_order(cmd, &columns)?;
        let config =
            ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(columns);
        let table = ListingTable::try_new(config)?
            .with_cache(state.runtime_env().cache_manager.get_file_statistic_cache())
            .with_definition(cmd.definition.clone())
            .with_constraints(cmd.constraints.clone())
            .with_column_defaults(cmd.column_defaults.clone());
        Ok(Arc::new(table))
    }
}

/// Columns whose values stand in the names of folders: as declared, else as the folders are named.
async fn partition_columns(
    state: &SessionState,
    cmd: &CreateExternalTable,
    options: &ListingOptions,
    urls: &[ListingTableUrl],
) -> Result<Vec<(String, DataType)>> {
    let text = || DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
    if !cmd.schema.fields().is_empty() {
        let columns = cmd.table_partition_cols.iter().map(|name| {
            let field = cmd.schema.field_with_unqualified_name(name).map_err(|_| {
                external(UserError::new(format!(
                    "the partition column '{name}' is not among the declared columns"
                )))
            })?;
            Ok((name.clone(), field.data_type().clone()))
        });
        return columns.collect();
    }
    let infer = state.config_options().execution.listing_table_factory_infer_partitions;
    let names = match (cmd.table_partition_cols.is_empty(), urls.first()) {
        (true, Some(url)) if infer => options.infer_partitions(state, url).await?,
        _ => cmd.table_partition_cols.clone(),
    };
    Ok(names.into_iter().map(|name| (name, text())).collect())
}

/// The declared columns that stand in the files.
fn declared_columns(cmd: &CreateExternalTable) -> Result<SchemaRef> {
    let fields = cmd.schema.fields().iter().filter(|field| !cmd.table_partition_cols.contains(field.name()));
    Ok(Arc::new(Schema::new_with_metadata(
        fields.cloned().collect::<Vec<_>>(),
        cmd.schema.metadata().clone(),
    )))
}

fn check_order(cmd: &CreateExternalTable, columns: &SchemaRef) -> Result<()> {
    let schema = Arc::clone(columns).to_dfschema()?;
    let mut used = cmd.order_exprs.iter().flatten().flat_map(|sort| sort.expr.column_refs());
    match used.find(|column| !schema.has_column(column)) {
        Some(column) => Err(external(
            UserError::new(format!("column '{}' does not exist", column.name()))
                .detail("in WITH ORDER of CREATE EXTERNAL TABLE"),
        )),
        None => Ok(()),
    }
}
