//! The file of a record.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use firesteel_base::UserError;
use serde_json::Value;

use super::run::{FORMAT, RunRecord};

impl RunRecord {
    /// Writes the record to `path` in place of what is there.
    ///
    /// The file is whole at any moment: the record goes to a temporary file in the same folder, then to the disk, and only then
    /// takes the place of the one before. So it may be called after every query, and a crash loses no query before it.
    ///
    /// # Errors
    /// When the record holds what no reader accepts, or the file system refuses.
    pub fn save(&self, path: &Path) -> Result<(), UserError> {
        if let Some(fault) = fault(self) {
            return Err(
                UserError::new(format!("the record for {} is not sound", path.display())).detail(fault)
            );
        }
        let temporary = temporary(path)?;
        let text = serde_json::to_string_pretty(self).map_err(|error| {
            UserError::new("a record cannot be written as JSON").detail(error.to_string())
        })?;
        write(&temporary, &text).map_err(|error| refused("write", &temporary, &error))?;
        fs::rename(&temporary, path).map_err(|error| {
            // The error that is told is the one of the rename.
            let _ = fs::remove_file(&temporary);
            refused("replace", path, &error)
        })?;
        sync_folder(path).map_err(|error| refused("write the folder of", path, &error))
    }

    /// Reads the record at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, is no record, or is one of another format.
    pub fn load(path: &Path) -> Result<Self, UserError> {
        let bytes = fs::read(path).map_err(|error| refused("read", path, &error))?;
        check_format(path, &bytes)?;
        let record = serde_json::from_slice(&bytes).map_err(|error| damaged(path, &error.to_string()))?;
        match fault(&record) {
            Some(fault) => Err(damaged(path, &fault)),
            None => Ok(record),
        }
    }
}

/// The number of the format is read first, so that a newer file is told from a damaged one.
fn check_format(path: &Path, bytes: &[u8]) -> Result<(), UserError> {
    let fault = match serde_json::from_slice::<Value>(bytes) {
        Err(error) => error.to_string(),
        Ok(value) => match value.get("format").and_then(Value::as_u64) {
            None => "it has no number of a format".to_owned(),
            Some(format) if format == u64::from(FORMAT) => return Ok(()),
            Some(format) => return Err(other_format(path, format)),
        },
    };
    Err(UserError::new(format!("{} is no benchmark record", path.display()))
        .detail(fault)
        .hint("give a file that `firesteel bench run` wrote"))
}

fn other_format(path: &Path, format: u64) -> UserError {
    UserError::new(format!("{} is a benchmark record of format {format}", path.display()))
        .detail(format!("this release reads format {FORMAT}"))
        .hint("use the release that wrote it, or run the benchmark again")
}

fn damaged(path: &Path, fault: &str) -> UserError {
    UserError::new(format!("{} is no benchmark record of format {FORMAT}", path.display())).detail(fault)
}

/// What JSON or the types let pass, and no median, total or comparison could deal with.
fn fault(record: &RunRecord) -> Option<String> {
    let mut names = BTreeSet::new();
    if let Some(query) = record.queries.iter().find(|query| !names.insert(&query.name)) {
        return Some(format!("query {} is there twice", query.name));
    }
    numbers(record)
        .find(|(_, number)| !number.is_finite() || *number < 0.0)
        .map(|(what, number)| format!("{what}: {number} is not a number from 0 on"))
}

fn numbers(record: &RunRecord) -> impl Iterator<Item = (String, f64)> {
    let named = |name: &str, number: Option<f64>| number.map(|number| (name.to_owned(), number));
    let queries = record.queries.iter().flat_map(|query| {
        query.measures().flat_map(|measures| {
            [Some(measures.seconds), measures.cpu_seconds]
                .into_iter()
                .flatten()
                .map(|number| (format!("seconds of {}", query.name), number))
        })
    });
    let timeline = record
        .timeline
        .iter()
        .flat_map(|sample| [sample.at, sample.cpu_cores])
        .map(|number| ("timeline".to_owned(), number));
    [
        named("scale", Some(record.data.scale)),
        named("timeout_seconds", record.timeout_seconds),
        named("throughput", record.throughput.map(|throughput| throughput.seconds)),
    ]
    .into_iter()
    .flatten()
    .chain(queries)
    .chain(timeline)
}

