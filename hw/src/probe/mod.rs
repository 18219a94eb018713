//! What this machine can and cannot do for Firesteel, and what to change: the findings of `firesteel doctor`.
//!
//! Reading a number and judging it are apart: `judge` functions are pure, take what was read as text or numbers, and
//! are tested on samples.

mod disk;
mod limits;
mod memory;
mod processor;
mod rings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::topology::Topology;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it belongs to, such as `memory`; findings of one area come one after another.
    pub area: &'static str,
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What was found, in words.
    pub found: String,
    /// What to change; always there unless the state is [`State::Ok`].
    pub advice: Option<String>,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be, or as good as another way.
    Ok,
    /// It works, but costs speed or safety.
    Warn,
    /// It is not there; what needs it is done in another way, or not at all.
    Missing,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
        })
    }
}

impl Finding {
    fn ok(area: &'static str, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { area, name: name.into(), state: State::Ok, found: found.into(), advice: None }
    }

    fn warn(area: &'static str, name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Warn, advice: Some(advice.into()), ..Self::ok(area, name, found) }
    }

    fn missing(area: &'static str, name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Missing, ..Self::warn(area, name, found, advice) }
    }
}

/// Looks at everything but disks. It builds a few rings and changes nothing.
#[must_use]
pub fn examine(topology: &Topology) -> Vec<Finding> {
    let mut findings = processor::examine();
    findings.extend(memory::examine(topology));
    findings.extend(rings::examine());
    findings.extend(limits::examine(topology));
    findings
}

/// Looks at a folder for scratch files: whether files there can be written and read past the page cache, and how much
/// room there is. It writes one small file and removes it.
#[must_use]
pub fn examine_scratch(folder: &Path) -> Vec<Finding> {
    disk::examine(folder)
}

/// A small file of /proc or /sys without the newline at its end; none where this kernel has none.
fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
