//! The size of a cluster that beats a single-node engine.

use firesteel_base::UserError;
use serde::Serialize;

use super::amdahl::Amdahl;
use super::numbers::{LeftOut, sum};
use super::sizes::Column;
use crate::Benchmark;
use crate::queries::Query;
use crate::record::{DataInfo, Ground, Machine, RunRecord, conditions, counted, require_ground};

/// How messages call the two sides.
const TO_BEAT: &str = "the record to beat";
const CLUSTER: &str = "the cluster's run";

/// How many cores it takes to beat an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Cost {
    /// The smallest measured size that takes less time.
    Cores {
        /// Core threads of all its executors.
        cores: u32,
        /// Its executors.
        executors: u32,
    },
    /// No measured size takes less time.
    NotWithin {
        /// The cores of the largest that is not oversubscribed.
        cores: u32,
    },
}

impl Cost {
    /// That of the sizes that are not oversubscribed; none when there are none.
    pub(super) fn of(
        columns: &[Column<'_>],
        seconds: impl Fn(&RunRecord) -> f64,
        to_beat: f64,
    ) -> Option<Self> {
        let fair: Vec<&Column<'_>> = columns.iter().filter(|column| !column.oversubscribed).collect();
        let beats = fair.iter().find(|column| seconds(column.record) < to_beat);
        match (beats, fair.last()) {
            (Some(column), _) => Some(Self::Cores { cores: column.cores, executors: column.executors }),
            (None, Some(largest)) => Some(Self::NotWithin { cores: largest.cores }),
            (None, None) => None,
        }
    }
}

/// Amdahl's law through the sizes that are not oversubscribed: an estimate, and no measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The sizes that it goes through.
    pub sizes: usize,
    /// The part of the time on one core that more cores do not shorten, from 0 to 1.
    pub serial_share: f64,
    /// The law.
    #[serde(flatten)]
    pub law: Amdahl,
}

impl Estimate {
    /// None when there are fewer than two such sizes, or when more cores did not help.
    pub(super) fn of(columns: &[Column<'_>], seconds: impl Fn(&RunRecord) -> f64) -> Option<Self> {
        let fair = columns.iter().filter(|column| !column.oversubscribed);
        let points: Vec<(u32, f64)> = fair.map(|column| (column.cores, seconds(column.record))).collect();
        let law = Amdahl::fit(&points)?;
        Some(Self { sizes: points.len(), serial_share: law.serial_share(), law })
    }
}

/// A single-node engine beside the sizes of the cluster, over the queries that passed everywhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Against {
    /// The engine and its version.
    pub engine: String,
    /// How it ran.
    pub mode: String,
    /// Cores that it was allowed to use.
    pub cores: u32,
    /// The queries that passed at every size and in its run.
    pub queries: Vec<String>,
    /// Those that passed at every size alone.
    pub left_out: Vec<LeftOut>,
    /// Its medians together.
    pub seconds: f64,
    /// The cluster's medians of the same queries together, in the order of [`Scaling::sizes`](super::Scaling::sizes).
    pub cluster_seconds: Vec<f64>,
    /// The cores that beat it; none when every size is oversubscribed.
    pub cost: Option<Cost>,
    /// The law through the times of the same queries.
    pub estimate: Option<Estimate>,
    /// The fewest cores that would beat it by that law; none without one, or when no number would.
    pub estimated_cores: Option<u32>,
    /// What else differs between the two sides.
    pub differences: Vec<String>,
}

impl Against {
    /// The engine of `record` beside the sizes, of which these queries passed everywhere.
    pub(super) fn new<'a>(
        columns: &[Column<'_>],
        names: &[&str],
        record: &'a RunRecord,
    ) -> Result<(Self, &'a RunRecord), UserError> {
        let first = columns[0].record;
        require_alike(record, Ground::of(CLUSTER, first))?;
        let engine = format!("{} {}", record.engine.name, record.engine.version);
        let left_out: Vec<LeftOut> =
            names.iter().filter_map(|name| LeftOut::of(&engine, record, name)).collect();
        let both: Vec<&str> =
            names.iter().copied().filter(|name| left_out.iter().all(|out| out.query != *name)).collect();
        if both.is_empty() {
            return Err(no_common(names, record));
        }
        let total = |record: &RunRecord| sum(record, &both);
        let seconds = total(record);
        let estimate = Estimate::of(columns, total);
        let against = Self {
            mode: record.mode.clone(),
            cores: record.cores,
            seconds,
            cluster_seconds: columns.iter().map(|column| total(column.record)).collect(),
            cost: Cost::of(columns, total, seconds),
            estimated_cores: estimate.and_then(|estimate| estimate.law.cores_below(seconds)),
            estimate,
            differences: conditions((&engine, record), ("the cluster", first)),
            queries: both.into_iter().map(str::to_owned).collect(),
            left_out,
            engine,
        };
        Ok((against, record))
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.cores > 1 {
            notes.push(format!(
                "{} had {}; COST as its authors define it asks for one",
                self.engine,
                counted(self.cores as usize, "core")
            ));
        }
        notes.extend(self.differences.iter().cloned());
        notes
    }
}

/// Refuses, before a cluster is measured, a record that it could not be held against: one of another benchmark, other data or
/// another machine, of several streams or of cold caches, or one in which none of `queries` passed.
///
/// # Errors
/// When it is such a record.
pub fn require_comparable(
    against: &RunRecord,
    benchmark: Benchmark,
    data: &DataInfo,
    machine: &Machine,
    queries: &[Query],
) -> Result<(), UserError> {
    require_alike(against, Ground { name: CLUSTER, benchmark: &benchmark.to_string(), data, machine })?;
    let names: Vec<&str> = queries.iter().map(|query| query.name).collect();
    let passed = names.iter().any(|name| LeftOut::of("", against, name).is_none());
    if passed { Ok(()) } else { Err(no_common(&names, against)) }
}

fn require_alike(record: &RunRecord, ground: Ground<'_>) -> Result<(), UserError> {
    require_ground(Ground::of(TO_BEAT, record), ground)?;
    let other = match record {
        RunRecord { streams: 2.., .. } => "of several streams, where a query waits for others",
        RunRecord { cold: true, .. } => "with cold caches, and the cluster's are hot",
        _ => return Ok(()),
    };
    Err(UserError::new(format!("{TO_BEAT} cannot be beaten fairly: it is {other}"))
        .hint("give one of a single stream with hot caches"))
}

fn no_common(names: &[&str], record: &RunRecord) -> UserError {
    let why = names.iter().filter_map(|name| LeftOut::of("", record, name));
    let why: Vec<String> = why.map(|LeftOut { query, why, .. }| format!("{query}: {why}")).collect();
    UserError::new(format!("{TO_BEAT} has a time of none of the queries that the cluster has one of"))
        .detail(why.join("\n"))
        .hint("give a record of a run in which some of them passed")
}
