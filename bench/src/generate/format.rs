//! In which format files are written, and how they are compressed.

use std::fmt;
use std::str::FromStr;

use firesteel_base::UserError;
use serde::{Deserialize, Serialize};

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Parquet.
    #[default]
    Parquet,
    /// Comma-separated text with a header: dates as ISO 8601 has them, nothing for a null.
    Csv,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Parquet, Self::Csv];

    /// How its files may be compressed, the usual way first.
    #[must_use]
    pub const fn compressions(self) -> &'static [Compression] {
        match self {
            Self::Parquet => &[Compression::Snappy, Compression::Zstd, Compression::Lz4, Compression::None],
            Self::Csv => &[Compression::None, Compression::Gzip],
        }
    }

    /// What the names of its files end in, without the dot before it.
    pub(super) const fn extension(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Parquet, _) => "parquet",
            (Self::Csv, Compression::Gzip) => "csv.gz",
            (Self::Csv, _) => "csv",
        }
    }

    /// The compression that was asked for, or else the usual one.
    pub(super) fn compression(self, asked: Option<Compression>) -> Result<Compression, UserError> {
        let Some(compression) = asked else { return Ok(self.compressions()[0]) };
        if self.compressions().contains(&compression) {
            return Ok(compression);
        }
        Err(UserError::new(format!("{self} files are not written with the compression {compression}"))
            .hint(format!("give {}", one_of(self.compressions()))))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        })
    }
}

impl FromStr for Format {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        named(text, &Self::ALL, "format")
    }
}

/// How Parquet pages, or CSV files as a whole, are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Snappy: quick, what most writers of Parquet take.
    Snappy,
    /// Zstandard at its first level: smaller files.
    Zstd,
    /// LZ4: quicker to read.
    Lz4,
    /// Gzip, for CSV.
    Gzip,
    /// Not at all.
    None,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Snappy, Self::Zstd, Self::Lz4, Self::Gzip, Self::None];
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::None => "none",
        })
    }
}

impl FromStr for Compression {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        named(text, &Self::ALL, "compression")
    }
}

/// The one of `all` that prints as `text`, in any case.
fn named<T: Copy + fmt::Display>(text: &str, all: &[T], what: &str) -> Result<T, UserError> {
    all.iter()
        .copied()
        .find(|one| one.to_string().eq_ignore_ascii_case(text))
        .ok_or_else(|| UserError::new(format!("'{text}' is no {what}")).hint(format!("give {}", one_of(all))))
}

/// `a, b or c`.
fn one_of<T: fmt::Display>(all: &[T]) -> String {
    let names: Vec<_> = all.iter().map(T::to_string).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_and_parse() {
        for compression in Compression::ALL {
            assert_eq!(compression.to_string().parse(), Ok(compression));
        }
        for format in Format::ALL {
            assert_eq!(format.to_string().to_uppercase().parse(), Ok(format));
        }
        let error = "brotli".parse::<Compression>().unwrap_err();
        assert_eq!(error.hint.unwrap(), "give snappy, zstd, lz4, gzip or none");
        assert_eq!("orc".parse::<Format>().unwrap_err().hint.unwrap(), "give parquet or csv");
    }

    #[test]
    fn each_format_has_its_compressions() {
        assert_eq!(Format::Parquet.compression(None), Ok(Compression::Snappy));
        assert_eq!(Format::Csv.compression(None), Ok(Compression::None));
        assert_eq!(Format::Csv.compression(Some(Compression::Gzip)), Ok(Compression::Gzip));
        let error = Format::Csv.compression(Some(Compression::Zstd)).unwrap_err();
        assert!(error.message.contains("csv") && error.message.contains("zstd"), "{error}");
        assert_eq!(error.hint.unwrap(), "give none or gzip");
        assert!(Format::Parquet.compression(Some(Compression::Gzip)).is_err());
    }
}
