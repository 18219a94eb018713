//! How each run came about, so that it can be done again.

use std::collections::BTreeMap;
use std::fmt;

use firesteel_base::ByteSize;

use super::super::run::{DataInfo, RunRecord};
use super::text::{Text, command, grouped};
use super::{Report, counted, engine, key};

pub(super) fn all(f: &mut fmt::Formatter<'_>, report: &Report<'_>) -> fmt::Result {
    f.write_str("<h2>What was run</h2>\n")?;
    for (number, record) in report.numbered() {
        writeln!(f, "<section class=\"run\"><h3>{}</h3>", key(number, &format!(" {}", engine(record))))?;
        writeln!(f, "<pre><code>{}</code></pre>\n<dl>", Text(&command(&record.command)))?;
        for (what, value) in facts(record) {
            writeln!(f, "<dt>{what}</dt><dd>{}</dd>", Text(&value))?;
        }
        f.write_str("</dl></section>\n")?;
    }
    Ok(())
}

fn facts(record: &RunRecord) -> Vec<(&'static str, String)> {
    let RunRecord { data, machine, .. } = record;
    let commit = record.engine.commit.clone();
    let timeout = record.timeout_seconds.map(|seconds| format!("{seconds} s a query"));
    let facts = [
        ("Started", Some(record.started.clone())),
        ("Mode", Some(format!("{}, {}", record.mode, counted(record.cores as usize, "core")))),
        ("Commit", commit),
        ("Runs", Some(runs(record))),
        ("Timeout", timeout),
        (
            "Machine",
            Some(format!(
                "{}, {}, {}, {} of memory",
                machine.cpu,
                counted(machine.cpus as usize, "processor"),
                counted(machine.numa_nodes as usize, "NUMA node"),
                ByteSize(machine.memory_bytes)
            )),
        ),
        ("Disk", Some(machine.disk.clone())),
        ("Kernel", Some(machine.kernel.clone())),
        ("Data", Some(rows(data))),
        ("Checksum", Some(data.checksum.clone())),
        ("Settings", listed(&record.settings, " = ")),
        ("Versions", listed(&record.versions, " ")),
    ];
    facts.into_iter().filter_map(|(what, value)| Some((what, value?))).collect()
}

fn rows(data: &DataInfo) -> String {
    let DataInfo { path, scale, generator, format, compression, .. } = data;
    let (rows, bytes) = (grouped(data.rows), ByteSize(data.bytes));
    match data.files {
        0 => format!("{path} by {generator}, {rows} rows in {bytes} of memory"),
        files => {
            let files = counted(files as usize, "file");
            let sorted = if data.sorted { ", sorted" } else { "" };
            let skew = data.skew.as_ref().map_or_else(String::new, |skew| format!(", skew {skew}"));
            format!(
                "{path}: scale {scale} by {generator}, {rows} rows in {files}, {bytes}, {format} {compression}{sorted}{skew}"
            )
        }
    }
}

fn runs(record: &RunRecord) -> String {
    format!(
        "{} of each query after {} for warm-up, {}, caches {}",
        record.iterations,
        record.warmup,
        counted(record.streams as usize, "stream"),
        if record.cold { "emptied before every run" } else { "kept" }
    )
}

/// A line each; none when there is nothing to list.
fn listed(entries: &BTreeMap<String, String>, between: &str) -> Option<String> {
    let lines: Vec<String> = entries.iter().map(|(name, value)| format!("{name}{between}{value}")).collect();
    if lines.is_empty() { None } else { Some(lines.join("\n")) }
}
