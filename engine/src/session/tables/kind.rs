//! Kinds of files, and how they are told from names.

use firesteel_base::UserError;

use crate::session::names::{did_you_mean, nearest};

/// What `STORED AS` may name.
pub(super) const TYPE_NAMES: &[&str] = &["PARQUET", "CSV", "JSON", "JSONL", "NDJSON", "ARROW", "AVRO"];

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Parquet,
    Csv,
    Json,
    Arrow,
    Avro,
}

/// What a compressed file's name ends in, and what the option `format.compression` calls it.
const COMPRESSIONS: [(&str, &str); 4] = [(".gz", "gzip"), (".bz2", "bzip2"), (".xz", "xz"), (".zst", "zstd")];

/// The end of a file's name, as far as it tells the kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Suffix {
    /// As it stands in names: `.csv.gz`.
    pub text: String,
    /// What the option `format.compression` calls the compression.
    pub compression: Option<&'static str>,
}

impl FileKind {
    const ALL: [Self; 5] = [Self::Parquet, Self::Csv, Self::Json, Self::Arrow, Self::Avro];

    /// The kind that `STORED AS` names.
    pub fn of_type(name: &str) -> Result<Self, UserError> {
        match name.to_uppercase().as_str() {
            "PARQUET" => Ok(Self::Parquet),
            "CSV" => Ok(Self::Csv),
            "JSON" | "JSONL" | "NDJSON" => Ok(Self::Json),
            "ARROW" => Ok(Self::Arrow),
            "AVRO" => Ok(Self::Avro),
            other => {
                let error = UserError::new(format!("there is no file format {other}"));
                Err(match nearest(other, TYPE_NAMES.iter().copied()) {
                    Some(name) => error.hint(did_you_mean(name)),
                    None => error.hint(format!("the formats are {}", TYPE_NAMES.join(", "))),
                })
            }
        }
    }

    /// The kind and suffix of a file of that name.
    pub fn of_name(name: &str) -> Option<(Self, Suffix)> {
        Self::ALL.into_iter().find_map(|kind| Some((kind, kind.suffix_of(name)?)))
    }

    /// What DataFusion calls it, in upper case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "PARQUET",
            Self::Csv => "CSV",
            Self::Json => "JSON",
            Self::Arrow => "ARROW",
            Self::Avro => "AVRO",
        }
    }

    /// What names of such files end in, the usual one first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Parquet => &[".parquet"],
            Self::Csv => &[".csv"],
            Self::Json => &[".json", ".jsonl", ".ndjson"],
            Self::Arrow => &[".arrow"],
            Self::Avro => &[".avro"],
        }
    }

    fn compressible(self) -> bool {
        matches!(self, Self::Csv | Self::Json)
    }

    /// The suffix of a file of that name, when it is one of this kind.
    pub fn suffix_of(self, name: &str) -> Option<Suffix> {
        let packed = COMPRESSIONS.iter().find(|(end, _)| self.compressible() && name.ends_with(end));
        let (end, compression) = packed.map_or(("", None), |(end, name)| (*end, Some(*name)));
        let stem = &name[..name.len() - end.len()];
        let extension = self.extensions().iter().find(|extension| stem.ends_with(**extension))?;
        Some(Suffix { text: format!("{extension}{end}"), compression })
    }

    /// The kind of a file that begins with these bytes, for those that tell.
    pub fn of_magic(head: &[u8]) -> Option<Self> {
        match head {
            [b'P', b'A', b'R', b'1' | b'E', ..] => Some(Self::Parquet),
            [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Some(Self::Arrow),
            [b'O', b'b', b'j', 1, ..] => Some(Self::Avro),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kind_and_compression() {
        let of = |name| FileKind::of_name(name).map(|(kind, suffix)| (kind, suffix.text, suffix.compression));
        assert_eq!(of("a.parquet"), Some((FileKind::Parquet, ".parquet".to_owned(), None)));
        assert_eq!(of("a.b.csv.gz"), Some((FileKind::Csv, ".csv.gz".to_owned(), Some("gzip"))));
        assert_eq!(of("a.jsonl"), Some((FileKind::Json, ".jsonl".to_owned(), None)));
        assert_eq!(of("a.parquet.gz"), None);
        assert_eq!(of("a.txt"), None);
    }
}
