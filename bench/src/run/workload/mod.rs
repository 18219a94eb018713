//! Workloads: what a run asks, of which rows, and what its answers are held against.
//!
//! | workload | rows | queries | answers are held against |
//! | --- | --- | --- | --- |
//! | `tpch`, `tpcds` | a folder of generated data | those of the benchmark | stored answers, or those of DuckDB |
//! | `shuffle` | a series, made by the engine as it runs | one exchange by key for each distribution of keys | sums known beforehand |
//! | `sort` | the lineitem of a TPC-H folder | sorts to Parquet files, and groupings with many groups | the files, read another way |

mod keys;
mod lineitem;
mod shuffle;
mod sort;

use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use firesteel_base::UserError;

pub use keys::Keys;
pub use shuffle::Shuffle;
pub use sort::Sort;

use crate::Benchmark;
use crate::queries;
use crate::record::{DataInfo, Verdict};
use crate::verify::{Answer, Expected, Question, RightAnswers, Rules, compare};
use lineitem::Groups;

/// What a run asks.
#[derive(Debug)]
pub enum Workload {
    /// The queries of a benchmark.
    Tpc {
        /// Which.
        benchmark: Benchmark,
        /// A folder made by [`generate`](crate::generate()).
        data: PathBuf,
        /// Where right answers come from; nobody knows them without it.
        right: Option<RightAnswers>,
    },
    /// Exchanges by key.
    Shuffle(Shuffle),
    /// Sorts and groupings of lineitem.
    Sort(Sort),
}

/// A query of a workload.
#[derive(Debug, Clone)]
pub struct WorkloadQuery {
    /// Its name, such as `q01` or `sort-orderkey`.
    pub name: String,
    /// Its text: one statement.
    pub sql: String,
    /// The rows that it shuffles, sorts or groups, when it is known for that.
    pub input: Option<Input>,
    check: Check,
}

/// The rows that a query shuffles, sorts or groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// How many.
    pub rows: u64,
    /// Their bytes in memory, when that is known.
    pub bytes: Option<u64>,
}

/// How an answer is judged.
#[derive(Debug, Clone)]
enum Check {
    /// By that of the benchmark's right answers.
    Benchmark,
    /// By the sums of columns with these keys.
    Sums(Keys),
    /// By the file that was written: all rows, in the order of a column.
    File { path: PathBuf, column: &'static str },
    /// By groups that are found without the engine.
    Groups(fn(&Groups) -> Expected),
}

/// An answer that was held against something.
#[derive(Debug)]
pub(super) struct Judged {
    /// Against what.
    pub against: String,
    /// How it came out.
    pub verdict: Verdict,
}

impl Workload {
    /// Its name, by which records name it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tpc { benchmark, .. } => benchmark.to_string(),
            Self::Shuffle(_) => Shuffle::NAME.to_owned(),
            Self::Sort(_) => Sort::NAME.to_owned(),
        }
    }

    /// The folder that is queried, and whose tables it holds; none where the rows are made as they are queried.
    pub(super) fn folder(&self) -> Option<(&Path, Benchmark)> {
        match self {
            Self::Tpc { benchmark, data, .. } => Some((data, *benchmark)),
            Self::Sort(sort) => Some((sort.data(), Benchmark::Tpch)),
            Self::Shuffle(_) => None,
        }
    }

    /// All its queries.
    #[must_use]
    pub fn queries(&self) -> Vec<WorkloadQuery> {
        match self {
            Self::Tpc { benchmark, .. } => queries::all(*benchmark).iter().map(WorkloadQuery::from).collect(),
            Self::Shuffle(shuffle) => shuffle.queries(),
            Self::Sort(sort) => sort.queries(),
        }
    }

    /// The queries that `text` chooses: for a benchmark as [`chosen`](super::chosen()) reads it, for others names with
    /// commas between them.
    ///
    /// # Errors
    /// When it names a query that the workload has not, or one twice.
    pub fn chosen(&self, text: &str) -> Result<Vec<WorkloadQuery>, UserError> {
        if let Self::Tpc { benchmark, .. } = self {
            let chosen = super::chosen(*benchmark, text)?;
            return Ok(chosen.iter().map(WorkloadQuery::from).collect());
        }
        named(&self.name(), self.queries(), text)
    }

    /// Holds the first answer of a query over `data` against the right one, which may take so long to find; none where
    /// nobody knows that.
    ///
    /// # Errors
    /// When the right answer cannot be had.
    pub(super) async fn judge(
        &self,
        query: &WorkloadQuery,
        data: &DataInfo,
        rows: &[RecordBatch],
        time_max: Duration,
    ) -> Result<Option<Judged>, UserError> {
        let held = match (self, &query.check) {
            (Self::Tpc { benchmark, right: Some(right), .. }, Check::Benchmark) => {
                let (name, sql) = (query.name.as_str(), query.sql.as_str());
                let (benchmark, scale, folder) = (*benchmark, data.scale, Path::new(&data.path));
                let question = Question { benchmark, scale, data: folder, name, sql, time_max };
                let expected = right.expected(&question).await?;
                let held = hold(&expected, rows, &Rules::of(sql));
                return Ok(Some(Judged { against: right.to_string(), verdict: verdict(held) }));
            }
            (Self::Shuffle(shuffle), Check::Sums(keys)) => {
                let expected = shuffle.expected(*keys).await;
                ("sums known beforehand", hold(&expected, rows, &Rules::default()))
            }
            (Self::Sort(sort), Check::File { path, column }) => {
                (Sort::AGAINST, sort.check_file(path, column).await.map_err(|fault| fault.to_string()))
            }
            (Self::Sort(sort), Check::Groups(expected)) => {
                let found = match sort.groups().await {
                    Ok(groups) => hold(&expected(groups), rows, &Rules::default()),
                    Err(fault) => Err(fault.to_string()),
                };
                (Sort::AGAINST, found)
            }
            _ => return Ok(None),
        };
        Ok(Some(Judged { against: held.0.to_owned(), verdict: verdict(held.1) }))
    }
}

