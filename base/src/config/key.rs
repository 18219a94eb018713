//! What a key is, and a section of them.

use super::kind::Kind;
use super::table::KEYS;

/// A group of keys: a `[table]` of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub help: &'static str,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Section and name: `worker.cores`.
    pub name: &'static str,
    /// The default, as it would be written.
    pub default: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it does, for an operator.
    pub help: &'static str,
}

impl Key {
    /// The key of that dotted name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The section that it belongs to.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("FIRESTEEL_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}
