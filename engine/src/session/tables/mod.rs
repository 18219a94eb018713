//! Tables over files: CREATE EXTERNAL TABLE, and paths that stand for tables in a query.
//!
//! What can be wrong with files is looked for when a table is made, and told by name: a path that is not there, a folder
//! without files of the kind, files whose columns differ, a file that is damaged or of another kind.

mod check;
mod factory;
mod kind;
mod location;
mod paths;

use std::sync::Arc;

use datafusion::catalog::TableProviderFactory;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionContext;

pub(super) use location::Location;

use self::factory::FileTables;
use super::stores::Stores;

/// Makes `CREATE EXTERNAL TABLE` our own for every kind of file.
pub(super) fn install(state: &mut SessionState, stores: &Arc<Stores>) {
    let factory: Arc<dyn TableProviderFactory> = Arc::new(FileTables::new(Arc::clone(stores)));
    for kind in kind::TYPE_NAMES {
        state.table_factories_mut().insert((*kind).to_owned(), Arc::clone(&factory));
    }
}

/// Lets queries name paths where they name tables: `select * from 'data.parquet'`.
pub(super) fn read_paths_as_tables(context: SessionContext, stores: Arc<Stores>) -> SessionContext {
    paths::install(context, FileTables::new(stores))
}
