//! Errors that reach a person, and what may be done about any error.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What may be done about an error. The driver decides on this, never on text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// The request itself is wrong (an unknown column, a corrupt file): no retry will help, the job fails.
    User,
    /// Something passing went wrong (a panic, a lost connection): the same task may be tried again, elsewhere.
    Transient,
    /// A committed block could not be read: the map attempt that made it must be run again.
    Fetch,
    /// Memory or disk ran out: elsewhere, or later, there may be enough.
    Resources,
    /// It was cancelled on request.
    Cancelled,
}

/// A failure as it is told to a person: what happened, where or why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct UserError {
    /// One sentence that names the thing: `table 'orders' does not exist`.
    pub message: String,
    /// Where it is, or what was found instead.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl UserError {
    /// An error with a message alone.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), detail: None, hint: None }
    }

    /// Adds where it is, or what was found instead.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for UserError {
    /// The message on the first line, then `detail:` and `hint:` lines where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, "\n  detail: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}
