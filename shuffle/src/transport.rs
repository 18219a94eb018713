//! How blocks go from one executor to another: which ways there are, and what a fetch asks of each.

mod host;
mod path;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) use host::{HOST_BYTES, Host, NAME_BYTES, SocketName, huge_pages};
pub(crate) use path::{
    Arriving, Asked, Form, FrameMemory, Limits, Path, Received, StepError, Transfer, Way, within,
};

/// The ways between executors that one end allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Shared memory where both ends are on one host and can, else TCP.
    #[default]
    Auto,
    /// TCP alone.
    Tcp,
    /// Shared memory, or a failure: of the fetch; of the server's start when this host cannot.
    Shared,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Tcp, Self::Shared];

    /// The name as in configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcp => "tcp",
            Self::Shared => "shared",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no transport: there are 'auto', 'tcp' and 'shared'")]
pub struct ParseTransportError {
    text: String,
}

impl FromStr for Transport {
    type Err = ParseTransportError;

    fn from_str(text: &str) -> Result<Self, ParseTransportError> {
        let named = |transport: &Self| transport.name() == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| ParseTransportError { text: text.to_owned() })
    }
}
