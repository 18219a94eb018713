//! A client of a Ballista cluster for `../workers/ballista_worker.py`: requests come as JSON lines on standard input, an outcome of each
//! goes to standard output. `../workers/common.py` says what they look like.
//!
//!     ballista-client df://HOST:PORT DATA [KEY=VALUE]...

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::time::Instant;

use ballista::prelude::{SessionConfigExt, SessionContextExt};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv::WriterBuilder;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use serde_json::{Value, json};

type Fallible<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: ballista-client df://HOST:PORT DATA [KEY=VALUE]...";

#[tokio::main]
async fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scheduler, data, settings @ ..] = arguments.as_slice() else { return Err(USAGE.into()) };
    let context = connect(scheduler, settings).await?;
    register(&context, data).await?;
    say(&json!({ "ready": true, "versions": { "datafusion": datafusion::DATAFUSION_VERSION } }))?;
    for line in io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let outcome = answer(&context, &request).await;
        say(&outcome.unwrap_or_else(
            |fault| json!({ "is": "failed", "kind": "error", "message": fault.to_string() }),
        ))?;
    }
    Ok(())
}

async fn connect(scheduler: &str, settings: &[String]) -> Fallible<SessionContext> {
    let mut config = SessionConfig::new_with_ballista();
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or(USAGE)?;
        config.options_mut().set(key, value)?;
    }
    let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
    Ok(SessionContext::remote_with_state(scheduler, state).await?)
}

/// Makes each folder of `data` known as a table.
async fn register(context: &SessionContext, data: &str) -> Fallible<()> {
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        if let (true, Some(table), Some(folder)) =
            (path.is_dir(), path.file_name().and_then(|name| name.to_str()), path.to_str())
        {
            context.register_parquet(table, folder, ParquetReadOptions::default()).await?;
        }
    }
    Ok(())
}

async fn answer(context: &SessionContext, request: &Value) -> Fallible<Value> {
    let start = Instant::now();
    let batches = context.sql(request["sql"].as_str().unwrap_or_default()).await?.collect().await?;
    let seconds = start.elapsed().as_secs_f64();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if let Some(path) = request["answer"].as_str() {
        let mut writer = WriterBuilder::new().with_header(true).build(File::create(path)?);
        batches.iter().try_for_each(|batch| writer.write(batch))?;
    }
    Ok(json!({ "is": "done", "seconds": seconds, "rows": rows }))
}

fn say(message: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{message}")?;
    out.flush()
}
