//! `galaxy.yml`, which says what an Ansible collection is: names with a text each, or with a list of texts.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What it says, by name. Of YAML it may have what such files need: `name: text`, `name: [a, b]`, `name: {}`, and lists and maps
/// of texts in lines of their own. Anything else is an error that names its line.
pub fn read(text: &str) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::<String, Value>::new();
    let mut open: Option<String> = None;
    for (at, line) in text.lines().enumerate() {
        let content = without_comment(line);
        if content.trim().is_empty() || content == "---" {
            continue;
        }
        let put = take(content, &mut found, &mut open);
        put.with_context(|| format!("galaxy.yml line {}: '{}'", at + 1, line.trim()))?;
    }
    Ok(found)
}

fn take(line: &str, found: &mut BTreeMap<String, Value>, open: &mut Option<String>) -> Result<()> {
    let trimmed = line.trim();
    if let Some(item) = trimmed.strip_prefix("- ") {
        return add_item(item, found, open.as_ref());
    }
    let (name, value) = trimmed.split_once(':').context("neither `name: value` nor `- item`")?;
    let value = value.trim();
    if line.starts_with(' ') {
        return add_pair(name, value, found, open.as_ref());
    }
    *open = value.is_empty().then(|| name.to_owned());
    let before = found.insert(name.to_owned(), if value.is_empty() { Value::Null } else { inline(value)? });
    ensure!(before.is_none(), "{name} is there twice");
    Ok(())
}

fn add_item(item: &str, found: &mut BTreeMap<String, Value>, open: Option<&String>) -> Result<()> {
    let list = opened(found, open)?;
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    let item = scalar(item.trim())?;
    list.as_array_mut().context("an item of what is no list")?.push(item);
    Ok(())
}

fn add_pair(
    name: &str,
    value: &str,
    found: &mut BTreeMap<String, Value>,
    open: Option<&String>,
) -> Result<()> {
    let map = opened(found, open)?;
    if map.is_null() {
        *map = Value::Object(serde_json::Map::new());
    }
    let value = scalar(value)?;
    map.as_object_mut().context("a pair in what is no map")?.insert(unquoted(name)?, value);
    Ok(())
}

fn opened<'a>(found: &'a mut BTreeMap<String, Value>, open: Option<&String>) -> Result<&'a mut Value> {
    open.and_then(|name| found.get_mut(name)).context("it belongs to no name")
}

fn inline(value: &str) -> Result<Value> {
    if value == "{}" {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    match value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(items) if items.trim().is_empty() => Ok(Value::Array(Vec::new())),
        Some(items) => {
            Ok(Value::Array(items.split(',').map(|item| scalar(item.trim())).collect::<Result<_>>()?))
        }
        None => scalar(value),
    }
}

/// A text; `null` is none.
fn scalar(value: &str) -> Result<Value> {
    if ["null", "~"].contains(&value) {
        return Ok(Value::Null);
    }
    Ok(Value::String(unquoted(value)?))
}

fn unquoted(value: &str) -> Result<String> {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            let inner = inner.strip_suffix(quote).context("a quote is not closed")?;
            ensure!(!inner.contains([quote, '\\']), "quotes and backslashes in a text are not read here");
            return Ok(inner.to_owned());
        }
    }
    if value.starts_with(['|', '>', '[', '{', '&', '*', '!']) {
        bail!("only texts on one line, lists and maps of these are read here");
    }
    Ok(value.to_owned())
}

/// A `#` begins a comment where a line or a blank comes before it.
fn without_comment(line: &str) -> &str {
    let ends = line.match_indices('#').find(|(at, _)| *at == 0 || line[..*at].ends_with([' ', '\t']));
    ends.map_or(line, |(at, _)| &line[..at]).trim_end()
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
        for text in [
            "name: a\ndescription: >-\n  text",
            "a: b\n- c",
            "nonsense",
            "a: 'b",
            "a: b\na: c",
            "a:\n  - b\n  c: d",
        ] {
            let fault = format!("{:#}", read(text).unwrap_err());
            assert!(fault.contains("galaxy.yml line"), "{text}: {fault}");
        }
    }
}
