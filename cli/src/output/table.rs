//! Rows as a table for people, printed page by page so that a result of any size streams.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::{CellAlignment, ColumnConstraint, Table, Width};

use super::format::{ResultWriter, WriteError};

/// Rows whose widths are looked at together; a wider cell on a later page widens its column from there on.
const PAGE_ROWS: usize = 1000;

/// Writes rows as a table. NULL is shown as `NULL`, numbers stand to the right.
pub struct TableWriter {
    out: Box<dyn Write + Send>,
    schema: SchemaRef,
    page: Vec<Vec<String>>,
    widths: Vec<u16>,
    bottom: Option<String>,
}

impl TableWriter {
    /// A table with a column for each field of `schema`.
    pub fn new(schema: &SchemaRef, out: Box<dyn Write + Send>) -> Self {
        Self {
            out,
            schema: SchemaRef::clone(schema),
            page: Vec::new(),
            widths: vec![0; schema.fields().len()],
            bottom: None,
        }
    }

    fn flush_page(&mut self) -> Result<(), WriteError> {
        let table = self.render();
        let lines: Vec<_> = table.lines().collect();
        let Some((bottom, lines)) = lines.split_last() else { return Ok(()) };
        // Every page is drawn with the header, so that its columns have room for it; only the first one shows it.
        let header = if self.bottom.is_some() { 2 + header_height(&self.schema) } else { 0 };
        for line in lines.iter().skip(header) {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        for (width, here) in self.widths.iter_mut().zip(table.column_max_content_widths()) {
            *width = here.max(*width);
        }
        self.bottom = Some(bottom.clone());
        Ok(())
    }

    fn render(&mut self) -> Table {
        let mut table = Table::new();
        table.load_preset(ASCII_FULL_CONDENSED);
        table.set_header(self.schema.fields().iter().map(|field| printable(field.name())));
        table.add_rows(self.page.drain(..));
        for (i, field) in self.schema.fields().iter().enumerate() {
            let Some(column) = table.column_mut(i) else { continue };
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(
                self.widths[i].saturating_add(2),
            )));
            if field.data_type().is_numeric() {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

fn header_height(schema: &SchemaRef) -> usize {
    schema.fields().iter().map(|field| field.name().lines().count()).max().unwrap_or(1).max(1)
}

impl ResultWriter for TableWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let options = FormatOptions::new().with_null("NULL").with_display_error(true);
        let columns: Result<Vec<_>, _> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options)).collect();
        let columns = columns?;
        for row in 0..batch.num_rows() {
            self.page.push(columns.iter().map(|column| printable(&column.value(row).to_string())).collect());
            if self.page.len() == PAGE_ROWS {
                self.flush_page()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), WriteError> {
        if !self.page.is_empty() || self.bottom.is_none() {
            self.flush_page()?;
        }
        if let Some(bottom) = &self.bottom {
            writeln!(self.out, "{bottom}")?;
        }
        Ok(self.out.flush()?)
    }
}

/// The text without what would move a terminal's cursor or change its colours.
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => clean.push(c),
            '\t' => clean.push_str("    "),
            c if c.is_control() => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn printed(batches: &[RecordBatch]) -> String {
        let screen = Screen::default();
        let mut writer = Box::new(TableWriter::new(&batches[0].schema(), Box::new(screen.clone())));
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(screen.0.lock().unwrap().clone()).unwrap()
    }

    fn batch(ids: Vec<Option<i64>>, names: Vec<Option<&str>>) -> RecordBatch {
        let id: ArrayRef = Arc::new(Int64Array::from(ids));
        let name: ArrayRef = Arc::new(StringArray::from(names));
        RecordBatch::try_from_iter_with_nullable([("id", id, true), ("name", name, true)]).unwrap()
    }

    #[test]
    fn nulls_are_shown_and_numbers_stand_to_the_right() {
        let batch = batch(vec![Some(1), None, Some(1000)], vec![Some("a\u{1b}[0m"), Some("b"), None]);
        let expected = "\
+------+------------+
|   id | name       |
+===================+
|    1 | a\\u{1b}[0m |
| NULL | b          |
| 1000 | NULL       |
+------+------------+
";
        assert_eq!(printed(&[batch]), expected);
    }

    #[test]
    fn a_result_without_rows_has_its_header() {
        let empty = batch(vec![], vec![]);
        assert_eq!(printed(&[empty]), "+----+------+\n| id | name |\n+===========+\n+----+------+\n");
    }

    #[test]
    fn later_pages_go_on_with_the_widths_of_the_first() {
        let rows = PAGE_ROWS + 1;
        let names = vec![Some("x"); rows];
        let text = printed(&[batch((5000..5000 + rows as i64).map(Some).collect(), names)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), rows + 4);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert_eq!(lines[rows + 2], "| 6000 | x    |");
    }
}
