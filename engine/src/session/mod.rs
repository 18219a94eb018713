//! The session: SQL and DataFrames in, jobs out.
//!
//! An [`EngineSession`] is DataFusion's session with a query planner of ours ([`planner`]): what it plans is cut into
//! stages and becomes one operator, which hands the job to a [`JobRunner`](crate::JobRunner) when it is executed.
//! Statements about tables and settings are carried out here and never reach a runner.

mod analyze;
mod config;
mod diagnose;
pub mod errors;
mod explain;
mod job;
mod names;
mod planner;
pub(crate) mod rules;
pub mod sinks;
mod statements;
pub mod stores;
mod tables;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, Statement};
use datafusion::prelude::{DataFrame, SessionContext};
use firesteel_base::UserError;

pub use config::SessionSettings;
pub use errors::classify;
pub use statements::split_statements;

use self::job::QueryText;
use self::names::{did_you_mean, nearest};
use self::planner::JobPlanner;
use self::stores::Stores;
use crate::run::LocalFiles;
use crate::{ClusterShape, JobRunner};

/// How a session is set up.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Settings by key: DataFusion's (`datafusion.*`) and our own (`firesteel.*`).
    pub conf: BTreeMap<String, String>,
    /// Partitions of parallel stages; by default as many as the cluster has core threads when a query is planned.
    pub partitions: Option<usize>,
}

/// A session. Clones share tables, settings and stores.
#[derive(Clone)]
pub struct EngineSession {
    context: SessionContext,
    runner: Arc<dyn JobRunner>,
}

impl fmt::Debug for EngineSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineSession({})", self.context.session_id())
    }
}

impl EngineSession {
    /// A session whose jobs `runner` runs.
    ///
    /// # Errors
    /// When a setting is not known or its value makes no sense.
    pub fn new(runner: Arc<dyn JobRunner>, options: SessionOptions) -> Result<Self, UserError> {
        let stores = Arc::new(Stores::default());
        // Files come and go while a session is open: each query lists its tables' files afresh.
        let runtime = RuntimeEnvBuilder::new()
            .with_object_list_cache_limit(0)
            .build_arc()
            .map_err(|fault| classify(&fault).1)?;
        LocalFiles::serve_in(&runtime);
        let planner = JobPlanner::new(Arc::clone(&runner), Arc::clone(&stores));
        let builder = SessionStateBuilder::new()
            .with_config(config::session_config(&options)?)
            .with_runtime_env(runtime)
            .with_default_features()
            .with_query_planner(Arc::new(planner));
        let mut state = rules::add_analyzer_rules(builder).build();
        for (url, given) in config::stores_in(&options.conf)? {
            stores.open(state.runtime_env(), &url, given)?;
        }
        tables::install(&mut state, &stores);
        let context = tables::read_paths_as_tables(SessionContext::new_with_state(state), stores);
        Ok(Self { context, runner })
    }

    /// DataFusion's session: its DataFrame interface, its catalog.
    #[must_use]
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// What queries are planned for now.
    ///
    /// # Errors
    /// When the runner has nothing to run them on.
    pub async fn shape(&self) -> Result<ClusterShape, UserError> {
        self.runner.shape().await.map_err(|fault| self.describe_error(&fault))
    }

    /// Plans one statement. Statements about tables and settings are carried out at once; a query runs when the rows of
    /// the frame are asked for.
    ///
    /// # Errors
    /// When the text is not one statement that makes sense here.
    pub async fn sql(&self, text: &str) -> Result<DataFrame, UserError> {
        let plan = self.plan(text).await.map_err(|fault| self.describe_error(&fault))?;
        let frame = match &plan {
            LogicalPlan::Statement(Statement::SetVariable(set)) => {
                self.configure(|options| config::set(options, &set.variable, &set.value))?;
                // Functions that depend on settings learn of the new one in DataFusion's own way.
                self.context.execute_logical_plan(plan).await
            }
            LogicalPlan::Statement(Statement::ResetVariable(reset)) => {
                self.configure(|options| config::reset(options, &reset.variable))?;
                self.context.read_empty()
            }
            _ => self.context.execute_logical_plan(plan).await,
        };
        let frame = frame.map_err(|fault| self.describe_error(&fault))?;
        let (mut state, plan) = frame.into_parts();
        state.config_mut().set_extension(Arc::new(QueryText(text.trim().to_owned())));
        Ok(DataFrame::new(state, plan))
    }

    async fn plan(&self, text: &str) -> Result<LogicalPlan> {
        let state = self.context.state();
        let statement = statements::parse_one(text, state.config_options())?;
        Box::pin(state.statement_to_plan(statement)).await
    }

    fn configure(
        &self,
        change: impl FnOnce(&mut ConfigOptions) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        let state = self.context.state_ref();
        let mut state = state.write();
        change(state.config_mut().options_mut())
    }

    /// What a failure means to the person who asked, with the nearest of the names that this session knows.
    #[must_use]
    pub fn describe_error(&self, fault: &DataFusionError) -> UserError {
        let (_, error) = classify(fault);
        if error.hint.is_some() {
            return error;
        }
        let state = self.context.state();
        let hint = missing(&error.message, "table").and_then(|table| {
            nearest(&table, tables_of(&state).iter().map(String::as_str)).map(did_you_mean)
        });
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// The name in `<kind> 'name' does not exist`.
fn missing(message: &str, kind: &str) -> Option<String> {
    let name = message.strip_prefix(kind)?.strip_prefix(" '")?.strip_suffix("' does not exist")?;
    Some(TableReference::parse_str(name).table().to_owned())
}

fn tables_of(state: &SessionState) -> Vec<String> {
    let catalogs = state.catalog_list();
    let schemas =
        catalogs.catalog_names().into_iter().filter_map(|name| catalogs.catalog(&name)).flat_map(|catalog| {
            catalog.schema_names().into_iter().filter_map(move |name| catalog.schema(&name))
        });
    schemas.flat_map(|schema| schema.table_names()).collect()
}
