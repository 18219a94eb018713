//! The raw form: what one place says about some keys.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::Fault;
use super::key::Key;
use super::table::{KEYS, SECTIONS};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: it is the default.
    Default,
    /// In a file, on a line counted from 1.
    File(PathBuf, usize),
    /// In an environment variable.
    Environment(String),
    /// On the command line, as this flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A value given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The key that it sets: `worker.cores`.
    pub key: &'static str,
    /// The flag as it is typed: `--cores`.
    pub flag: &'static str,
    /// The value as it was typed.
    pub value: String,
}

/// Some keys as text, each with its source. What is no key is a fault.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Value and source by the key's dotted name.
    pub values: BTreeMap<&'static str, (String, Source)>,
    /// What could not be taken in.
    pub faults: Vec<Fault>,
}

impl Layer {
    /// The defaults of all keys.
    #[must_use]
    pub fn defaults() -> Self {
        let values = KEYS.iter().map(|key| (key.name, (key.default.to_owned(), Source::Default)));
        Self { values: values.collect(), faults: Vec::new() }
    }

    /// What a TOML text says. `path` names it in faults.
    #[must_use]
    pub fn from_toml(path: &Path, text: &str) -> Self {
        let mut reader = TomlReader { path, text, layer: Self::default() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            reader.fault("", "", error.message().to_owned(), at);
        }
        reader.sections(table.get_ref());
        reader.layer
    }

    /// What the environment says in variables named `FIRESTEEL_<SECTION>_<KEY>`. `FIRESTEEL_MANAGER` is short for
    /// `FIRESTEEL_CLIENT_MANAGER`. Variables of other names are not ours and not looked at.
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut layer = Self::default();
        for (variable, value) in variables {
            if let Some(name) = dotted(&variable) {
                layer.put(&name, value, Source::Environment(variable));
            }
        }
        layer
    }

    /// What the command line says.
    #[must_use]
    pub fn from_flags(flags: &[Flag]) -> Self {
        let mut layer = Self::default();
        for Flag { key, flag, value } in flags {
            layer.put(key, value.clone(), Source::Flag((*flag).to_owned()));
        }
        layer
    }

    fn put(&mut self, name: &str, value: String, source: Source) {
        match Key::named(name) {
            Some(key) => {
                self.values.insert(key.name, (value, source));
            }
            None => self.faults.push(unknown_key(name, source)),
        }
    }
}

/// The key that a variable sets, if it names one of our sections.
fn dotted(variable: &str) -> Option<String> {
    if variable == "FIRESTEEL_MANAGER" {
        return Some("client.manager".to_owned());
    }
    let rest = variable.strip_prefix("FIRESTEEL_")?.to_ascii_lowercase();
    let (section, key) = rest.split_once('_')?;
    SECTIONS.iter().any(|known| known.name == section).then(|| format!("{section}.{key}"))
}

fn unknown_key(name: &str, source: Source) -> Fault {
    let reason = match nearest(name, KEYS.iter().map(|key| key.name)) {
        Some(key) => format!("unknown key; did you mean {key}?"),
        None => "unknown key".to_owned(),
    };
    Fault { key: name.to_owned(), value: String::new(), reason, source }
}

/// How alike (0 to 1) two names must be for one to be taken for a slip of the other.
const ALIKE_MIN: f64 = 0.6;

fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    known
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

struct TomlReader<'a> {
    path: &'a Path,
    text: &'a str,
    layer: Layer,
}

impl TomlReader<'_> {
    fn sections(&mut self, table: &DeTable<'_>) {
        for (name, section) in table {
            let at = name.span().start;
            match section.get_ref() {
                DeValue::Table(keys) if SECTIONS.iter().any(|known| known.name == name.get_ref()) => {
                    self.keys(name.get_ref(), keys);
                }
                _ => {
                    let known = SECTIONS.map(|section| section.name).join(", ");
                    let near = nearest(name.get_ref(), SECTIONS.iter().map(|section| section.name));
                    let mean = near.map(|near| format!("; did you mean [{near}]?")).unwrap_or_default();
                    let reason = format!("not a section (there are {known}){mean}");
                    self.fault(name.get_ref(), "", reason, at);
                }
            }
        }
    }

    fn keys(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = format!("{section}.{}", name.get_ref());
            let at = name.span().start;
            match text_of(value.get_ref()) {
                Some(text) => self.layer.put(&key, text, self.source(at)),
                None => self.fault(
                    &key,
                    "",
                    "must be a text, a number, true, false or a list of texts".to_owned(),
                    at,
                ),
            }
        }
    }

    fn fault(&mut self, key: &str, value: &str, reason: String, at: usize) {
        let source = self.source(at);
        self.layer.faults.push(Fault { key: key.to_owned(), value: value.to_owned(), reason, source });
    }

    fn source(&self, at: usize) -> Source {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        Source::File(self.path.to_owned(), line)
    }
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(on) => Some(on.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}
