//! Benchmark runs: the queries of a [`Workload`], asked of Firesteel, timed, checked and written down.
//!
//! A power run asks one query after the other. A throughput run has several streams that ask all queries at the same time,
//! each in another order. The record is written after every query, so that what was measured outlives a crash.

mod data;
mod machine;
mod options;
mod target;
mod usage;
mod workload;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use arrow::array::RecordBatch;
use firesteel_base::UserError;

pub use data::{checked_content, checked_manifest};
pub(crate) use machine::memory_bytes;
pub use options::{RunOptions, chosen};
pub use target::{Asked, Target};
pub use workload::{Input, Keys, Shuffle, Sort, Workload, WorkloadQuery};

use crate::Benchmark;
use crate::progress::Progress;
use crate::record::{
    DataInfo, EngineInfo, FORMAT, FailureKind, Machine, Outcome, QueryRecord, Run, RunRecord, Throughput,
    Verdict,
};
use usage::Watch;

/// How long a right answer may take where queries may take any time.
const RIGHT_ANSWER_MAX: Duration = Duration::from_secs(600);

/// Runs a workload on `target`.
///
/// # Errors
/// When the data is not what it should be, or the record cannot be written. A query that fails is an entry of the record
/// and no error.
pub async fn run(
    options: &RunOptions,
    target: &Target,
    progress: &dyn Progress,
) -> Result<RunRecord, UserError> {
    let mut record = begin(options, target)?;
    if let Some((data, benchmark)) = options.workload.folder() {
        target.register(benchmark, data).await?;
    }
    let watch = Watch::start(target.meter.clone());
    if options.streams > 1 {
        throughput(options, target, &mut record, progress).await?;
    } else {
        power(options, target, &mut record, progress).await?;
    }
    record.timeline = watch.stop().await;
    save(options, &record)?;
    Ok(record)
}

/// What a record says of a folder of data, and of this machine.
///
/// # Errors
/// When the folder does not hold complete data of the benchmark.
pub fn describe(data: &Path, benchmark: Benchmark) -> Result<(DataInfo, Machine), UserError> {
    let manifest = checked_manifest(data, benchmark)?;
    let data = data::absolute(data)?;
    Ok((data::info(&data, &manifest), machine::read(&data)))
}

fn begin(options: &RunOptions, target: &Target) -> Result<RunRecord, UserError> {
    let (data, machine) = match &options.workload {
        // Blocks that do not fit in memory go to the temporary folder.
        Workload::Shuffle(shuffle) => (shuffle.info(), machine::read(&std::env::temp_dir())),
        Workload::Tpc { benchmark, data, .. } => describe(data, *benchmark)?,
        Workload::Sort(sort) => describe(sort.data(), Benchmark::Tpch)?,
    };
    Ok(RunRecord {
        format: FORMAT,
        benchmark: options.workload.name(),
        engine: EngineInfo {
            name: "firesteel".to_owned(),
            version: firesteel_base::version::RELEASE.to_owned(),
            commit: crate::COMMIT.map(str::to_owned),
        },
        mode: target.mode.clone(),
        cores: target.cores,
        data,
        settings: options.conf.clone(),
        command: options.command.clone(),
        started: rfc3339(SystemTime::now()),
        machine,
        versions: std::iter::once(("datafusion".to_owned(), target::DATAFUSION.to_owned())).collect(),
        iterations: options.iterations,
        warmup: options.warmup,
        cold: options.cold,
        streams: options.streams,
        timeout_seconds: options.timeout.map(|limit| limit.as_secs_f64()),
        verified: None,
        queries: Vec::new(),
        timeline: Vec::new(),
        throughput: None,
    })
}

async fn power(
    options: &RunOptions,
    target: &Target,
    record: &mut RunRecord,
    progress: &dyn Progress,
) -> Result<(), UserError> {
    for query in &options.queries {
        let mut entry = unasked(query);
        for number in 0..options.warmup + options.iterations {
            let iteration = number.checked_sub(options.warmup);
            let (outcome, rows) = one(options, target, query).await?;
            if let Some(rows) = rows.filter(|_| number == 0) {
                judge(options, record, query, &rows, &mut entry, progress).await;
            }
            let failed = matches!(outcome, Outcome::Failed { .. });
            if iteration.is_some() || failed {
                entry.runs.push(Run { stream: 0, iteration: iteration.unwrap_or(0), outcome });
            }
            if failed {
                // It would fail again, perhaps after as long.
                break;
            }
        }
        query.clean_up()?;
        progress.note(&line(&entry));
        record.queries.push(entry);
        save(options, record)?;
    }
    Ok(())
}

