//! Paths that stand for tables in a query.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use datafusion::catalog::{DynamicFileCatalog, TableProvider, TableProviderFactory, UrlTableFactory};
use datafusion::common::{DFSchema, TableReference, internal_datafusion_err};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::CreateExternalTable;
use datafusion::prelude::SessionContext;
use firesteel_base::UserError;
use parking_lot::RwLock;

use super::factory::FileTables;
use super::kind::FileKind;
use super::location::Location;
use crate::session::statements::external;

/// Puts the paths behind the catalog of `context`.
pub(super) fn install(context: SessionContext, tables: FileTables) -> SessionContext {
    let catalog = Arc::clone(context.state_ref().read().catalog_list());
    let paths = Arc::new(Paths { tables, session: OnceLock::new() });
    let catalog = DynamicFileCatalog::new(catalog, Arc::clone(&paths) as Arc<dyn UrlTableFactory>);
    let context: SessionContext =
        context.into_state_builder().with_catalog_list(Arc::new(catalog)).build().into();
    paths.session.set(context.state_weak_ref()).expect("the catalog was made for this session a moment ago");
    context
}

#[derive(Debug)]
struct Paths {
    tables: FileTables,
    /// The session that the catalog belongs to, and that owns this.
    session: OnceLock<Weak<RwLock<SessionState>>>,
}

impl Paths {
    fn state(&self) -> Result<SessionState> {
        let session = self.session.get().and_then(Weak::upgrade);
        session
            .map(|session| session.read().clone())
            .ok_or_else(|| internal_datafusion_err!("the session has ended"))
    }
}

#[async_trait]
impl UrlTableFactory for Paths {
    async fn try_new(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if !is_path(name) {
            return Ok(None);
        }
        let state = self.state()?;
        let location = Location::parse(name).map_err(external)?;
        let kind = match FileKind::of_name(name) {
            Some((kind, _)) => kind,
            None => self.kind_in(&state, &location).await?,
        };
        let table = TableReference::bare(name);
        let schema = Arc::new(DFSchema::empty());
        let cmd = CreateExternalTable::builder(table, name, kind.name(), schema).build();
        self.tables.create(&state, &cmd).await.map(Some)
    }
}

impl Paths {
    /// The kind of the files in a folder, when they are all of one.
    async fn kind_in(&self, state: &SessionState, location: &Location) -> Result<FileKind> {
        self.tables.open_store(state, location)?;
        if let Some(path) = location.local_path() {
            location.check_local(&path).map_err(external)?;
        }
        let files = location.list(state).await.map_err(external)?;
        let mut kinds: Vec<_> =
            files.iter().filter_map(|file| Some(FileKind::of_name(file.location.filename()?)?.0)).collect();
        kinds.dedup();
        match kinds.as_slice() {
            [kind] => Ok(*kind),
            [] => Err(external(
                UserError::new(format!("'{}' holds no file of a known kind", location.text))
                    .hint("make it a table with CREATE EXTERNAL TABLE ... STORED AS ..."),
            )),
            _ => Err(external(
                UserError::new(format!("'{}' holds files of several kinds", location.text))
                    .hint("choose with a pattern, or make a table with CREATE EXTERNAL TABLE"),
            )),
        }
    }
}

/// Whether a name that is no table's is meant as a path.
fn is_path(name: &str) -> bool {
    name.contains(['/', '*']) || FileKind::of_name(name).is_some()
}
