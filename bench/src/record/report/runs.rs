//! The table of runs, and the list of what failed in them.

use std::fmt;

use super::super::run::{RunRecord, Throughput, Verdict};
use super::text::{Text, seconds};
use super::{Report, engine, key};

pub(super) fn table(f: &mut fmt::Formatter<'_>, report: &Report<'_>) -> fmt::Result {
    let throughput = report.records.iter().any(|record| record.throughput.is_some());
    f.write_str(
        "<h2>Runs</h2>\n<div class=\"wide\"><table>\n<tr><th>Run</th><th>Engine</th><th>Mode</th>\
         <th class=\"n\">Cores</th><th class=\"n\">Total, s</th><th class=\"n\">Geometric mean, s</th>",
    )?;
    if throughput {
        f.write_str("<th class=\"n\">Queries an hour</th>")?;
    }
    f.write_str("<th>Answers</th><th>Failures</th></tr>\n")?;
    for (number, record) in report.numbered() {
        row(f, report, number, record)?;
        if throughput {
            write!(f, "<td class=\"n\">{}</td>", record.throughput.map_or("–".to_owned(), an_hour))?;
        }
        writeln!(f, "<td>{}</td><td>{}</td></tr>", answers(record), failed(record))?;
    }
    f.write_str("</table></div>\n")
}

fn row(f: &mut fmt::Formatter<'_>, report: &Report<'_>, number: usize, record: &RunRecord) -> fmt::Result {
    let mean = record.geometric_mean_seconds().filter(|_| report.is_complete(record));
    let shown = |value: Option<f64>| value.map_or("–".to_owned(), seconds);
    write!(
        f,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
        key(number, ""),
        Text(&engine(record)),
        Text(&record.mode),
        record.cores,
        shown(report.total(record)),
        shown(mean)
    )
}

fn an_hour(throughput: Throughput) -> String {
    let an_hour = f64::from(throughput.queries) * 3600.0 / throughput.seconds;
    format!("{an_hour:.0} ({} streams)", throughput.streams)
}

/// Queries with an answer that nobody checked.
pub(super) fn unverified(record: &RunRecord) -> usize {
    let answered = record.queries.iter().filter(|query| !query.is_failed());
    answered.filter(|query| record.verified.is_none() || query.verdict == Verdict::Unverified).count()
}

fn answers(record: &RunRecord) -> String {
    let not_verified = "<b class=\"bad\">NOT VERIFIED</b>";
    match (&record.verified, unverified(record)) {
        (None, _) => not_verified.to_owned(),
        (Some(by), 0) => format!("verified by {}", Text(by)),
        (Some(by), count) => format!("verified by {}; {count} {not_verified}", Text(by)),
    }
}

fn failed(record: &RunRecord) -> String {
    match record.failed().count() {
        0 => "none".to_owned(),
        count => format!("<b class=\"bad\">{count} of {}</b>", record.queries.len()),
    }
}

/// What failed, in full: a message in a title is out of reach where there is no mouse.
pub(super) fn failures(f: &mut fmt::Formatter<'_>, report: &Report<'_>) -> fmt::Result {
    if report.records.iter().all(|record| record.failed().next().is_none()) {
        return Ok(());
    }
    f.write_str(
        "<h2>Failures</h2>\n<div class=\"wide\"><table>\n<tr><th>Run</th><th>Query</th><th>Why</th></tr>\n",
    )?;
    for (number, record) in report.numbered() {
        for query in record.failed() {
            let why = query.failure().unwrap_or_default();
            writeln!(
                f,
                "<tr><td>{}</td><td>{}</td><td class=\"message\">{}</td></tr>",
                key(number, ""),
                Text(&query.name),
                Text(&why)
            )?;
        }
    }
    f.write_str("</table></div>\n")
}
