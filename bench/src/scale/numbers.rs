//! Speed-up, efficiency and core-seconds of the sizes of a cluster.

use firesteel_base::UserError;
use serde::Serialize;

use super::against::{Against, Cost, Estimate};
use super::sizes::{Column, Measured, columns};
use crate::record::{QueryRecord, RunRecord, counted, stats};

/// What one size took, for one query or for all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Numbers {
    /// The median of a query, or the medians of all together.
    pub seconds: f64,
    /// Seconds of the smallest size divided by these; none when these are 0.
    pub speed_up: Option<f64>,
    /// The speed-up divided by that of the cores, 1 when they are used as well as on the smallest size. None when the size is
    /// oversubscribed.
    pub efficiency: Option<f64>,
    /// Seconds times cores: what the cores were kept for, busy or not.
    pub core_seconds: f64,
    /// Processor time that was measured, as a median; none when the records do not tell it.
    pub cpu_seconds: Option<f64>,
}

/// One size of the cluster, over the queries that passed at every size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Size {
    /// Its executors.
    pub executors: u32,
    /// Core threads of all executors.
    pub cores: u32,
    /// Whether the machine has fewer cores than that.
    pub oversubscribed: bool,
    /// What all queries took together.
    #[serde(flatten)]
    pub numbers: Numbers,
    /// The geometric mean of the medians; none when one is 0.
    pub geometric_mean_seconds: Option<f64>,
}

/// One query at every size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueryScaling {
    /// Its name.
    pub name: String,
    /// What it took, in the order of [`Scaling::sizes`].
    pub sizes: Vec<Numbers>,
    /// The median of the engine that is to be beaten; none without one, or when it has no time of this query.
    pub seconds_to_beat: Option<f64>,
    /// The cores that beat it; none without such a median, or when every size is oversubscribed.
    pub cost: Option<Cost>,
}

/// A query that is not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub query: String,
    /// The run that has no time of it.
    pub run: String,
    /// Why it has none.
    pub why: String,
}

/// How a benchmark scales over the sizes of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaling {
    /// The benchmark.
    pub benchmark: String,
    /// Its scale factor.
    pub scale: f64,
    /// What ran the queries, in a few words.
    pub engine: String,
    /// The model of the machine's processor.
    pub processor: String,
    /// Cores that executors can have to themselves.
    pub machine_cores: u32,
    /// Measured runs of each query.
    pub iterations: u32,
    /// Runs of each query before those.
    pub warmup: u32,
    /// The sizes, the smallest first.
    pub sizes: Vec<Size>,
    /// The queries that passed at every size: the least efficient first, by the largest size that is not oversubscribed.
    pub queries: Vec<QueryScaling>,
    /// The queries that failed at a size, once for each.
    pub left_out: Vec<LeftOut>,
    /// Amdahl's law through the sizes that are not oversubscribed; none when there are fewer than two, or no gain.
    pub estimate: Option<Estimate>,
    /// The engine that is to be beaten.
    pub against: Option<Against>,
    /// What a reader must know before a number is believed.
    pub notes: Vec<String>,
}

/// Tells how a benchmark scales from one run at each size, on a machine on which executors can have so many cores to
/// themselves; and which size beats `against`.
///
/// # Errors
/// When the runs are not of one benchmark on the same data and machine, when a size is there twice, or when no query passed in
/// all of them.
pub fn scaling(
    measured: &[Measured],
    against: Option<&RunRecord>,
    machine_cores: u32,
) -> Result<Scaling, UserError> {
    let columns = columns(measured, machine_cores)?;
    let first = columns[0].record;
    let (names, left_out) = passed(&columns);
    if names.is_empty() {
        return Err(nothing_passed(&left_out));
    }
    let against = against.map(|record| Against::new(&columns, &names, record)).transpose()?;
    let queries = names.iter().map(|name| query(&columns, name, against.as_ref())).collect();
    let total = |record: &RunRecord| sum(record, &names);
    let mut scaling = Scaling {
        benchmark: first.benchmark.clone(),
        scale: first.data.scale,
        engine: format!("{} {}", first.engine.name, first.engine.version),
        processor: first.machine.cpu.clone(),
        machine_cores,
        iterations: first.iterations,
        warmup: first.warmup,
        sizes: sizes(&columns, &names),
        queries,
        left_out,
        estimate: Estimate::of(&columns, total),
        against: against.map(|(against, _)| against),
        notes: Vec::new(),
    };
    scaling.sort_queries();
    scaling.notes = scaling.all_notes(&columns);
    Ok(scaling)
}

/// The queries with a time at every size, and why others have none.
fn passed<'a>(columns: &[Column<'a>]) -> (Vec<&'a str>, Vec<LeftOut>) {
    let mut all: Vec<&str> = Vec::new();
    for query in columns.iter().flat_map(|column| &column.record.queries) {
        if !all.contains(&query.name.as_str()) {
            all.push(&query.name);
        }
    }
    let mut left_out = Vec::new();
    all.retain(|name| {
        let before = left_out.len();
        let missing = columns.iter().filter_map(|column| LeftOut::of(&column.name(), column.record, name));
        left_out.extend(missing);
        left_out.len() == before
    });
    (all, left_out)
}

