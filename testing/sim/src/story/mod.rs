//! The story of a run: when, who, what.

use std::fmt;

use firesteel_base::Timestamp;

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What.
    pub what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.to_string();
        write!(f, "{at:>10}  {:<17} {}", self.who, self.what)
    }
}

/// What has happened.
#[derive(Debug)]
pub struct Story {
    is_kept: bool,
    lines: Vec<Line>,
}

impl Story {
    /// One that is kept, or one that is told to nobody.
    #[must_use]
    pub fn new(is_kept: bool) -> Self {
        Self { is_kept, lines: Vec::new() }
    }

    /// Whether it is kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Adds a line.
    pub fn note(&mut self, at: Timestamp, who: String, what: String) {
        self.lines.push(Line { at, who, what });
    }

    /// All of it.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}