/// All streams at once, each with all queries in an order of its own.
async fn throughput(
    options: &RunOptions,
    target: &Target,
    record: &mut RunRecord,
    progress: &dyn Progress,
) -> Result<(), UserError> {
    record.queries = options.queries.iter().map(unasked).collect();
    let start = Instant::now();
    let streams = (0..options.streams).map(|stream| async move {
        let mut runs = Vec::new();
        for at in order(stream, options.streams, options.queries.len()) {
            let (outcome, rows) = one(options, target, &options.queries[at]).await?;
            runs.push((at, Run { stream, iteration: 0, outcome }, rows));
        }
        Ok::<_, UserError>(runs)
    });
    let mut finished = 0;
    for runs in futures::future::try_join_all(streams).await? {
        for (at, run, rows) in runs {
            finished += u32::from(matches!(run.outcome, Outcome::Done(_)));
            let mut entry = record.queries[at].clone();
            entry.runs.push(run);
            if let Some(rows) = rows.filter(|_| entry.verdict != Verdict::Right) {
                judge(options, record, &options.queries[at], &rows, &mut entry, progress).await;
            }
            record.queries[at] = entry;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    record.throughput = Some(Throughput { streams: options.streams, seconds, queries: finished });
    record.queries.iter().for_each(|entry| progress.note(&line(entry)));
    save(options, record)
}

/// A query before its first run.
fn unasked(query: &WorkloadQuery) -> QueryRecord {
    QueryRecord { name: query.name.clone(), runs: Vec::new(), verdict: Verdict::Unverified }
}

/// The queries in the order of one stream: each stream begins elsewhere.
fn order(stream: u32, streams: u32, queries: usize) -> impl Iterator<Item = usize> {
    let start = queries * stream as usize / streams.max(1) as usize;
    (0..queries).map(move |at| (start + at) % queries)
}

/// Asks one query once.
async fn one(
    options: &RunOptions,
    target: &Target,
    query: &WorkloadQuery,
) -> Result<(Outcome, Option<Vec<RecordBatch>>), UserError> {
    if let Some((data, benchmark)) = options.workload.folder().filter(|_| options.cold) {
        data::drop_from_cache(data, benchmark)?;
    }
    let asked = target.measure(&query.sql, options.streams == 1);
    let answer = match options.timeout {
        Some(limit) => tokio::time::timeout(limit, asked).await,
        None => Ok(asked.await),
    };
    Ok(match answer {
        Ok(Ok(Asked { mut measures, rows })) => {
            measures.input_rows = query.input.map(|input| input.rows);
            measures.input_bytes = query.input.and_then(|input| input.bytes);
            (Outcome::Done(measures), Some(rows))
        }
        Ok(Err(error)) => (failed(FailureKind::Error, error.to_string()), None),
        Err(_) => {
            let limit = options.timeout.unwrap_or(Duration::ZERO).as_secs_f64();
            (failed(FailureKind::Timeout, format!("stopped after {limit} s")), None)
        }
    })
}

fn failed(kind: FailureKind, message: String) -> Outcome {
    Outcome::Failed { kind, message }
}

/// Holds an answer against the right one, where that is known.
async fn judge(
    options: &RunOptions,
    record: &mut RunRecord,
    query: &WorkloadQuery,
    rows: &[RecordBatch],
    entry: &mut QueryRecord,
    progress: &dyn Progress,
) {
    if !options.verify {
        return;
    }
    let time_max = options.timeout.unwrap_or(RIGHT_ANSWER_MAX);
    match options.workload.judge(query, &record.data, rows, time_max).await {
        Ok(Some(judged)) => {
            record.verified = Some(judged.against);
            entry.verdict = judged.verdict;
        }
        Ok(None) => {}
        Err(fault) => progress.note(&format!("{}: not checked: {fault}", query.name)),
    }
}

/// What became of a query, for whoever watches.
fn line(entry: &QueryRecord) -> String {
    match (entry.failure(), entry.median()) {
        (Some(why), _) => format!("{}: FAIL, {why}", entry.name),
        (None, Some(median)) => format!("{}: {:.3} s", entry.name, median),
        (None, None) => format!("{}: not measured", entry.name),
    }
}

fn save(options: &RunOptions, record: &RunRecord) -> Result<(), UserError> {
    options.out.as_ref().map_or(Ok(()), |path| record.save(path))
}

/// A moment as RFC 3339 has it, in UTC.
fn rfc3339(moment: SystemTime) -> String {
    let seconds = moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a number of days since 1970-01-01: whole cycles of 400 years, then by the length of each year.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_people_read_them() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_868_799), "2000-02-29T23:59:59Z");
        assert_eq!(at(1_795_478_400), "2026-11-24T00:00:00Z");
    }

    #[test]
    fn every_stream_asks_every_query_once_and_begins_elsewhere() {
        for (streams, queries) in [(1, 22), (3, 22), (5, 3)] {
            for stream in 0..streams {
                let mut asked: Vec<_> = order(stream, streams, queries).collect();
                asked.sort_unstable();
                assert_eq!(asked, (0..queries).collect::<Vec<_>>());
            }
        }
        assert_eq!(order(1, 2, 22).next(), Some(11));
    }
}
