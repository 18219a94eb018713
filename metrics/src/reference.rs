//! The table of metrics as a page of the documentation.

use std::fmt::Write;

use crate::table::{METRICS, Role};

/// The tables of all metrics, by who tells them.
#[must_use]
pub fn reference_table() -> String {
    let mut page = String::new();
    let parts = [
        (Role::Both, "Managers and workers"),
        (Role::Manager, "Every manager"),
        (Role::Leader, "The manager that leads, or is alone"),
        (Role::Worker, "Workers"),
    ];
    for (role, title) in parts {
        let _ = writeln!(
            page,
            "### {title}\n\n| metric | type | labels | what it says |\n| --- | --- | --- | --- |"
        );
        for metric in METRICS.iter().filter(|metric| metric.role == role) {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, labels) = (metric.name, metric.kind.as_str(), labels.join(", "));
            let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {} |", metric.help);
        }
        page.push('\n');
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page has between its marks what the table says.
    #[test]
    fn the_page_in_docs_is_up_to_date() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, rest) =
            page.split_once("<!-- metrics -->\n\n").expect("the page has a mark where the tables begin");
        let (written, _) = rest.split_once("<!-- end of metrics -->").expect("and one where they end");
        let made = reference_table();
        let file = std::env::temp_dir().join("firesteel-metrics-tables.md");
        if written != made {
            std::fs::write(&file, &made).unwrap();
        }
        assert_eq!(written, made, "put {} between the marks of docs/metrics.md", file.display());
    }
}