impl LeftOut {
    /// Why `run`, with this record, has no time of that query; none when it has one.
    pub(super) fn of(run: &str, record: &RunRecord, name: &str) -> Option<Self> {
        let why = match record.query(name) {
            None => "it was not asked".to_owned(),
            Some(query) => query.failure()?,
        };
        Some(Self { query: name.to_owned(), run: run.to_owned(), why })
    }
}

fn nothing_passed(left_out: &[LeftOut]) -> UserError {
    let told: Vec<String> =
        left_out.iter().map(|LeftOut { query, run, why }| format!("{query} in {run}: {why}")).collect();
    let error = UserError::new("no query passed at every size, so there is nothing to compare");
    if told.is_empty() { error } else { error.detail(told.join("\n")) }
}

fn sizes(columns: &[Column<'_>], names: &[&str]) -> Vec<Size> {
    let cpu = |record: &RunRecord| names.iter().map(|name| record.query(name).and_then(cpu_seconds)).sum();
    let numbers = numbers(columns, |record| sum(record, names), cpu);
    let size = |(column, numbers): (&Column<'_>, Numbers)| Size {
        executors: column.executors,
        cores: column.cores,
        oversubscribed: column.oversubscribed,
        numbers,
        geometric_mean_seconds: stats::geometric_mean(
            &names.iter().map(|name| median(column.record, name)).collect::<Vec<_>>(),
        ),
    };
    columns.iter().zip(numbers).map(size).collect()
}

fn query(columns: &[Column<'_>], name: &str, against: Option<&(Against, &RunRecord)>) -> QueryScaling {
    let seconds = |record: &RunRecord| median(record, name);
    let cpu = |record: &RunRecord| record.query(name).and_then(cpu_seconds);
    let to_beat = against.and_then(|(_, record)| record.query(name)?.passed_median());
    QueryScaling {
        name: name.to_owned(),
        sizes: numbers(columns, seconds, cpu),
        seconds_to_beat: to_beat,
        cost: to_beat.and_then(|to_beat| Cost::of(columns, seconds, to_beat)),
    }
}

fn numbers(
    columns: &[Column<'_>],
    seconds: impl Fn(&RunRecord) -> f64,
    cpu_seconds: impl Fn(&RunRecord) -> Option<f64>,
) -> Vec<Numbers> {
    let first = columns[0];
    let base = seconds(first.record);
    let of = |column: &Column<'_>| {
        let (seconds, cores) = (seconds(column.record), f64::from(column.cores));
        let speed_up = (seconds > 0.0).then(|| base / seconds);
        // The smallest size is oversubscribed only when all are.
        let claimed = speed_up.filter(|_| !column.oversubscribed);
        Numbers {
            seconds,
            speed_up,
            efficiency: claimed.map(|speed_up| speed_up * f64::from(first.cores) / cores),
            core_seconds: seconds * cores,
            cpu_seconds: cpu_seconds(column.record),
        }
    };
    columns.iter().map(of).collect()
}

/// The medians of these queries together, which are known to have passed.
pub(super) fn sum(record: &RunRecord, names: &[&str]) -> f64 {
    names.iter().map(|name| median(record, name)).sum()
}

pub(super) fn median(record: &RunRecord, name: &str) -> f64 {
    record.query(name).and_then(QueryRecord::passed_median).expect("only queries with a time are counted")
}

/// The median processor time; none when a run does not tell it.
fn cpu_seconds(query: &QueryRecord) -> Option<f64> {
    let seconds: Vec<f64> = query.measures().map(|measures| measures.cpu_seconds).collect::<Option<_>>()?;
    stats::median(&seconds)
}

impl Scaling {
    /// The place in [`Self::sizes`] of the largest size that is not oversubscribed.
    pub(super) fn judged(&self) -> Option<usize> {
        self.sizes.iter().rposition(|size| !size.oversubscribed)
    }

    fn sort_queries(&mut self) {
        if let Some(judged) = self.judged() {
            let efficiency = |query: &QueryScaling| query.sizes[judged].efficiency.unwrap_or(f64::INFINITY);
            self.queries.sort_by(|a, b| efficiency(a).total_cmp(&efficiency(b)));
        }
    }

    fn all_notes(&self, columns: &[Column<'_>]) -> Vec<String> {
        let mut notes = vec![
            "the executors are on one machine: they share its memory bandwidth, page cache and disk, and loopback stands in for \
             a network; manager, workers and driver run on the same processors and are not counted as cores"
                .to_owned(),
        ];
        let crowded =
            self.sizes.iter().filter(|size| size.oversubscribed).map(|size| size.executors.to_string());
        let crowded: Vec<String> = crowded.collect();
        if !crowded.is_empty() {
            notes.push(format!(
                "oversubscribed, with more core threads than this machine's {}: the sizes of {} executors; their times are \
                 told, but no efficiency is claimed, and they are no answer to COST",
                counted(self.machine_cores as usize, "core"),
                crowded.join(", ")
            ));
        }
        if self.warmup == 0 {
            notes.push(
                "without a warm-up the size that ran first read the data from the disk for all others"
                    .to_owned(),
            );
        }
        if columns.iter().any(|column| column.record.verified.is_none()) {
            notes.push("answers were NOT checked".to_owned());
        }
        if let Some(against) = &self.against {
            notes.extend(against.notes());
        }
        notes
    }
}