/// Always the same name, so that what a crash leaves behind is overwritten by the next run.
fn temporary(path: &Path) -> Result<PathBuf, UserError> {
    let Some(name) = path.file_name() else {
        return Err(UserError::new(format!("{} names no file", path.display())));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    Ok(path.with_file_name(hidden))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Makes the rename itself survive a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn refused(verb: &str, path: &Path, error: &io::Error) -> UserError {
    let told = UserError::new(format!("cannot {verb} {}", path.display())).detail(error.to_string());
    match error.kind() {
        ErrorKind::NotFound if verb == "read" => told.hint("give a file that `firesteel bench run` wrote"),
        ErrorKind::NotFound => told.hint("make its folder first"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem if verb != "read" => {
            told.hint("give a folder that you may write to")
        }
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::super::{FailureKind, Outcome, Sample, Throughput, Verdict};
    use super::*;

    fn loaded(text: &str) -> Result<RunRecord, UserError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        fs::write(&path, text).unwrap();
        RunRecord::load(&path).map_err(|error| {
            assert!(error.message.contains("run.json"), "{error}");
            error
        })
    }

    /// The example of the module's documentation.
    fn example() -> String {
        let lines = include_str!("mod.rs").lines().map(|line| line.trim_start_matches("//!"));
        lines
            .skip_while(|line| line.trim() != "```json")
            .skip(1)
            .take_while(|line| line.trim() != "```")
            .collect()
    }

    #[test]
    fn the_documented_example_is_a_record() {
        let record = loaded(&example()).unwrap();
        assert_eq!(record.queries[0].seconds(), [0.83, 0.81]);
        assert_eq!(record.queries[0].measures().next().unwrap().tasks, Some(16));
        assert!(matches!(
            record.queries[1].runs[0].outcome,
            Outcome::Failed { kind: FailureKind::Timeout, .. }
        ));
        assert_eq!(record.queries[2].verdict, Verdict::Wrong("row 3: revenue is 2.5, not 2.6".to_owned()));
    }

    #[test]
    fn what_is_saved_is_loaded_and_nothing_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let mut record = samples::record("firesteel", &[("q1", &[1.25, 1.5]), ("q2", &[0.1])]);
        record.queries[1].runs.push(samples::failed(FailureKind::Error, "out of memory: \"4GiB\"\n"));
        record.queries[1].verdict = Verdict::Wrong("row 1".to_owned());
        record.timeline.push(Sample { at: 0.5, cpu_cores: 7.5, memory_bytes: 1 << 30 });
        record.throughput = Some(Throughput { streams: 2, seconds: 9.0, queries: 4 });
        record.save(&path).unwrap();
        record.queries.pop();
        record.save(&path).unwrap();
        assert_eq!(RunRecord::load(&path).unwrap(), record);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_half_written_temporary_file_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let record = samples::record("firesteel", &[("q1", &[1.25])]);
        record.save(&path).unwrap();
        fs::write(temporary(&path).unwrap(), "{\"format\": 1, \"bench").unwrap();
        assert_eq!(RunRecord::load(&path).unwrap(), record);
        record.save(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_record_is_refused_by_name() {
        for text in ["", "hello", "[1]", "{\"recipe\": {}}", "{\"format\": \"parquet\"}", "\u{0}"] {
            assert!(loaded(text).unwrap_err().message.ends_with("is no benchmark record"), "{text}");
        }
        let newer = loaded("{\"format\": 2, \"colour\": \"blue\"}").unwrap_err();
        assert!(newer.message.ends_with("is a benchmark record of format 2"), "{newer}");
        assert_eq!(newer.detail.unwrap(), "this release reads format 1");
    }

    #[test]
    fn unknown_and_missing_fields_are_named() {
        for (from, to, told) in [
            ("\"cold\"", "\"colt\"", "unknown field `colt`"),
            ("\"rows\": 10", "\"rows\": 10, \"lines\": 1", "unknown field `lines`"),
            ("\"kind\": \"timeout\"", "\"kind\": \"timeout\", \"code\": 1", "unknown field `code`"),
            ("\"difference\"", "\"reason\"", "reason"),
            ("\"numa_nodes\": 1,", "", "missing field `numa_nodes`"),
            ("\"seconds\": 1.9", "\"seconds\": -1.9", "seconds of q3: -1.9"),
            ("\"name\": \"q3\"", "\"name\": \"q2\"", "query q2 is there twice"),
        ] {
            let text = example();
            assert!(text.contains(from), "{from}");
            let error = loaded(&text.replace(from, to)).unwrap_err();
            assert!(error.detail.as_ref().unwrap().contains(told), "{error}");
        }
    }

    #[test]
    fn a_record_that_could_not_be_read_back_is_not_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let record = samples::record("firesteel", &[("q1", &[f64::NAN])]);
        assert!(record.save(&path).unwrap_err().detail.unwrap().contains("seconds of q1"));
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_folder_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let record = samples::record("firesteel", &[]);
        let error = record.save(&folder.path().join("none/run.json")).unwrap_err();
        assert_eq!(error.hint.unwrap(), "make its folder first");
        assert!(RunRecord::load(&folder.path().join("none")).unwrap_err().message.starts_with("cannot read"));
    }
}
