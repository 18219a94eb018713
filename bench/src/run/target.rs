//! Firesteel as it is measured: in this process, or on a cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use firesteel_base::UserError;
use firesteel_driver::{JobProgress, Meter, Session};
use firesteel_engine::session::classify;

use super::data::{absolute, checked_manifest};
use crate::Benchmark;
use crate::queries;
use crate::record::Measures;

/// The release of DataFusion that is linked.
pub(super) const DATAFUSION: &str = firesteel_engine::datafusion::DATAFUSION_VERSION;

/// How long after the last row the session may take to say what the query took.
const TOTALS_TIMEOUT: Duration = Duration::from_secs(2);

/// A session that answers the queries.
pub struct Target {
    session: Session,
    /// Of this process and, on a cluster, of all executors.
    pub(super) meter: Meter,
    /// How it runs, for the record.
    pub mode: String,
    /// The cores it may use.
    pub cores: u32,
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
        let meter = session.meter().await?;
        Ok(Self { session, meter, mode, cores })
    }

    /// Makes the tables of a benchmark under `data` known.
    ///
    /// # Errors
    /// When the folder does not hold complete data of the benchmark.
    pub async fn register(&self, benchmark: Benchmark, data: &Path) -> Result<(), UserError> {
        let manifest = checked_manifest(data, benchmark)?;
        for statement in queries::tables_sql_of(&manifest, &absolute(data)?) {
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

    /// Asks one query and measures it. What other queries do at the same time cannot be told from it: only with `alone`
    /// more than the time is measured.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn measure(&self, sql: &str, alone: bool) -> Result<Asked, UserError> {
        let before = if alone { self.meter.read_and_forget_peak().await.ok() } else { None };
        let start = Instant::now();
        let rows = self.ask(sql).await?;
        let seconds = start.elapsed().as_secs_f64();
        let count = rows.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut measures = Measures { seconds, rows: count, ..Measures::default() };
        // An executor that cannot be asked any more leaves the measures out that it would have given.
        if let (Some(before), Ok(after)) = (before, self.meter.read().await) {
            measures.cpu_seconds = Some(after.cpu.saturating_sub(before.cpu).as_secs_f64());
            measures.peak_memory_bytes = Some(after.peak_bytes);
        }
        if alone {
            put_totals(&self.totals().await, &mut measures);
        }
        Ok(Asked { measures, rows })
    }

    /// What the session says of its latest query, once nothing is to be added.
    async fn totals(&self) -> JobProgress {
        let mut progress = self.session.progress();
        let ended = progress.wait_for(|progress| progress.phase.is_final());
        match tokio::time::timeout(TOTALS_TIMEOUT, ended).await {
            Ok(Ok(progress)) => progress.clone(),
            Ok(Err(_)) | Err(_) => self.session.progress().borrow().clone(),
        }
    }
}

fn put_totals(progress: &JobProgress, measures: &mut Measures) {
    let (_, tasks) = progress.tasks();
    let Some((_, exchanged)) = progress.stages.split_last() else { return };
    measures.stages = u32::try_from(progress.stages.len()).ok();
    measures.tasks = Some(tasks);
    // The last stage's rows are the result.
    measures.bytes_shuffled = Some(exchanged.iter().map(|stage| stage.bytes).sum());
    measures.bytes_read = Some(progress.measured.read);
    measures.bytes_spilled = Some(progress.measured.spilled);
    measures.bytes_copied = Some(progress.measured.copied);
}
