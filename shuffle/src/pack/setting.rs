//! What whoever runs a cluster may say about packing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Codec, Codecs};

/// Whether frames are packed on a path, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// By what is measured: where the path is so slow that packing makes it faster.
    #[default]
    Auto,
    /// Never.
    None,
    /// LZ4, whatever the path carries.
    Lz4,
    /// zstd, whatever the path carries.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::None, Self::Lz4, Self::Zstd];

    /// The name as in configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// What one end of a link lets the other use.
    pub(crate) fn accepted(self) -> Codecs {
        match self {
            Self::Auto => Codecs::ALL,
            Self::None => Codecs::NONE,
            Self::Lz4 => Codecs { lz4: true, zstd: false },
            Self::Zstd => Codecs { lz4: false, zstd: true },
        }
    }

    /// The codec that is asked for by name.
    pub(super) fn forced(self) -> Option<Codec> {
        match self {
            Self::Auto | Self::None => None,
            Self::Lz4 => Some(Codec::Lz4),
            Self::Zstd => Some(Codec::Zstd),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no compression: there are 'auto', 'none', 'lz4' and 'zstd'")]
pub struct ParseCompressionError {
    text: String,
}

impl FromStr for Compression {
    type Err = ParseCompressionError;

    fn from_str(text: &str) -> Result<Self, ParseCompressionError> {
        let named = |setting: &Self| setting.name() == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| ParseCompressionError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_as_printed() {
        for setting in Compression::ALL {
            assert_eq!(setting.to_string().parse(), Ok(setting));
            assert_eq!(serde_json::to_string(&setting).unwrap(), format!("\"{setting}\""));
        }
        let fault = "gzip".parse::<Compression>().unwrap_err();
        assert_eq!(fault.to_string(), "'gzip' is no compression: there are 'auto', 'none', 'lz4' and 'zstd'");
    }
}
