//! The log of faults: a header, then a fault a line, as JSON. A run writes it before it begins; another replays it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::Fault;

/// What a replay needs to know beside the faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The seed that the faults and the clients' questions are drawn from.
    pub seed: u64,
    /// How long questions were asked, in milliseconds.
    pub for_ms: u64,
    /// How many workers there were.
    pub workers: u32,
    /// How many clients asked.
    pub clients: u32,
    /// Whether each worker had a network namespace of its own.
    pub networked: bool,
}

/// Writes a log.
///
/// # Errors
/// When the file cannot be written.
pub fn write_log(path: &Path, header: &Header, faults: &[Fault]) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut log = BufWriter::new(file);
    writeln!(log, "{}", serde_json::to_string(header)?)?;
    for fault in faults {
        writeln!(log, "{}", serde_json::to_string(fault)?)?;
    }
    log.flush().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a log.
///
/// # Errors
/// When it is no such log, with the line that is wrong, or names a worker that there is not.
pub fn read_log(path: &Path) -> anyhow::Result<(Header, Vec<Fault>)> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines().enumerate();
    let wrong = |number: usize| format!("{}, line {}", path.display(), number + 1);
    let (_, first) = lines.next().with_context(|| format!("{} is empty", path.display()))?;
    let header: Header = serde_json::from_str(first).with_context(|| wrong(0))?;
    let mut faults: Vec<Fault> = Vec::new();
    for (number, line) in lines {
        let fault: Fault = serde_json::from_str(line).with_context(|| wrong(number))?;
        let known = fault.target.workers().into_iter().all(|worker| worker < header.workers);
        ensure!(known, "{}: there are {} workers", wrong(number), header.workers);
        ensure!(faults.last().is_none_or(|last| last.at_ms <= fault.at_ms), "{}: too early", wrong(number));
        faults.push(fault);
    }
    Ok((header, faults))
}
