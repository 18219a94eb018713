//! What is to be run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use firesteel_base::UserError;

use super::workload::{Workload, WorkloadQuery};
use crate::Benchmark;
use crate::queries::{self, Query};

/// What [`run`](super::run()) is asked for.
#[derive(Debug)]
pub struct RunOptions {
    /// The workload.
    pub workload: Workload,
    /// The queries of it to ask.
    pub queries: Vec<WorkloadQuery>,
    /// Settings of the session, for the record.
    pub conf: BTreeMap<String, String>,
    /// Measured runs of each query.
    pub iterations: u32,
    /// Runs of each query before those.
    pub warmup: u32,
    /// Streams that ask at the same time; with more than one, each asks every query once. Only queries that write nothing
    /// may be asked by several.
    pub streams: u32,
    /// Whether the data is dropped from the page cache before every run.
    pub cold: bool,
    /// When a query is given up.
    pub timeout: Option<Duration>,
    /// Whether answers are held against right ones, where those are known.
    pub verify: bool,
    /// Where the record is kept.
    pub out: Option<PathBuf>,
    /// The command, for the record.
    pub command: Vec<String>,
}

/// The queries that `text` chooses: names, numbers and ranges with commas between them, such as `1-5,q07,22`.
///
/// # Errors
/// When it names a query that the benchmark has not, or none.
pub fn chosen(benchmark: Benchmark, text: &str) -> Result<Vec<Query>, UserError> {
    let all = queries::all(benchmark);
    let number = |name: &str| {
        let digits = name.trim().trim_start_matches(['q', 'Q']);
        let number = digits.parse::<usize>().ok().filter(|number| (1..=all.len()).contains(number));
        number.ok_or_else(|| {
            UserError::new(format!("{benchmark} has no query '{}'", name.trim()))
                .hint(format!("give numbers from 1 to {}, such as 1-5,7", all.len()))
        })
    };
    let mut chosen = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        chosen.extend((first..=last).map(|number| all[number - 1]));
    }
    if chosen.is_empty() {
        return Err(
            UserError::new(format!("'{text}' chooses no query")).hint("write the smaller number first")
        );
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_chosen_by_numbers_names_and_ranges() {
        let names = |text| -> Vec<_> {
            chosen(Benchmark::Tpch, text).unwrap().iter().map(|query| query.name).collect()
        };
        assert_eq!(names("1-3,q07,22"), ["q01", "q02", "q03", "q07", "q22"]);
        assert_eq!(chosen(Benchmark::Tpcds, "1-99").unwrap().len(), 99);
        for bad in ["", "0", "23", "one", "3-1", "1,,2", "1-40"] {
            let fault = chosen(Benchmark::Tpch, bad).unwrap_err();
            assert!(fault.hint.is_some(), "{fault}");
        }
    }
}
