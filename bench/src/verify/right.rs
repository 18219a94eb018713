//! Where right answers come from.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use firesteel_base::UserError;

use super::duckdb::Duckdb;
use super::stored::Expected;
use crate::Benchmark;
use crate::generate::{Format, Recipe};
use crate::queries;

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
    /// The name of the query.
    pub name: &'a str,
    /// Its text.
    pub sql: &'a str,
    /// How long it may take.
    pub time_max: Duration,
}

impl RightAnswers {
    /// The stored ones.
    ///
    /// # Errors
    /// When there are none for such data; tells for which there are.
    pub fn stored(recipe: &Recipe) -> Result<Self, UserError> {
        let (benchmark, scale) = (recipe.benchmark, recipe.scale);
        if let Some(skew) = &recipe.skew {
            let message = format!("the stored answers do not hold for data that is skewed ({skew})");
            return Err(UserError::new(message).hint("generate the data without --skew"));
        }
        let first = &queries::all(benchmark)[0];
        Expected::stored(benchmark, scale, first.name).map(|_| Self::Stored).map_err(|fault| UserError {
            message: format!("there are no stored answers of {benchmark} at scale {scale}"),
            ..fault
        })
    }

    /// Those of the DuckDB that `asked` is, or of the one that is found.
    ///
    /// # Errors
    /// When there is none, or it is not given such files.
    pub fn duckdb(recipe: &Recipe, asked: Option<&Path>) -> Result<Self, UserError> {
        if recipe.format != Format::Parquet {
            let message = format!("DuckDB is asked over Parquet files, and these are {}", recipe.format);
            return Err(UserError::new(message).hint("generate the data without --format"));
        }
        Duckdb::find(asked).map(Self::Duckdb)
    }

    /// The stored ones where there are any, and DuckDB's where it is installed; none without both.
    #[must_use]
    pub fn available(recipe: &Recipe) -> Option<Self> {
        Self::stored(recipe).or_else(|_| Self::duckdb(recipe, None)).ok()
    }

    /// The right answer.
    ///
    /// # Errors
    /// When there is none, or it cannot be had.
    pub async fn expected(&self, question: &Question<'_>) -> Result<Expected, UserError> {
        match self {
            Self::Stored => Expected::stored(question.benchmark, question.scale, question.name),
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
