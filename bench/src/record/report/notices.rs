//! What a reader must know before the first number.

use std::fmt;

use super::super::run::RunRecord;
use super::Report;
use super::runs;
use super::text::{joined, letter};

/// Whether something holds for a run of a report, which is compared with the first one.
type Test = fn(&Report<'_>, &RunRecord) -> bool;

const NOTICES: [(Test, &str); 11] = [
    (|_, record| runs::unverified(record) > 0, "answers were <b class=\"bad\">NOT VERIFIED</b>"),
    (|_, record| record.failed().next().is_some(), "queries failed"),
    (is_partial, "queries of other runs are missing"),
    (
        |report, record| other_data(record, report.first),
        "the data is not that of run A, so the times do not compare",
    ),
    (
        |report, record| other_machine(record, report.first),
        "the machine is not that of run A, so the times do not compare",
    ),
    (other_system, "the disk or the kernel is not that of run A"),
    (other_files, "the same rows are in other files than those of run A"),
    (|report, record| record.cores != report.first.cores, "the cores are not as many as those of run A"),
    (|report, record| record.cold != report.first.cold, "the caches are not those of run A (hot or cold)"),
    (
        |report, record| record.streams != report.first.streams,
        "the streams are not as many as those of run A",
    ),
    (other_counts, "a query did not run as often as in run A"),
];

pub(super) fn all(f: &mut fmt::Formatter<'_>, report: &Report<'_>) -> fmt::Result {
    for (test, what) in NOTICES {
        let which: Vec<usize> =
            report.numbered().filter(|(_, record)| test(report, record)).map(|(number, _)| number).collect();
        let run = match which.len() {
            0 => continue,
            1 => "Run",
            _ => "Runs",
        };
        let letters = joined(which.into_iter().map(letter));
        writeln!(f, "<p class=\"notice\"><b>{run} {letters}:</b> {what}.</p>")?;
    }
    Ok(())
}

/// Whether times of the two say something about each other.
pub(super) fn compare(one: &RunRecord, other: &RunRecord) -> bool {
    !other_data(one, other) && !other_machine(one, other)
}

fn other_data(one: &RunRecord, other: &RunRecord) -> bool {
    (&one.data.generator, &one.data.checksum) != (&other.data.generator, &other.data.checksum)
}

fn other_machine(one: &RunRecord, other: &RunRecord) -> bool {
    let (one, other) = (&one.machine, &other.machine);
    (&one.cpu, one.cpus, one.memory_bytes) != (&other.cpu, other.cpus, other.memory_bytes)
}

fn is_partial(report: &Report<'_>, record: &RunRecord) -> bool {
    report.queries.iter().any(|name| record.query(name).is_none())
}

fn other_system(report: &Report<'_>, record: &RunRecord) -> bool {
    let (one, first) = (&record.machine, &report.first.machine);
    (&one.disk, &one.kernel) != (&first.disk, &first.kernel)
}

fn other_files(report: &Report<'_>, record: &RunRecord) -> bool {
    let (one, first) = (&record.data, &report.first.data);
    one.checksum == first.checksum && (one.files, &one.compression) != (first.files, &first.compression)
}

fn other_counts(report: &Report<'_>, record: &RunRecord) -> bool {
    (record.iterations, record.warmup) != (report.first.iterations, report.first.warmup)
}
