//! The table of the waits that have no clock: who ends each at the latest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::{CRATES, Wait};

/// A row: one or several waits of one function.
#[derive(Debug)]
pub struct Row {
    /// The file below the project's root.
    pub file: String,
    /// The function, with its type.
    pub function: String,
    /// What is waited for.
    pub waits: BTreeSet<String>,
    /// What ends it, and who owns that.
    pub end: String,
    line: usize,
}

/// All rows of a page.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Row>,
    faults: Vec<String>,
}

type Key<'a> = (&'a str, &'a str, &'a str);

impl Table {
    /// Reads the rows of `text`: those of four columns whose first is the name of a source file.
    pub fn read(text: &str) -> Self {
        let (mut rows, mut faults) = (Vec::new(), Vec::new());
        for (at, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let is_head = cells[0] == "file" || cells[0].starts_with("---");
            match Row::read(at + 1, &cells) {
                _ if is_head => {}
                Some(row) => rows.push(row),
                None => faults.push(format!(
                    "line {}: a row has four columns: | `file.rs` | `function` | `wait`, `wait` | what ends it |",
                    at + 1
                )),
            }
        }
        Self { rows, faults }
    }

    /// What is wrong with the table for a project that has `waits`, and what to do about it; empty when nothing is.
    pub fn check(&self, waits: &[Wait]) -> String {
        let mut told = String::new();
        self.tell_faults(&mut told);
        self.tell_missing(waits, &mut told);
        self.tell_gone(waits, &mut told);
        told
    }

    fn tell_faults(&self, told: &mut String) {
        for fault in &self.faults {
            let _ = writeln!(told, "docs/waits.md, {fault}");
        }
        for row in self.rows.iter().filter(|row| !row.has_reason()) {
            let (line, file, function) = (row.line, &row.file, &row.function);
            let _ = writeln!(
                told,
                "docs/waits.md, line {line}: say in a few words what ends the wait of {file}, {function}, and who owns that"
            );
        }
        for pair in self.rows.windows(2).filter(|pair| pair[0].place() > pair[1].place()) {
            let (line, file) = (pair[1].line, &pair[1].file);
            let _ = writeln!(
                told,
                "docs/waits.md, line {line}: rows go by crate and file: {file} belongs further up"
            );
        }
    }

    fn tell_missing(&self, waits: &[Wait], told: &mut String) {
        let known: BTreeSet<Key<'_>> = self.rows.iter().flat_map(Row::keys).collect();
        let missing: Vec<_> = waits.iter().filter(|wait| !known.contains(&wait.key())).collect();
        if missing.is_empty() {
            return;
        }
        let _ = writeln!(
            told,
            "\n{} waits have neither a deadline where they are nor a row in docs/waits.md. Put a timeout around what nobody else \
             ends; for the rest, paste these rows among those of their crate and say what ends the wait at the latest:\n",
            missing.len()
        );
        told.push_str(&rows_for(&missing));
        told.push('\n');
        for wait in missing {
            let _ =
                writeln!(told, "  {}:{}: {} waits for {}", wait.file, wait.line, wait.function, wait.what);
        }
    }

    fn tell_gone(&self, waits: &[Wait], told: &mut String) {
        let found: BTreeSet<Key<'_>> = waits.iter().map(Wait::key).collect();
        for row in &self.rows {
            let gone: Vec<_> = row.keys().filter(|key| !found.contains(key)).map(|(.., what)| what).collect();
            if !gone.is_empty() {
                let (line, file, function, gone) = (row.line, &row.file, &row.function, gone.join("`, `"));
                let _ = writeln!(
                    told,
                    "docs/waits.md, line {line}: {file}, {function} does not wait for `{gone}` any more: take that out of the row"
                );
            }
        }
    }
}

