//! What can be wrong with a configuration.

use std::fmt;

use super::layer::Source;
use crate::UserError;

/// One thing that is wrong: what, with which value, from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, or what was written in its place.
    pub key: String,
    /// The value as it was written; empty when the key itself is the fault.
    pub value: String,
    /// What is wrong, and what would be right.
    pub reason: String,
    /// Where it was written.
    pub source: Source,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if !self.value.is_empty() {
                write!(f, " = '{}'", self.value)?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{} ({})", self.reason, self.source)
    }
}

/// Everything that is wrong with a configuration, found in one go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", UserError::from(self.clone()))]
pub struct ConfigError {
    /// The faults, by source and then by place.
    pub faults: Vec<Fault>,
}

impl From<ConfigError> for UserError {
    fn from(error: ConfigError) -> Self {
        let count = error.faults.len();
        let message = if count == 1 {
            "the configuration has a fault".to_owned()
        } else {
            format!("the configuration has {count} faults")
        };
        let lines: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
        Self::new(message)
            .detail(lines.join("\n          "))
            .hint("docs/configuration.md lists every key, its default and its range")
    }
}
