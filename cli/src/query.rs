//! Running statements in a session: progress while they run, rows when they come, Ctrl-C in between.

use std::time::Duration;

use firesteel_base::{Class, UserError};
use firesteel_driver::Session;
use firesteel_engine::datafusion::error::DataFusionError;
use firesteel_engine::datafusion::prelude::DataFrame;
use firesteel_engine::session::{EngineSession, classify};
use futures::StreamExt;

use crate::exit::{Exit, Failure};
use crate::output::progress::Display;
use crate::output::results::{Output, Rows, Written};
use crate::session::snapshot;
use crate::signals::{Stop, interrupted};

/// How often the display looks for news.
const TICK: Duration = Duration::from_millis(100);

/// How long stopped work may take to clean up.
const CLEAN_UP_MAX: Duration = Duration::from_secs(1);

/// What an error of `engine` tells, and how the command ends for it.
pub fn failure(engine: &EngineSession, fault: &DataFusionError) -> Failure {
    class_failure(classify(fault).0, engine.describe_error(fault))
}

/// How the command ends for an error of that class.
pub fn class_failure(class: Class, error: UserError) -> Failure {
    let exit = if class == Class::Cancelled { Exit::Cancelled } else { Exit::Failed };
    Failure::new(exit, error)
}

/// Runs statements of one session, one after the other.
#[derive(Debug)]
pub struct Runner {
    session: Session,
    quiet: bool,
    /// Whether each result is followed by its row count and time on standard error.
    pub timing: bool,
}

impl Runner {
    /// A runner in `session`.
    pub fn new(session: Session, quiet: bool) -> Self {
        Self { session, quiet, timing: !quiet }
    }

    /// Ends the session.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Runs all statements and writes their results; where the output holds one result only, that of the last. Tells
    /// what was written of the last one.
    pub async fn run_all(
        &self,
        statements: &[String],
        output: &Output,
        stop: &mut Stop,
    ) -> Result<Option<Written>, Failure> {
        let mut last = None;
        for (i, statement) in statements.iter().enumerate() {
            let wanted = !output.holds_one() || i + 1 == statements.len();
            let outcome = self.run(statement, wanted.then_some(output), stop).await;
            last = outcome.map_err(|failure| in_statement(failure, statement, i, statements.len()))?;
        }
        Ok(last)
    }

    /// Runs one statement. Without an output its rows are made and dropped.
    pub async fn run(
        &self,
        sql: &str,
        output: Option<&Output>,
        stop: &mut Stop,
    ) -> Result<Option<Written>, Failure> {
        let display = Display::start(self.quiet);
        let work = work(self.session.clone(), sql.to_owned(), output.cloned(), display.clone());
        let outcome = unless_stopped(work, stop, || display.show(&snapshot(&self.session))).await;
        if matches!(outcome, Err(Stopped::Signal(_))) {
            self.session.cancel("its user stopped it");
        }
        let outcome = outcome.map_err(|stopped| stopped.failure("the query"));
        display.hide();
        let written = outcome?;
        if let Some(written) = written
            && self.timing
        {
            eprintln!("{}", written.summary(display.elapsed()));
        }
        Ok(written)
    }
}

/// Plans a statement, runs it and writes its rows.
async fn work(
    session: Session,
    sql: String,
    output: Option<Output>,
    display: Display,
) -> Result<Option<Written>, Failure> {
    let frame = session.sql(&sql).await?;
    let has_columns = !frame.schema().fields().is_empty();
    let mut rows = rows(session.engine().clone(), frame, display).await?;
    match output {
        Some(output) if has_columns || output.takes_no_columns() => Ok(Some(output.write(rows).await?)),
        _ => {
            while rows.batches.next().await.transpose()?.is_some() {}
            Ok(None)
        }
    }
}

/// The rows of a query. The display goes when the first of them come, so that the two do not share the screen.
async fn rows(engine: EngineSession, frame: DataFrame, display: Display) -> Result<Rows, Failure> {
    let batches = frame.execute_stream().await.map_err(|fault| failure(&engine, &fault))?;
    let schema = batches.schema();
    let batches = batches.map(move |batch| {
        display.hide();
        batch.map_err(|fault| failure(&engine, &fault))
    });
    Ok(Rows::new(schema, batches))
}

/// Why work has no result.
#[derive(Debug)]
pub enum Stopped {
    /// It failed by itself.
    Failed(Failure),
    /// A signal came first.
    Signal(&'static str),
}

impl Stopped {
    /// The failure of the command, which did `what`.
    pub fn failure(self, what: &str) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Signal(signal) => interrupted(what, signal),
        }
    }
}

/// Waits for `work`, telling `tick` now and then, and stops it when a signal comes first.
///
/// The work is a task of its own: it may be held up for as long as nobody reads our standard output.
pub async fn unless_stopped<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    stop: &mut Stop,
    tick: impl Fn(),
) -> Result<T, Stopped> {
    let mut ticks = tokio::time::interval(TICK);
    let mut work = tokio::spawn(work);
    loop {
        tokio::select! {
            outcome = &mut work => {
                let outcome = outcome.unwrap_or_else(|fault| std::panic::resume_unwind(fault.into_panic()));
                return outcome.map_err(Stopped::Failed);
            }
            _ = ticks.tick() => tick(),
            signal = stop.next() => {
                work.abort();
                // It is given a moment to remove what it has half written.
                let _ = tokio::time::timeout(CLEAN_UP_MAX, work).await;
                return Err(Stopped::Signal(signal));
            }
        }
    }
}

/// Says which of several statements failed.
fn in_statement(mut failure: Failure, statement: &str, index: usize, of: usize) -> Failure {
    if of > 1
        && let Some(error) = failure.error.take()
    {
        let line = 1 + leading_line_breaks(statement);
        let place = format!("in statement {} of {of}, which starts on line {line}", index + 1);
        let detail =
            error.detail.as_ref().map_or_else(|| place.clone(), |detail| format!("{detail}; {place}"));
        failure.error = Some(Box::new(error.detail(detail)));
    }
    failure
}

/// A statement begins with as many line breaks as stand before it in its text.
fn leading_line_breaks(statement: &str) -> usize {
    let leading = statement.len() - statement.trim_start().len();
    statement[..leading].matches('\n').count()
}
