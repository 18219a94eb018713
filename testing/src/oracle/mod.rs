//! Answers held against right ones. `testing/oracle/README.md` says by which rules.

mod answer;
mod cell;
mod expected;
pub mod tpch;

use std::fmt;

pub use answer::Answer;
pub use expected::Expected;

use cell::{Kind, cells_agree};

/// How the rows of a query are to be held against the right ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules<'a> {
    /// The columns of ORDER BY; rows that agree in all of them may come in any order.
    pub order_by: &'a [&'a str],
    /// The LIMIT, where there is one.
    pub limit: Option<usize>,
    /// Columns that hold averages or quotients, which engines compute to different precisions.
    pub approximate: &'a [&'a str],
}

/// How an answer differs from the right one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

/// Holds `answer` against `expected`.
///
/// # Errors
/// The first difference.
///
/// # Panics
/// When the rules name a column that the right answer has not.
pub fn compare(expected: &Expected, answer: &Answer, rules: &Rules<'_>) -> Result<(), Mismatch> {
    if answer.kinds.len() != expected.columns.len() {
        return Err(Mismatch(format!("{} columns, not {}", answer.kinds.len(), expected.columns.len())));
    }
    if answer.rows.len() != expected.rows.len() {
        return Err(Mismatch(format!("{} rows, not {}", answer.rows.len(), expected.rows.len())));
    }
    let comparison = Comparison::new(expected, answer, rules);
    comparison.order_agrees()?;
    comparison.ties_agree()
}

struct Comparison<'a> {
    expected: &'a Expected,
    answer: &'a Answer,
    order_by: Vec<usize>,
    approximate: Vec<bool>,
    limit: Option<usize>,
}

impl<'a> Comparison<'a> {
    fn new(expected: &'a Expected, answer: &'a Answer, rules: &Rules<'_>) -> Self {
        let order_by = rules.order_by.iter().map(|name| expected.column(name)).collect();
        let mut approximate = vec![false; expected.columns.len()];
        for name in rules.approximate {
            approximate[expected.column(name)] = true;
        }
        Self { expected, answer, order_by, approximate, limit: rules.limit }
    }

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
        cells_agree(right, found, kind, self.approximate[column])
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
