//! The right answers that are part of the project.

use firesteel_base::UserError;

use crate::Benchmark;

/// A right answer: text, of which the answer's types say what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows. An empty text is also how a null is written.
    pub rows: Vec<Vec<String>>,
}

impl Expected {
    /// Reads CSV with a header.
    ///
    /// # Errors
    /// When it is no such CSV.
    pub fn from_csv(text: &str) -> anyhow::Result<Self> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let columns = reader.headers()?.iter().map(str::to_owned).collect();
        let rows = reader.records().map(|record| Ok(record?.iter().map(str::to_owned).collect()));
        Ok(Self { columns, rows: rows.collect::<anyhow::Result<_>>()? })
    }

    /// The stored answer of a query, such as `q01`.
    ///
    /// # Errors
    /// When there is none for this benchmark, scale and query; tells for which there are.
    pub fn stored(benchmark: Benchmark, scale: f64, query: &str) -> Result<Self, UserError> {
        let set =
            SETS.iter().find(|set| set.benchmark == benchmark && (set.scale - scale).abs() < f64::EPSILON);
        let none = || {
            let known: Vec<_> =
                SETS.iter().map(|set| format!("{} at scale {}", set.benchmark, set.scale)).collect();
            UserError::new(format!("there is no stored answer of {query} of {benchmark} at scale {scale}"))
                .detail(format!("there are those of {}", known.join(", ")))
        };
        let set = set.ok_or_else(none)?;
        let (_, text) = set.answers.iter().find(|(name, _)| *name == query).ok_or_else(none)?;
        Self::from_csv(text).map_err(|fault| {
            UserError::new(format!("the stored answer of {query} cannot be read")).detail(fault.to_string())
        })
    }
}

/// The answers of one benchmark at one scale.
struct Set {
    benchmark: Benchmark,
    scale: f64,
    answers: &'static [(&'static str, &'static str)],
}

macro_rules! answers {
    ($folder:literal $($query:literal)*) => {
        &[$(($query, include_str!(concat!("../../answers/", $folder, "/", $query, ".csv")))),*]
    };
}

static SETS: [Set; 3] = [
    Set { benchmark: Benchmark::Tpch, scale: 0.1, answers: for_tpch_queries!(answers "tpch_sf0.1") },
    Set { benchmark: Benchmark::Tpch, scale: 1.0, answers: for_tpch_queries!(answers "tpch_sf1") },
    Set { benchmark: Benchmark::Tpcds, scale: 1.0, answers: for_tpcds_queries!(answers "tpcds_sf1") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_has_its_answers() {
        for set in &SETS {
            for query in crate::queries::all(set.benchmark) {
                let answer = Expected::stored(set.benchmark, set.scale, query.name).unwrap();
                assert!(!answer.columns.is_empty());
            }
        }
        let fault = Expected::stored(Benchmark::Tpch, 3.0, "q01").unwrap_err();
        assert!(
            fault.to_string().contains("tpch at scale 0.1, tpch at scale 1, tpcds at scale 1"),
            "{fault}"
        );
    }
}
