//! A page about several runs of one workload: one file, which loads nothing and runs no scripts.

mod bars;
mod details;
mod medians;
mod notices;
mod rates;
mod runs;
mod text;
mod timeline;

use std::collections::BTreeSet;
use std::fmt;

use firesteel_base::{ByteSize, UserError};

use super::run::RunRecord;
pub(crate) use text::Text;
use text::{joined, letter, seconds};

const STYLE: &str = include_str!("style.css");

/// Colours that are told apart; with more runs they begin again, and the letters tell the runs apart.
const COLOURS: usize = 7;

/// A page about `records`, which are lettered in their order.
///
/// # Errors
/// When there are no records, or they are not of one benchmark at one scale.
pub fn html(records: &[RunRecord]) -> Result<String, UserError> {
    html_with(records, &"")
}

/// [`html`] with a section of markup between the table of runs and what is told of each query.
///
/// # Errors
/// As [`html`].
pub(crate) fn html_with(records: &[RunRecord], section: &dyn fmt::Display) -> Result<String, UserError> {
    let Some(first) = records.first() else {
        return Err(UserError::new("there is no run to report on").hint("give one or more records of runs"));
    };
    if let Some(other) = records.iter().find(|record| subject(record) != subject(first)) {
        return Err(UserError::new("a report is about one benchmark at one scale")
            .detail(format!("{} and {} were given", subject(first), subject(other)))
            .hint("make a report of each"));
    }
    Ok(Report { records, first, queries: queries(records), section }.to_string())
}

/// The workload and its scale or size.
fn subject(record: &RunRecord) -> String {
    match record.benchmark.as_str() {
        "shuffle" => format!("shuffle of {}", rows_in_memory(record)),
        _ => format!("{} at scale {}", benchmark(record), record.data.scale),
    }
}

/// `16 384 rows in 1MiB of memory`.
fn rows_in_memory(record: &RunRecord) -> String {
    format!("{} rows in {} of memory", text::grouped(record.data.rows), ByteSize(record.data.bytes))
}

/// The TPC benchmark that the data or the queries are of.
fn derived_from(record: &RunRecord) -> Option<&str> {
    match record.benchmark.as_str() {
        "shuffle" => None,
        "sort" => Some("TPC-H"),
        _ => Some(benchmark(record)),
    }
}

fn benchmark(record: &RunRecord) -> &str {
    match record.benchmark.as_str() {
        "tpch" => "TPC-H",
        "tpcds" => "TPC-DS",
        "sort" => "sort of TPC-H",
        other => other,
    }
}

/// The files that were queried, where there are any.
fn over(record: &RunRecord) -> String {
    let data = &record.data;
    match data.files {
        0 => String::new(),
        _ => format!(
            ", over {} rows in {} of files ({})",
            text::grouped(data.rows),
            ByteSize(data.bytes),
            data.compression
        ),
    }
}

/// The queries of all records, in the order in which they are first met.
fn queries(records: &[RunRecord]) -> Vec<&str> {
    let mut met = BTreeSet::new();
    let all = records.iter().flat_map(|record| &record.queries).map(|query| query.name.as_str());
    all.filter(|name| met.insert(*name)).collect()
}

struct Report<'a> {
    records: &'a [RunRecord],
    /// The first of the records.
    first: &'a RunRecord,
    queries: Vec<&'a str>,
    /// Markup of whoever asks for the page.
    section: &'a dyn fmt::Display,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = subject(self.first);
        let title = Text(&subject);
        // The policy makes sure that the page loads nothing, whatever is in it.
        write!(
            f,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        )?;
        self.summary(f)?;
        notices::all(f, self)?;
        runs::table(f, self)?;
        write!(f, "{}", self.section)?;
        bars::chart(f, self)?;
        medians::table(f, self)?;
        rates::table(f, self)?;
        runs::failures(f, self)?;
        timeline::charts(f, self)?;
        details::all(f, self)?;
        if let Some(disclaimer) = self.disclaimer() {
            writeln!(f, "<footer>{disclaimer}</footer>")?;
        }
        f.write_str("</main>\n</body>\n</html>\n")
    }
}

impl Report<'_> {
    /// The records with their numbers.
    fn numbered(&self) -> impl Iterator<Item = (usize, &RunRecord)> {
        self.records.iter().enumerate()
    }

    /// Whether no query of the report is missing or failed in `record`: only such totals compare.
    fn is_complete(&self, record: &RunRecord) -> bool {
        self.queries.iter().all(|name| record.query(name).is_some_and(|query| !query.is_failed()))
    }

    /// The total of a complete record.
    fn total(&self, record: &RunRecord) -> Option<f64> {
        if self.is_complete(record) { record.total_seconds() } else { None }
    }

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, .. } = self;
        write!(
            f,
            "<p class=\"summary\">{} of {} of {}{}. Each query ran {} after {} for \
             warm-up, with {} caches, on {} with {} and {}. Times are medians in seconds; less is better.",
            counted(self.records.len(), "run"),
            counted(self.queries.len(), "query"),
            Text(&subject(first)),
            Text(&over(first)),
            counted(first.iterations as usize, "time"),
            counted(first.warmup as usize, "run"),
            if first.cold { "cold" } else { "hot" },
            Text(&first.machine.cpu),
            counted(first.machine.cpus as usize, "processor"),
            ByteSize(first.machine.memory_bytes),
        )?;
        self.ranking(f)?;
        f.write_str("</p>\n")
    }

    /// Who took how long, among the runs whose totals compare.
    fn ranking(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut totals: Vec<_> =
            self.numbered().filter_map(|(number, record)| Some((self.total(record)?, number))).collect();
        totals.sort_by(|a, b| a.0.total_cmp(&b.0));
        let [(best, number), others @ ..] = totals.as_slice() else {
            return Ok(());
        };
        if !self.records.iter().all(|record| notices::compare(record, self.first)) {
            return Ok(());
        }
        write!(f, " Run {} took {} s for all queries", letter(*number), seconds(*best))?;
        if others.is_empty() {
            return f.write_str(".");
        }
        let times = others.iter().map(|(total, number)| format!("{} {:.2}", letter(*number), total / best));
        write!(f, "; as a multiple of that, {}.", joined(times))
    }

    /// What must be said of results that have to do with a TPC benchmark.
    fn disclaimer(&self) -> Option<String> {
        let benchmark = derived_from(self.first)?;
        Some(format!("Derived from {}; not comparable to published TPC results.", Text(benchmark)))
    }
}

/// `1 run`, `5 queries`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        _ => format!("{count} {what}s"),
    }
}

/// The colour and the letter of a run, and `more` in plain text.
fn key(number: usize, more: &str) -> String {
    let colour = number % COLOURS;
    format!("<span class=\"key c{colour}\"><i></i>{}</span>{}", letter(number), Text(more))
}

/// The engine and its version.
fn engine(record: &RunRecord) -> String {
    format!("{} {}", record.engine.name, record.engine.version)
}

#[cfg(test)]
mod tests;
