//! The comparison of two runs of the same queries on the same data and machine.

use std::fmt;

use firesteel_base::UserError;
use serde::Serialize;

use super::run::{QueryRecord, RunRecord};
use super::stats;
use super::table::TextTable;

pub(crate) mod alike;

/// How two runs are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompareOptions {
    /// A query that became slower by more than this part of its time, or fails now, is a regression: 0.05 for 5%.
    pub fail_above: Option<f64>,
    /// A difference counts when noise alone would show one as large less often than this. With many queries, this
    /// part of those that did not change is still expected to look changed.
    pub alpha: f64,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { fail_above: None, alpha: 0.05 }
    }
}

/// What became of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It takes less time, beyond noise.
    Faster,
    /// It takes more time, beyond noise.
    Slower,
    /// The difference is within noise.
    Same,
    /// With so few runs no difference could be told from noise.
    TooFewRuns,
    /// It failed before and passes now.
    Fixed,
    /// It passed before and fails now.
    Broken,
    /// It failed before and fails now.
    StillFailing,
}

/// One query in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueryComparison {
    /// Its name.
    pub name: String,
    /// The median of the base; none when it failed there.
    pub base_seconds: Option<f64>,
    /// The median of the new run; none when it failed there.
    pub new_seconds: Option<f64>,
    /// The new median divided by that of the base.
    pub ratio: Option<f64>,
    /// The two-sided p-value of the Mann-Whitney U test over the runs; none when it failed in one.
    pub p_value: Option<f64>,
    /// What became of it.
    pub change: Change,
    /// Why it fails in the new run; none when it passes.
    pub failure: Option<String>,
}

/// Two runs, query by query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The workload.
    pub benchmark: String,
    /// Its scale factor; 0 where there is none.
    pub scale: f64,
    /// The base in a few words: engine, version, commit, mode.
    pub base: String,
    /// The new run in a few words.
    pub new: String,
    /// What may differ between two runs, but should be known to whoever reads the ratios.
    pub differences: Vec<String>,
    /// Below this p-value a difference is beyond noise.
    pub alpha: f64,
    /// The slowdown from which on a query is in `regressed`.
    pub fail_above: Option<f64>,
    /// The queries in the order of the base.
    pub queries: Vec<QueryComparison>,
    /// The medians of the base together, over the queries that passed in both.
    pub base_total_seconds: Option<f64>,
    /// The medians of the new run together, over the queries that passed in both.
    pub new_total_seconds: Option<f64>,
    /// The new total divided by that of the base.
    pub total_ratio: Option<f64>,
    /// The geometric mean of the ratios of the queries that passed in both.
    pub geometric_mean_ratio: Option<f64>,
    /// The names of the regressions beyond `fail_above`; empty when that is none.
    pub regressed: Vec<String>,
}

/// Compares `new` with `base`.
///
/// # Errors
/// When the two cannot be compared because the benchmark, the data, the machine, the cores or the queries are not the same, or
/// when the options make no sense.
pub fn compare(base: &RunRecord, new: &RunRecord, options: CompareOptions) -> Result<Comparison, UserError> {
    check(options)?;
    alike::require(base, new)?;
    let pairs = base.queries.iter().filter_map(|query| Some((query, new.query(&query.name)?)));
    let queries: Vec<_> = pairs.map(|(base, new)| one(base, new, options.alpha)).collect();
    let mut comparison = Comparison {
        benchmark: base.benchmark.clone(),
        scale: base.data.scale,
        base: alike::title(base),
        new: alike::title(new),
        differences: alike::notable(base, new),
        alpha: options.alpha,
        fail_above: options.fail_above,
        base_total_seconds: total(&queries, |query| query.base_seconds),
        new_total_seconds: total(&queries, |query| query.new_seconds),
        total_ratio: None,
        geometric_mean_ratio: geometric_mean_ratio(&queries),
        queries,
        regressed: Vec::new(),
    };
    comparison.total_ratio = ratio(comparison.base_total_seconds, comparison.new_total_seconds);
    if let Some(fail_above) = options.fail_above {
        comparison.regressed = comparison.regressions(fail_above).map(|query| query.name.clone()).collect();
    }
    Ok(comparison)
}

fn check(options: CompareOptions) -> Result<(), UserError> {
    if !(options.alpha > 0.0 && options.alpha < 1.0) {
        return Err(UserError::new(format!("a level of significance of {} makes no sense", options.alpha))
            .hint("give a number between 0 and 1, such as 0.05"));
    }
    match options.fail_above {
        Some(part) if !(part.is_finite() && part >= 0.0) => {
            Err(UserError::new(format!("a slowdown of {part} cannot be a limit"))
                .hint("give a part of the time, such as 0.05 for 5%"))
        }
        _ => Ok(()),
    }
}

