//! Tables in plain text.

use std::fmt;

/// Rows of cells that line up: the first and the last column to the left, all between to the right.
#[derive(Debug, Default)]
pub(super) struct TextTable<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> TextTable<N> {
    /// A table with these heads of columns.
    pub fn new(heads: [&str; N]) -> Self {
        Self { rows: vec![heads.map(str::to_owned)] }
    }

    /// One more row.
    pub fn add(&mut self, row: [String; N]) {
        self.rows.push(row);
    }
}

impl<const N: usize> fmt::Display for TextTable<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line_up(f, &self.rows)
    }
}

/// Writes rows of equally many cells as [`TextTable`] does, where only the run tells how many there are.
pub(crate) fn line_up<R: AsRef<[String]>>(f: &mut fmt::Formatter<'_>, rows: &[R]) -> fmt::Result {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        for (column, (cell, &width)) in row.as_ref().iter().zip(&widths).enumerate() {
            match column {
                0 => write!(f, "{cell:<width$}")?,
                // Nothing is padded at the end of a line.
                _ if column == columns - 1 && cell.is_empty() => {}
                _ if column == columns - 1 => write!(f, "  {cell}")?,
                _ => write!(f, "  {cell:>width$}")?,
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_line_up() {
        let mut table = TextTable::new(["query", "s", "verdict"]);
        table.add(["q1".to_owned(), "10.5".to_owned(), "same".to_owned()]);
        table.add(["q2".to_owned(), "9".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "query     s  verdict\nq1     10.5  same\nq2        9\n");
    }
}
