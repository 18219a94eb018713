//! `galaxy.yml`, which says what an Ansible collection is.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde_json::Value;

/// What it says, by name. An error names its line.
pub fn read(text: &str) -> Result<BTreeMap<String, Value>> {
    serde_saphyr::from_str(text).map_err(|fault| {
        let line = fault.location().map(|at| format!(" line {}", at.line())).unwrap_or_default();
        anyhow!("galaxy.yml{line}: {fault}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_have_a_text_a_list_or_a_map() {
        let text = "---\n# a comment\nnamespace: firesteel\nversion: 0.1.0 # as built\nauthors:\n  - One <a@b>\n  - 'Two'\n\
                    tags: [sql, \"cluster\"]\ndependencies: {}\nbuild_ignore:\n- '*.tmp'\nissues: null\nmap:\n  a: b\n";
        let found = read(text).unwrap();
        let expected = json!({
            "namespace": "firesteel", "version": "0.1.0", "authors": ["One <a@b>", "Two"], "tags": ["sql", "cluster"],
            "dependencies": {}, "build_ignore": ["*.tmp"], "issues": null, "map": {"a": "b"},
        });
        assert_eq!(serde_json::to_value(found).unwrap(), expected);
    }

    #[test]
    fn what_is_not_read_is_named_by_its_line() {
        for text in ["a: b\n- c", "nonsense", "a: 'b", "a: b\na: c", "a:\n  - b\n  c: d"] {
            let fault = format!("{:#}", read(text).unwrap_err());
            assert!(fault.contains("galaxy.yml line"), "{text}: {fault}");
        }
    }
}
