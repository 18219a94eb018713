//! Which loop a core thread runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ParseLoopKindError;
use crate::ring;

/// The loop of a core thread. Both are a current-thread tokio, so what runs in one runs in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoopKind {
    /// A current-thread tokio on epoll.
    Tokio,
    /// The same with an io_uring in it, for files and sockets that want one.
    TokioUring,
}

/// A loop and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopChoice {
    /// The loop.
    pub kind: LoopKind,
    /// Why this one, in words.
    pub reason: String,
}

impl LoopKind {
    /// The best loop that this machine can run. It asks the kernel for a ring, so call it once, at start.
    #[must_use]
    pub fn best() -> LoopChoice {
        match ring::usable() {
            Ok(()) => LoopChoice { kind: Self::TokioUring, reason: "io_uring is available".to_owned() },
            Err(fault) => {
                LoopChoice { kind: Self::Tokio, reason: format!("io_uring is not available: {fault}") }
            }
        }
    }

    /// The name as in configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::TokioUring => "tokio-uring",
        }
    }
}

impl fmt::Display for LoopKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LoopKind {
    type Err = ParseLoopKindError;

    fn from_str(text: &str) -> Result<Self, ParseLoopKindError> {
        let named = |kind: &Self| kind.name() == text;
        let kinds = [Self::Tokio, Self::TokioUring];
        kinds.into_iter().find(named).ok_or_else(|| ParseLoopKindError { text: text.to_owned() })
    }
}
