//! A right answer, as its file holds it.

use std::path::Path;

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

    /// Reads a file of `testing/oracle`.
    ///
    /// # Errors
    /// When there is none, or it is no CSV.
    pub fn of(folder: &str, query: &str) -> anyhow::Result<Self> {
        let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle");
        Self::from_csv(&std::fs::read_to_string(oracle.join(folder).join(format!("{query}.csv")))?)
    }

    pub(super) fn column(&self, name: &str) -> usize {
        let found = self.columns.iter().position(|column| column == name);
        found.unwrap_or_else(|| panic!("the answer has no column {name}, only {:?}", self.columns))
    }
}