/// Rows with nothing in their last column, one for each function.
fn rows_for(waits: &[&Wait]) -> String {
    let mut functions: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for wait in waits {
        let waited = functions.entry((place(&wait.file), &wait.file, &wait.function)).or_default();
        if !waited.contains(&wait.what.as_str()) {
            waited.push(&wait.what);
        }
    }
    let mut rows = String::new();
    for ((_, file, function), waited) in functions {
        let _ = writeln!(rows, "| `{file}` | `{function}` | `{}` | |", waited.join("`, `"));
    }
    rows
}

/// Where in the table the rows of a file are.
fn place(file: &str) -> usize {
    let name = file.split('/').next().unwrap_or_default();
    CRATES.iter().position(|known| *known == name).unwrap_or(CRATES.len())
}

impl Row {
    fn read(line: usize, cells: &[&str]) -> Option<Self> {
        let [file, function, waits, end] = cells else { return None };
        let waits: BTreeSet<_> = quoted(waits).map(str::to_owned).collect();
        let (file, function) = (quoted(file).next()?.to_owned(), quoted(function).next()?.to_owned());
        (!waits.is_empty()).then(|| Self { file, function, waits, end: (*end).to_owned(), line })
    }

    fn place(&self) -> (usize, &str) {
        (place(&self.file), &self.file)
    }

    /// A word is no reason.
    fn has_reason(&self) -> bool {
        self.end.split_whitespace().count() > 1
    }

    fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        self.waits.iter().map(|what| (self.file.as_str(), self.function.as_str(), what.as_str()))
    }
}

impl Wait {
    fn key(&self) -> Key<'_> {
        (&self.file, &self.function, &self.what)
    }
}

/// What is between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(what: &str) -> Wait {
        Wait { file: "hw/src/a.rs".into(), function: "A::f".into(), what: what.into(), line: 7 }
    }

    const ROW: &str = "| file | function | waits for | end |\n| --- | --- | --- | --- |\n\
                       | `hw/src/a.rs` | `A::f` | `x.recv`, `y.recv` | the sender is dropped by B |\n";

    #[test]
    fn one_row_stands_for_several_waits_of_a_function() {
        assert_eq!(Table::read(ROW).check(&[wait("x.recv"), wait("y.recv"), wait("y.recv")]), "");
    }

    #[test]
    fn a_wait_without_a_row_is_told_with_the_row_to_write() {
        let told = Table::read(ROW).check(&[wait("x.recv"), wait("y.recv"), wait("z.recv")]);
        assert!(told.contains("\n| `hw/src/a.rs` | `A::f` | `z.recv` | |\n"), "{told}");
        assert!(told.contains("hw/src/a.rs:7: A::f waits for z.recv"), "{told}");
        assert!(!told.contains("x.recv"), "{told}");
    }

    #[test]
    fn a_row_whose_wait_is_gone_is_told() {
        let told = Table::read(ROW).check(&[wait("x.recv")]);
        assert_eq!(
            told,
            "docs/waits.md, line 3: hw/src/a.rs, A::f does not wait for `y.recv` any more: take that out of the row\n"
        );
    }

    #[test]
    fn a_row_without_a_reason_is_told() {
        let told = Table::read("| `hw/src/a.rs` | `A::f` | `x.recv` | |\n").check(&[wait("x.recv")]);
        assert!(
            told.contains("line 1: say in a few words what ends the wait of hw/src/a.rs, A::f"),
            "{told}"
        );
    }

    #[test]
    fn a_row_at_a_wrong_place_or_of_a_wrong_form_is_told() {
        let row = |file: &str| format!("| `{file}` | `f` | `x.recv` | its sender goes |\n");
        let text =
            row("hw/src/b.rs") + &row("hw/src/a.rs") + &row("base/src/a.rs") + "| `hw/src/a.rs` | `f` |\n";
        let told = Table::read(&text).check(&[]);
        assert!(told.contains("line 2: rows go by crate and file: hw/src/a.rs belongs further up"), "{told}");
        assert!(told.contains("line 3: rows go by crate and file: base/src/a.rs"), "{told}");
        assert!(told.contains("line 4: a row has four columns"), "{told}");
    }
}
