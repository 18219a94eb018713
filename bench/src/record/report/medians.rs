//! The table of medians, with their ratio to the best of each query.

use std::fmt;

use super::super::run::RunRecord;
use super::super::stats;
use super::bars;
use super::text::{Text, seconds};
use super::{Report, key};

pub(super) fn table(f: &mut fmt::Formatter<'_>, report: &Report<'_>) -> fmt::Result {
    f.write_str(
        "<h2>Medians</h2>\n<p class=\"note\">Seconds, and beside them the multiple of the best of the row.</p>\n\
         <div class=\"wide\"><table class=\"medians\">\n<tr><th>Query</th>",
    )?;
    for (number, _) in report.numbered() {
        write!(f, "<th class=\"n\" colspan=\"2\">{}</th>", key(number, ""))?;
    }
    f.write_str("</tr>\n")?;
    for name in &report.queries {
        row(f, report, name)?;
    }
    let both: Vec<&str> = report.queries.iter().copied().filter(|name| passed(report, name)).collect();
    if both.is_empty() {
        return f.write_str("</table></div>\n");
    }
    let of = match both.len() {
        all if all == report.queries.len() => String::new(),
        some => format!(" of the {some} that passed in every run"),
    };
    let medians =
        |record: &RunRecord| both.iter().filter_map(|name| median(record, name)).collect::<Vec<_>>();
    sums(f, report, &format!("Total{of}"), |record| Some(medians(record).iter().sum()))?;
    sums(f, report, &format!("Geometric mean{of}"), |record| stats::geometric_mean(&medians(record)))?;
    f.write_str("</table></div>\n")
}

fn median(record: &RunRecord, name: &str) -> Option<f64> {
    record.query(name)?.passed_median()
}

/// Whether every run has a time of that query.
fn passed(report: &Report<'_>, name: &str) -> bool {
    report.records.iter().all(|record| median(record, name).is_some())
}

fn row(f: &mut fmt::Formatter<'_>, report: &Report<'_>, name: &str) -> fmt::Result {
    write!(f, "<tr><th>{}</th>", Text(name))?;
    let medians: Vec<f64> = report.records.iter().filter_map(|record| median(record, name)).collect();
    let best = stats::least(&medians);
    for record in report.records {
        match record.query(name).map(|query| (query.passed_median(), query.failure())) {
            None => f.write_str("<td class=\"n none\" colspan=\"2\">not run</td>")?,
            Some((Some(median), _)) => cell(f, median, best, report.records.len())?,
            Some((None, failure)) => {
                f.write_str("<td class=\"n\" colspan=\"2\">")?;
                bars::fail(f, &failure.unwrap_or_default())?;
                f.write_str("</td>")?;
            }
        }
    }
    f.write_str("</tr>\n")
}

fn sums(
    f: &mut fmt::Formatter<'_>,
    report: &Report<'_>,
    what: &str,
    sum: impl Fn(&RunRecord) -> Option<f64>,
) -> fmt::Result {
    write!(f, "<tr class=\"sum\"><th>{what}</th>")?;
    let all: Vec<Option<f64>> = report.records.iter().map(sum).collect();
    let best = stats::least(&all.iter().copied().flatten().collect::<Vec<_>>());
    for sum in &all {
        match sum {
            Some(sum) => cell(f, *sum, best, report.records.len())?,
            None => f.write_str("<td class=\"n none\" colspan=\"2\">–</td>")?,
        }
    }
    f.write_str("</tr>\n")
}

fn cell(f: &mut fmt::Formatter<'_>, value: f64, best: Option<f64>, runs: usize) -> fmt::Result {
    let ratio = best.filter(|best| *best > 0.0).map_or(1.0, |best| value / best);
    // With one run there is nothing to be the best of.
    let class = if ratio <= 1.0 && runs > 1 { "n best" } else { "n" };
    write!(f, "<td class=\"{class}\">{}</td><td class=\"n ratio\">×{ratio:.2}</td>", seconds(value))
}
