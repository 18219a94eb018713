//! Where right answers come from.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use firesteel_base::UserError;

use super::duckdb::Duckdb;
use super::stored::Expected;
use crate::Benchmark;
use crate::queries::{self, Query};

/// A source of right answers.
#[derive(Debug, Clone)]
pub enum RightAnswers {
    /// Those that are part of the project, which hold for some data only.
    Stored,
    /// Those that DuckDB gives when it is asked, for any data.
    Duckdb(Duckdb),
}

/// What is asked of a source.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The benchmark.
    pub benchmark: Benchmark,
    /// The scale of the data.
    pub scale: f64,
    /// The folder of the data, as any process finds it.
    pub data: &'a Path,
    /// The query.
    pub query: &'a Query,
    /// How long it may take.
    pub time_max: Duration,
}

impl RightAnswers {
    /// The stored ones.
    ///
    /// # Errors
    /// When there are none for this benchmark and scale; tells for which there are.
    pub fn stored(benchmark: Benchmark, scale: f64) -> Result<Self, UserError> {
        let first = &queries::all(benchmark)[0];
        Expected::stored(benchmark, scale, first.name).map(|_| Self::Stored).map_err(|fault| UserError {
            message: format!("there are no stored answers of {benchmark} at scale {scale}"),
            ..fault
        })
    }

    /// The stored ones where there are any, and DuckDB's where it is installed; none without both.
    #[must_use]
    pub fn available(benchmark: Benchmark, scale: f64) -> Option<Self> {
        Self::stored(benchmark, scale).or_else(|_| Duckdb::find(None).map(Self::Duckdb)).ok()
    }

    /// The right answer.
    ///
    /// # Errors
    /// When there is none, or it cannot be had.
    pub async fn expected(&self, question: &Question<'_>) -> Result<Expected, UserError> {
        match self {
            Self::Stored => Expected::stored(question.benchmark, question.scale, question.query.name),
            Self::Duckdb(duckdb) => duckdb.answer(question).await,
        }
    }
}

impl fmt::Display for RightAnswers {
    /// As a record says what answers were checked against.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored => f.write_str("stored answers"),
            Self::Duckdb(duckdb) => duckdb.fmt(f),
        }
    }
}
