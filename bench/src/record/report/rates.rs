//! The table of how fast queries moved their rows.

use std::fmt;

use super::super::rates::Rates;
use super::super::run::RunRecord;
use super::bars;
use super::text::Text;
use super::{Report, key};

pub(super) fn table(f: &mut fmt::Formatter<'_>, report: &Report<'_>) -> fmt::Result {
    let moves = |record: &RunRecord| record.queries.iter().any(|query| query.rates(record.cores).is_some());
    if !report.records.iter().any(moves) {
        return Ok(());
    }
    f.write_str(
        "<h2>Rows moved</h2>\n<p class=\"note\">GB/s a core: bytes of the shuffled rows, in thousand millions, by the median and \
         the cores. In local mode rows change core by pointer, and only the division of batches by key is measured; on \
         a cluster they are written as blocks and fetched.</p>\n<div class=\"wide\"><table>\n<tr><th>Query</th><th>Run</th>",
    )?;
    for head in Rates::HEADS {
        write!(f, "<th class=\"n\">{head}</th>")?;
    }
    f.write_str("</tr>\n")?;
    for name in &report.queries {
        for (number, record) in report.numbered() {
            row(f, number, record, name)?;
        }
    }
    f.write_str("</table></div>\n")
}

fn row(f: &mut fmt::Formatter<'_>, number: usize, record: &RunRecord, name: &str) -> fmt::Result {
    let Some(query) = record.query(name) else { return Ok(()) };
    write!(f, "<tr><th>{}</th><td>{}</td>", Text(name), key(number, ""))?;
    match (query.rates(record.cores), query.failure()) {
        (Some(rates), _) => {
            for cell in rates.cells() {
                write!(f, "<td class=\"n\">{cell}</td>")?;
            }
        }
        (None, Some(failure)) => {
            write!(f, "<td class=\"n\" colspan=\"{}\">", Rates::HEADS.len())?;
            bars::fail(f, &failure)?;
            f.write_str("</td>")?;
        }
        (None, None) => write!(f, "<td class=\"n none\" colspan=\"{}\">–</td>", Rates::HEADS.len())?,
    }
    f.write_str("</tr>\n")
}
