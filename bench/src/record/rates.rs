//! How fast queries moved their rows.

use std::fmt;

use firesteel_base::ByteSize;

use super::run::{Measures, QueryRecord, RunRecord};
use super::table::TextTable;

/// How fast a query shuffled, sorted or grouped its rows, over all of its runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// The median of the runs.
    pub seconds: f64,
    /// Rows, by the median.
    pub rows_per_second: f64,
    /// Billions of bytes, by the median and by the cores of the engine: of the rows in memory where those are known, otherwise
    /// those that went from stage to stage. None where nothing went.
    pub gigabytes_per_core_second: Option<f64>,
    /// Bytes that were copied on the way for each byte that went from stage to stage. None where nothing went.
    pub copied_per_shuffled: Option<f64>,
    /// The most memory of a run.
    pub peak_memory_bytes: Option<u64>,
}

impl QueryRecord {
    /// How fast the query moved its rows on so many cores; none when it failed, or says of no rows that it moves them.
    #[must_use]
    pub fn rates(&self, cores: u32) -> Option<Rates> {
        let seconds = self.passed_median().filter(|seconds| *seconds > 0.0)?;
        let rows = self.measures().find_map(|measures| measures.input_rows)?;
        let bytes = self.measures().find_map(moved).map(|bytes| bytes as f64);
        Some(Rates {
            seconds,
            rows_per_second: rows as f64 / seconds,
            gigabytes_per_core_second: bytes.map(|bytes| bytes / 1e9 / seconds / f64::from(cores.max(1))),
            copied_per_shuffled: copied_per_shuffled(self),
            peak_memory_bytes: self.measures().filter_map(|measures| measures.peak_memory_bytes).max(),
        })
    }
}

fn moved(measures: &Measures) -> Option<u64> {
    measures.input_bytes.or_else(|| shuffled(measures))
}

fn shuffled(measures: &Measures) -> Option<u64> {
    measures.bytes_shuffled.filter(|bytes| *bytes > 0)
}

fn copied_per_shuffled(query: &QueryRecord) -> Option<f64> {
    let both = query.measures().filter_map(|run| Some((run.bytes_copied?, shuffled(run)?)));
    let (copied, shuffled) = both.fold((0, 0), |sums, run| (sums.0 + run.0, sums.1 + run.1));
    if shuffled > 0 { Some(copied as f64 / shuffled as f64) } else { None }
}

/// What stands for a number that there is none of.
const NONE: &str = "-";

impl Rates {
    /// The heads of [`Self::cells`].
    pub(super) const HEADS: [&str; 5] =
        ["median s", "million rows/s", "GB/s a core", "copied/shuffled", "peak memory"];

    /// The numbers as they are shown.
    pub(super) fn cells(&self) -> [String; 5] {
        let shown = |number: Option<f64>| number.map_or(NONE.to_owned(), |number| format!("{number:.3}"));
        [
            format!("{:.3}", self.seconds),
            format!("{:.2}", self.rows_per_second / 1e6),
            shown(self.gigabytes_per_core_second),
            shown(self.copied_per_shuffled),
            self.peak_memory_bytes.map_or(NONE.to_owned(), |bytes| ByteSize(bytes).to_string()),
        ]
    }
}

/// The rates of a record's queries, as a table in plain text.
#[derive(Debug)]
pub struct RateTable<'a>(&'a RunRecord);

impl<'a> RateTable<'a> {
    /// The table; none when no query says of rows that it moves them.
    #[must_use]
    pub fn of(record: &'a RunRecord) -> Option<Self> {
        let has_rates = record.queries.iter().any(|query| query.rates(record.cores).is_some());
        has_rates.then_some(Self(record))
    }
}

impl fmt::Display for RateTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, rows, bytes, copied, memory] = Rates::HEADS;
        let mut table = TextTable::new(["query", median, rows, bytes, copied, memory]);
        for query in &self.0.queries {
            let none = || [NONE; 5].map(str::to_owned);
            let mut cells = query.rates(self.0.cores).map_or_else(none, |rates| rates.cells());
            if query.is_failed() {
                cells[0] = "FAIL".to_owned();
            }
            let [median, rows, bytes, copied, memory] = cells;
            table.add([query.name.clone(), median, rows, bytes, copied, memory]);
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::{FailureKind, Outcome};
    use super::super::samples;
    use super::*;

    /// A record on 8 cores whose only query moved a thousand million rows of 8 bytes in 2 seconds.
    pub(super) fn record(change: impl Fn(&mut Measures)) -> RunRecord {
        let mut record = samples::record("firesteel", &[("uniform", &[2.0, 1.0, 4.0])]);
        for run in &mut record.queries[0].runs {
            let Outcome::Done(measures) = &mut run.outcome else { panic!("it ended well") };
            measures.input_rows = Some(1_000_000_000);
            measures.input_bytes = Some(8_000_000_000);
            change(measures);
        }
        record
    }

    fn rates(change: impl Fn(&mut Measures)) -> Rates {
        record(change).queries[0].rates(8).unwrap()
    }

    #[test]
    fn rates_are_by_the_median_and_the_cores() {
        let rates = rates(|_| ());
        assert_eq!((rates.seconds, rates.rows_per_second), (2.0, 5e8));
        assert_eq!(rates.gigabytes_per_core_second, Some(0.5));
        assert_eq!((rates.copied_per_shuffled, rates.peak_memory_bytes), (None, None));
    }

    #[test]
    fn bytes_are_those_between_stages_where_the_rows_are_of_unknown_size() {
        let sorted = |shuffled| {
            rates(move |run| {
                (run.input_bytes, run.bytes_shuffled) = (None, Some(shuffled));
                run.bytes_copied = Some(3_200_000_000);
                run.peak_memory_bytes = Some(1 << 30);
            })
        };
        assert_eq!(sorted(1_600_000_000).gigabytes_per_core_second, Some(0.1));
        assert_eq!(sorted(1_600_000_000).copied_per_shuffled, Some(2.0));
        assert_eq!(sorted(0).gigabytes_per_core_second, None);
        assert_eq!(sorted(0).copied_per_shuffled, None);
        assert_eq!(sorted(0).cells()[4], "1GiB");
    }

    #[test]
    fn what_failed_or_moves_nothing_has_no_rates() {
        let mut failed = record(|_| ());
        failed.queries[0].runs.push(samples::failed(FailureKind::Error, "no memory"));
        assert!(failed.queries[0].rates(8).is_none() && RateTable::of(&failed).is_none());
        assert!(RateTable::of(&samples::record("firesteel", &[("q1", &[1.0])])).is_none());
    }

    #[test]
    fn rates_are_shown_as_a_table() {
        let record = record(|run| {
            run.bytes_copied = Some(4_000_000_000);
            run.bytes_shuffled = Some(8_000_000_000);
        });
        let shown = RateTable::of(&record).unwrap().to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "query    median s  million rows/s  GB/s a core  copied/shuffled  peak memory");
        assert_eq!(lines[1], "uniform     2.000          500.00        0.500            0.500  -");
    }
}
