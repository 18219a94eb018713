//! Answers held against right ones. `bench/answers/README.md` says by which rules.

mod answer;
mod cell;
mod duckdb;
mod right;
mod rules;
mod stored;

use std::fmt;

pub use answer::{Answer, write_csv};
pub use duckdb::Duckdb;
pub use right::{Question, RightAnswers};
pub use rules::Rules;
pub use stored::Expected;

use cell::{Kind, cells_agree};

/// How an answer differs from the right one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

/// Holds `answer` against `expected`.
///
/// # Errors
/// The first difference.
pub fn compare(expected: &Expected, answer: &Answer, rules: &Rules) -> Result<(), Mismatch> {
    if answer.kinds.len() != expected.columns.len() {
        return Err(Mismatch(format!("{} columns, not {}", answer.kinds.len(), expected.columns.len())));
    }
    if answer.rows.len() != expected.rows.len() {
        return Err(Mismatch(format!("{} rows, not {}", answer.rows.len(), expected.rows.len())));
    }
    let order_by = rules.columns_of(&expected.columns);
    let comparison = Comparison { expected, answer, order_by, limit: rules.limit };
    comparison.order_agrees()?;
    comparison.ties_agree()
}

struct Comparison<'a> {
    expected: &'a Expected,
    answer: &'a Answer,
    order_by: Vec<usize>,
    limit: Option<usize>,
}

impl Comparison<'_> {
    /// The ordered columns agree row by row.
    fn order_agrees(&self) -> Result<(), Mismatch> {
        for row in 0..self.expected.rows.len() {
            if let Some(&column) = self.order_by.iter().find(|&&column| !self.cell_agrees(row, row, column)) {
                return Err(Mismatch(format!(
                    "row {}, {}, by which rows are ordered: {} instead of {}",
                    row + 1,
                    self.expected.columns[column],
                    Cell(self.answer.rows[row][column].as_deref()),
                    self.expected.rows[row][column]
                )));
            }
        }
        Ok(())
    }

    /// Within each run of rows that tie, the rows are the same, in any order.
    fn ties_agree(&self) -> Result<(), Mismatch> {
        let rows = self.expected.rows.len();
        let mut start = 0;
        while start < rows {
            let end = (start + 1..rows).find(|&row| !self.ties(start, row)).unwrap_or(rows);
            let cut = end == rows && self.limit == Some(rows) && !self.order_by.is_empty();
            // Which of the last rows that tie were kept is not said; how they are ordered was compared already.
            if !cut {
                self.same_rows(start, end)?;
            }
            start = end;
        }
        Ok(())
    }

    fn ties(&self, a: usize, b: usize) -> bool {
        self.order_by.iter().all(|&column| self.expected.rows[a][column] == self.expected.rows[b][column])
    }

    fn same_rows(&self, start: usize, end: usize) -> Result<(), Mismatch> {
        let mut left: Vec<usize> = (start..end).collect();
        for row in start..end {
            let Some(found) = left.iter().position(|&other| self.row_agrees(row, other)) else {
                let nearest = Row(&self.answer.rows[left[0]]);
                return Err(Mismatch(format!(
                    "row {} is not in the answer: {:?}; there is {nearest}",
                    row + 1,
                    self.expected.rows[row]
                )));
            };
            left.remove(found);
        }
        Ok(())
    }

    fn row_agrees(&self, expected: usize, found: usize) -> bool {
        (0..self.expected.columns.len()).all(|column| self.cell_agrees(expected, found, column))
    }

    fn cell_agrees(&self, expected: usize, found: usize, column: usize) -> bool {
        let right = &self.expected.rows[expected][column];
        let found = self.answer.rows[found][column].as_deref();
        let kind: Kind = self.answer.kinds[column];
        cells_agree(right, found, kind)
    }
}

struct Cell<'a>(Option<&'a str>);

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.unwrap_or("NULL"))
    }
}

struct Row<'a>(&'a [Option<String>]);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|cell| cell.as_deref().unwrap_or("NULL"))).finish()
    }
}

#[cfg(test)]
mod tests;
