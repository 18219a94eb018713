//! Firesteel as it is measured: in this process, or on a cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use firesteel_base::UserError;
use firesteel_driver::{JobProgress, Session};
use firesteel_engine::session::classify;

use super::data::{absolute, checked_manifest};
use super::usage;
use crate::Benchmark;
use crate::queries;
use crate::record::Measures;

/// The release of DataFusion that is linked.
pub(super) const DATAFUSION: &str = firesteel_engine::datafusion::DATAFUSION_VERSION;

/// A session that answers the queries.
pub struct Target {
    session: Session,
    /// How it runs, for the record.
    pub mode: String,
    /// The cores it may use.
    pub cores: u32,
    /// Whether everything it uses is used by this process.
    pub in_this_process: bool,
}

/// An answer and what it took.
pub struct Asked {
    /// What it took.
    pub measures: Measures,
    /// The answer: one batch at least.
    pub rows: Vec<RecordBatch>,
}

impl Target {
    /// The one that `session` is, once it has executors.
    ///
    /// # Errors
    /// When no executor comes up in time.
    pub async fn of(session: Session) -> Result<Self, UserError> {
        let shape = session.shape().await?;
        let cores = u32::try_from(shape.cores).unwrap_or(u32::MAX);
        let mode = if shape.local {
            "local".to_owned()
        } else {
            let plural = if shape.executors == 1 { "" } else { "s" };
            format!("cluster of {} executor{plural}", shape.executors)
        };
        Ok(Self { session, mode, cores, in_this_process: shape.local })
    }

    /// Makes the tables of a benchmark under `data` known.
    ///
    /// # Errors
    /// When the folder does not hold complete data of the benchmark.
    pub async fn register(&self, benchmark: Benchmark, data: &Path) -> Result<(), UserError> {
        checked_manifest(data, benchmark)?;
        for statement in queries::tables_sql(benchmark, &absolute(data)?) {
            self.ask(&statement).await?;
        }
        Ok(())
    }

    async fn ask(&self, sql: &str) -> Result<Vec<RecordBatch>, UserError> {
        let frame = self.session.sql(sql).await?;
        let columns = Arc::clone(frame.schema().inner());
        let mut rows = frame.collect().await.map_err(|fault| classify(&fault).1)?;
        if rows.is_empty() {
            // An answer without rows has columns too.
            rows.push(RecordBatch::new_empty(columns));
        }
        Ok(rows)
    }

    /// Asks one query and measures it. What other queries do at the same time is measured with it.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn measure(&self, sql: &str) -> Result<Asked, UserError> {
        usage::forget_peak();
        let (cpu, start) = (usage::cpu_time(), Instant::now());
        let rows = self.ask(sql).await?;
        let seconds = start.elapsed().as_secs_f64();
        let progress = self.session.progress().borrow().clone();
        let count = rows.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut measures = Measures { seconds, rows: count, ..Measures::default() };
        if self.in_this_process {
            measures.cpu_seconds = Some((usage::cpu_time() - cpu).as_secs_f64());
            measures.peak_memory_bytes = usage::peak_memory();
        }
        stages(&progress, &mut measures);
        Ok(Asked { measures, rows })
    }
}

fn stages(progress: &JobProgress, measures: &mut Measures) {
    let (_, tasks) = progress.tasks();
    let Some((_, exchanged)) = progress.stages.split_last() else { return };
    measures.stages = u32::try_from(progress.stages.len()).ok();
    measures.tasks = Some(tasks);
    // The last stage's rows are the result.
    measures.bytes_shuffled = Some(exchanged.iter().map(|stage| stage.bytes).sum());
}