impl WorkloadQuery {
    /// Removes what its last run has written.
    ///
    /// # Errors
    /// When that cannot be removed.
    pub(super) fn clean_up(&self) -> Result<(), UserError> {
        let Check::File { path, .. } = &self.check else { return Ok(()) };
        match std::fs::remove_file(path) {
            Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
                Err(UserError::new(format!("{} cannot be removed: {fault}", path.display())))
            }
            _ => Ok(()),
        }
    }
}

impl From<&queries::Query> for WorkloadQuery {
    fn from(query: &queries::Query) -> Self {
        Self { name: query.name.to_owned(), sql: query.sql.to_owned(), input: None, check: Check::Benchmark }
    }
}

fn verdict(held: Result<(), String>) -> Verdict {
    match held {
        Ok(()) => Verdict::Right,
        Err(difference) => Verdict::Wrong(difference),
    }
}

fn hold(expected: &Expected, rows: &[RecordBatch], rules: &Rules) -> Result<(), String> {
    let answer = Answer::from_batches(rows).map_err(|fault| fault.to_string())?;
    compare(expected, &answer, rules).map_err(|mismatch| mismatch.to_string())
}

/// The queries among `all` that `text` names.
fn named(workload: &str, all: Vec<WorkloadQuery>, text: &str) -> Result<Vec<WorkloadQuery>, UserError> {
    let mut chosen: Vec<WorkloadQuery> = Vec::new();
    for name in text.split(',').map(str::trim) {
        let query = all.iter().find(|query| query.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|query| query.name.as_str()).collect();
            UserError::new(format!("{workload} has no query '{name}'"))
                .hint(format!("its queries are {}", names.join(", ")))
        })?;
        if chosen.iter().any(|other| other.name == query.name) {
            return Err(UserError::new(format!("the query {} is chosen twice", query.name)));
        }
        chosen.push(query.clone());
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_chosen_by_name() {
        let keys = vec![Keys::Uniform, Keys::Zipf(1.1)];
        let workload = Workload::Shuffle(Shuffle::new(1 << 20, 8, keys).unwrap());
        let names =
            |text| -> Vec<_> { workload.chosen(text).unwrap().into_iter().map(|query| query.name).collect() };
        assert_eq!(names("zipf-1.1"), ["zipf-1.1"]);
        assert_eq!(names("ZIPF-1.1, uniform"), ["zipf-1.1", "uniform"]);
        for bad in ["", "1", "q01", "uniform,", "uniform,uniform"] {
            assert!(workload.chosen(bad).is_err(), "{bad}");
        }
        let fault = workload.chosen("sort-orderkey").unwrap_err();
        assert_eq!(fault.hint.unwrap(), "its queries are uniform, zipf-1.1");
        let tpch = Workload::Tpc { benchmark: Benchmark::Tpch, data: "nowhere".into(), right: None };
        assert_eq!(tpch.chosen("1-3").unwrap().len(), 3);
        assert_eq!((tpch.name(), tpch.queries().len()), ("tpch".to_owned(), 22));
    }
}
