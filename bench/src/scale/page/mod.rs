//! The scaling as a section of the page about its records.

use std::fmt;

use firesteel_base::UserError;

use super::words::{cost, maybe_seconds, percent, seconds, times};
use super::{LeftOut, Measured, QueryScaling, Scaling, Size};
use crate::record::{RunRecord, Text, html_with};

mod curve;

/// A page about the runs at each size, that of the engine to beat behind them, with a section about the scaling.
///
/// # Errors
/// When the records are not of one benchmark at one scale.
pub fn page(
    scaling: &Scaling,
    measured: &[Measured],
    against: Option<&RunRecord>,
) -> Result<String, UserError> {
    let mut records: Vec<&Measured> = measured.iter().collect();
    records.sort_by_key(|measured| measured.executors);
    let records: Vec<RunRecord> =
        records.into_iter().map(|measured| &measured.record).chain(against).cloned().collect();
    html_with(&records, &Section(scaling))
}

struct Section<'a>(&'a Scaling);

impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scaling = self.0;
        writeln!(f, "<h2>Scaling</h2>\n<p class=\"note\">{}.</p>", Text(&scaling.basis()))?;
        curve::chart(f, scaling)?;
        sizes(f, scaling)?;
        if let Some(against) = &scaling.against {
            writeln!(f, "<p class=\"summary\">{}.</p>", Text(&scaling.verdict(against)))?;
            note(f, against.guess().as_deref())?;
        }
        note(f, scaling.law().as_deref())?;
        left_out(f, scaling)?;
        f.write_str("<ul class=\"note\">\n")?;
        scaling.notes.iter().try_for_each(|text| writeln!(f, "<li>{}</li>", Text(text)))?;
        f.write_str("</ul>\n")?;
        queries(f, scaling)
    }
}

fn note(f: &mut fmt::Formatter<'_>, text: Option<&str>) -> fmt::Result {
    text.map_or(Ok(()), |text| writeln!(f, "<p class=\"note\">{}.</p>", Text(text)))
}

fn sizes(f: &mut fmt::Formatter<'_>, scaling: &Scaling) -> fmt::Result {
    f.write_str("<div class=\"wide\"><table>\n<tr><th>Executors</th>")?;
    for head in
        ["Cores", "Total, s", "Geometric mean, s", "Speed-up", "Efficiency", "Core-seconds", "CPU seconds"]
    {
        write!(f, "<th class=\"n\">{head}</th>")?;
    }
    f.write_str("</tr>\n")?;
    for size in &scaling.sizes {
        let numbers = &size.numbers;
        write!(f, "<tr><td>{}{}</td>", size.executors, mark(size))?;
        let cells = [
            size.cores.to_string(),
            seconds(numbers.seconds),
            maybe_seconds(size.geometric_mean_seconds),
            times(numbers.speed_up),
            percent(numbers.efficiency),
            seconds(numbers.core_seconds),
            maybe_seconds(numbers.cpu_seconds),
        ];
        numeric(f, &cells)?;
        f.write_str("</tr>\n")?;
    }
    f.write_str("</table></div>\n")
}

fn mark(size: &Size) -> &'static str {
    if size.oversubscribed { " <b class=\"bad\">oversubscribed</b>" } else { "" }
}

fn numeric(f: &mut fmt::Formatter<'_>, cells: &[String]) -> fmt::Result {
    cells.iter().try_for_each(|cell| write!(f, "<td class=\"n\">{cell}</td>"))
}

fn left_out(f: &mut fmt::Formatter<'_>, scaling: &Scaling) -> fmt::Result {
    let not_compared = scaling.against.iter().flat_map(|against| &against.left_out);
    for LeftOut { query, run, why } in scaling.left_out.iter().chain(not_compared) {
        let told = format!("{query}, in {run}: {why}");
        writeln!(f, "<p class=\"notice\"><b>Left out:</b> {}</p>", Text(&told))?;
    }
    Ok(())
}

/// A row for each query, a group of columns for each size.
fn queries(f: &mut fmt::Formatter<'_>, scaling: &Scaling) -> fmt::Result {
    f.write_str(
        "<h3>Each query, the least efficient first</h3>\n<div class=\"wide\"><table class=\"scaling\">\n<tr><th></th>",
    )?;
    let columns = if scaling.tells_cpu() { 4 } else { 3 };
    for size in &scaling.sizes {
        let plural = if size.executors == 1 { "" } else { "s" };
        write!(
            f,
            "<th class=\"n\" colspan=\"{columns}\">{} executor{plural}{}</th>",
            size.executors,
            mark(size)
        )?;
    }
    if let Some(against) = &scaling.against {
        write!(f, "<th class=\"n\">{}</th><th></th>", Text(&against.engine))?;
    }
    f.write_str("</tr>\n<tr><th>Query</th>")?;
    for _ in &scaling.sizes {
        for head in ["s", "Efficiency", "Core-s", "CPU s"].iter().take(columns) {
            write!(f, "<th class=\"n\">{head}</th>")?;
        }
    }
    if scaling.against.is_some() {
        f.write_str("<th class=\"n\">s</th><th>COST</th>")?;
    }
    f.write_str("</tr>\n")?;
    scaling.queries.iter().try_for_each(|query| row(f, scaling, query, columns))?;
    f.write_str("</table></div>\n")
}

fn row(f: &mut fmt::Formatter<'_>, scaling: &Scaling, query: &QueryScaling, columns: usize) -> fmt::Result {
    write!(f, "<tr><th>{}</th>", Text(&query.name))?;
    for numbers in &query.sizes {
        let cells = [
            seconds(numbers.seconds),
            percent(numbers.efficiency),
            seconds(numbers.core_seconds),
            maybe_seconds(numbers.cpu_seconds),
        ];
        write!(f, "<td class=\"n first\">{}</td>", cells[0])?;
        numeric(f, &cells[1..columns])?;
    }
    if scaling.against.is_some() {
        write!(
            f,
            "<td class=\"n first\">{}</td><td>{}</td>",
            maybe_seconds(query.seconds_to_beat),
            cost(query.cost)
        )?;
    }
    f.write_str("</tr>\n")
}
