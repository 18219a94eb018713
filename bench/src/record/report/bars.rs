//! Bars of the medians, query by query, on one scale.

use std::fmt;

use super::super::run::{QueryRecord, RunRecord};
use super::super::stats;
use super::text::{Text, letter, seconds};
use super::{COLOURS, Report, engine, key};

pub(super) fn chart(f: &mut fmt::Formatter<'_>, report: &Report<'_>) -> fmt::Result {
    let end = end(report);
    f.write_str("<h2>Times of each query</h2>\n<p class=\"legend\">")?;
    for (number, record) in report.numbered() {
        write!(f, "<span>{}</span> ", key(number, &format!(" {}, {}", engine(record), record.mode)))?;
    }
    writeln!(
        f,
        "</p>\n<p class=\"note\">Bars are medians, whiskers go from the least to the most. All bars have one scale, from 0 \
         to {} s.</p>\n<div class=\"bars\">",
        seconds(end)
    )?;
    for name in &report.queries {
        writeln!(f, "<section><h3>{}</h3><div>", Text(name))?;
        for (number, record) in report.numbered() {
            row(f, number, record, name, end)?;
        }
        f.write_str("</div></section>\n")?;
    }
    f.write_str("</div>\n")
}

/// The longest time that is drawn.
fn end(report: &Report<'_>) -> f64 {
    let passed = report.records.iter().flat_map(|record| &record.queries).filter(|query| !query.is_failed());
    stats::most(&passed.flat_map(QueryRecord::seconds).collect::<Vec<_>>()).unwrap_or(0.0)
}

fn row(f: &mut fmt::Formatter<'_>, number: usize, record: &RunRecord, name: &str, end: f64) -> fmt::Result {
    write!(f, "<div class=\"row\">{}", key(number, ""))?;
    match record.query(name) {
        None => f.write_str("<span class=\"none\">not run</span>")?,
        Some(query) => match query.failure() {
            Some(failure) => fail(f, &failure)?,
            None => bar(f, number, query, end)?,
        },
    }
    f.write_str("</div>\n")
}

/// A query without a time.
pub(super) fn fail(f: &mut fmt::Formatter<'_>, failure: &str) -> fmt::Result {
    write!(f, "<b class=\"bad\" title=\"{}\">FAIL</b>", Text(failure))
}

fn bar(f: &mut fmt::Formatter<'_>, number: usize, query: &QueryRecord, end: f64) -> fmt::Result {
    let times = query.seconds();
    let of = |value: Option<f64>| value.unwrap_or_default();
    let (median, least, most) =
        (of(stats::median(&times)), of(stats::least(&times)), of(stats::most(&times)));
    let [lower, _, upper] = stats::quartiles(&times).unwrap_or_default();
    let at = |value: f64| if end > 0.0 { value / end * 100.0 } else { 0.0 };
    let colour = number % COLOURS;
    let told = format!(
        "{} on run {}: median {} s, least {}, most {}, quartiles {} and {}, of {} runs",
        query.name,
        letter(number),
        seconds(median),
        seconds(least),
        seconds(most),
        seconds(lower),
        seconds(upper),
        times.len()
    );
    // Percentages instead of a view box: the bar stretches with the page, the strokes do not.
    write!(
        f,
        "<svg class=\"c{colour}\" role=\"img\"><title>{}</title>\
         <rect y=\"1\" width=\"{:.2}%\" height=\"12\"/>",
        Text(&told),
        at(median)
    )?;
    if times.len() > 1 {
        let (from, to) = (at(least), at(most));
        for (x1, x2, y1, y2) in [(from, to, 7, 7), (from, from, 3, 11), (to, to, 3, 11)] {
            write!(f, "<line x1=\"{x1:.2}%\" x2=\"{x2:.2}%\" y1=\"{y1}\" y2=\"{y2}\"/>")?;
        }
    }
    write!(f, "</svg><span class=\"n\">{}</span>", seconds(median))
}