fn one(base: &QueryRecord, new: &QueryRecord, alpha: f64) -> QueryComparison {
    let (base_seconds, new_seconds) = (base.passed_median(), new.passed_median());
    let both = base_seconds.zip(new_seconds);
    let (before, now) = (base.seconds(), new.seconds());
    let p_value = both.and_then(|_| stats::mann_whitney(&before, &now));
    let change = match (base_seconds, new_seconds) {
        (None, None) => Change::StillFailing,
        (None, Some(_)) => Change::Fixed,
        (Some(_), None) => Change::Broken,
        _ if stats::least_p_value(before.len(), now.len()) >= alpha => Change::TooFewRuns,
        _ if p_value.is_none_or(|p| p >= alpha) => Change::Same,
        (Some(before), Some(now)) if now < before => Change::Faster,
        (Some(before), Some(now)) if now > before => Change::Slower,
        _ => Change::Same,
    };
    QueryComparison {
        name: base.name.clone(),
        base_seconds,
        new_seconds,
        ratio: ratio(base_seconds, new_seconds),
        p_value,
        change,
        failure: new.failure(),
    }
}

fn ratio(base: Option<f64>, new: Option<f64>) -> Option<f64> {
    base.zip(new).filter(|(base, _)| *base > 0.0).map(|(base, new)| new / base)
}

/// Over the queries that passed in both.
fn total(queries: &[QueryComparison], seconds: impl Fn(&QueryComparison) -> Option<f64>) -> Option<f64> {
    let passed = queries.iter().filter(|query| query.base_seconds.is_some() && query.new_seconds.is_some());
    let seconds: Vec<f64> = passed.filter_map(seconds).collect();
    if seconds.is_empty() { None } else { Some(seconds.iter().sum()) }
}

fn geometric_mean_ratio(queries: &[QueryComparison]) -> Option<f64> {
    stats::geometric_mean(&queries.iter().filter_map(|query| query.ratio).collect::<Vec<_>>())
}

impl Comparison {
    /// The queries that fail now and passed before, or that became slower, beyond noise, by more than `fail_above` of
    /// their time.
    pub fn regressions(&self, fail_above: f64) -> impl Iterator<Item = &QueryComparison> {
        self.queries.iter().filter(move |query| match query.change {
            Change::Broken => true,
            Change::Slower => query.ratio.is_some_and(|ratio| ratio > 1.0 + fail_above),
            _ => false,
        })
    }

    fn table(&self) -> TextTable<6> {
        let mut table = TextTable::new(["query", "base s", "new s", "new/base", "p", "verdict"]);
        for query in &self.queries {
            let medians =
                [query.base_seconds, query.new_seconds].map(|s| s.map_or("FAIL".to_owned(), seconds));
            let [base, new] = medians;
            let p_value = query.p_value.map_or_else(String::new, |p| format!("{p:.4}"));
            table.add([query.name.clone(), base, new, times(query.ratio), p_value, verdict(query)]);
        }
        let shown = |total: Option<f64>| total.map_or("-".to_owned(), seconds);
        let totals = [shown(self.base_total_seconds), shown(self.new_total_seconds)];
        let [base, new] = totals;
        let passed = self.queries.iter().filter(|query| query.p_value.is_some()).count();
        let over = format!("over the {passed} of {} queries that passed in both", self.queries.len());
        table.add(["total".to_owned(), base, new, times(self.total_ratio), String::new(), over]);
        let mean = times(self.geometric_mean_ratio);
        let of = "geometric mean of new/base".to_owned();
        table.add(["mean".to_owned(), String::new(), String::new(), mean, String::new(), of]);
        table
    }

    fn has_too_few_runs(&self) -> bool {
        self.queries.iter().any(|query| query.change == Change::TooFewRuns)
    }

    /// Runs of a query on each side from which on a difference can be told from noise.
    fn runs_needed(&self) -> usize {
        (1..100).find(|&runs| stats::least_p_value(runs, runs) < self.alpha).unwrap_or(100)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scale {
            0.0 => writeln!(f, "{}", self.benchmark)?,
            scale => writeln!(f, "{} at scale {scale}", self.benchmark)?,
        }
        writeln!(f, "base: {}\nnew:  {}", self.base, self.new)?;
        for difference in &self.differences {
            writeln!(f, "note: {difference}")?;
        }
        write!(f, "\n{}\n", self.table())?;
        writeln!(f, "beyond noise: p below {} in a Mann-Whitney U test over the runs", self.alpha)?;
        if self.has_too_few_runs() {
            writeln!(
                f,
                "note: to tell a difference takes {} runs of a query on each side",
                self.runs_needed()
            )?;
        }
        match self.fail_above {
            None => Ok(()),
            Some(part) if self.regressed.is_empty() => {
                writeln!(f, "no query is broken or, beyond noise, slower by more than {}", percent(part))
            }
            Some(part) => {
                let names = self.regressed.join(", ");
                writeln!(f, "broken or, beyond noise, slower by more than {}: {names}", percent(part))
            }
        }
    }
}

fn verdict(query: &QueryComparison) -> String {
    let verdict = match query.change {
        Change::Faster => "faster",
        Change::Slower => "SLOWER",
        Change::Same => "same (within noise)",
        Change::TooFewRuns => "same (too few runs to tell)",
        Change::Fixed => "fixed",
        Change::Broken => "BROKEN",
        Change::StillFailing => "fails in both",
    };
    match &query.failure {
        Some(failure) => format!("{verdict}: {}", first_line(failure)),
        None => verdict.to_owned(),
    }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3}")
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"))
}

fn percent(part: f64) -> String {
    // Rounded, because 0.07 * 100 is a little more than 7.
    format!("{}%", (part * 1e6).round() / 1e4)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
