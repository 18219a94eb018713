//! What must be the same for two runs to be compared, and what need not be.

use std::collections::BTreeMap;
use std::fmt;

use firesteel_base::{ByteSize, UserError};

use super::super::run::RunRecord;

/// Refuses runs whose times say nothing about each other, with everything that differs.
pub(super) fn require(base: &RunRecord, new: &RunRecord) -> Result<(), UserError> {
    let mut found = Differences::default();
    found.note("benchmark", &base.benchmark, &new.benchmark);
    found.note("scale", base.data.scale, new.data.scale);
    found.note("generator", &base.data.generator, &new.data.generator);
    found.note("checksum of the data", &base.data.checksum, &new.data.checksum);
    found.note("processor", &base.machine.cpu, &new.machine.cpu);
    found.note("processors", base.machine.cpus, new.machine.cpus);
    found.note("memory", memory(base), memory(new));
    found.note("cores", base.cores, new.cores);
    found.queries(base, new);
    if found.0.is_empty() {
        return Ok(());
    }
    Err(UserError::new("the two runs cannot be compared: they did not do the same on the same")
        .detail(found.0.join("; "))
        .hint("run the benchmark again for one of them, with what the other had"))
}

/// What differs although the runs can be compared.
pub(super) fn notable(base: &RunRecord, new: &RunRecord) -> Vec<String> {
    let mut found = Differences::default();
    found.note("mode", &base.mode, &new.mode);
    found.note("caches", caches(base), caches(new));
    found.note("streams", base.streams, new.streams);
    found.note("warm-up runs", base.warmup, new.warmup);
    found.note("files", base.data.files, new.data.files);
    found.note("compression", &base.data.compression, &new.data.compression);
    found.note("disk", &base.machine.disk, &new.machine.disk);
    found.note("kernel", &base.machine.kernel, &new.machine.kernel);
    found.note("verified by", verified(base), verified(new));
    if base.engine.name == new.engine.name {
        found.each("setting", &base.settings, &new.settings);
    }
    found.each("version of", &base.versions, &new.versions);
    found.0
}

/// A run in a few words.
pub(super) fn title(record: &RunRecord) -> String {
    let engine = &record.engine;
    let commit = engine.commit.as_ref().map_or_else(String::new, |commit| format!(" ({commit})"));
    format!("{} {}{commit}, {}, {}", engine.name, engine.version, record.mode, record.started)
}

fn caches(record: &RunRecord) -> &'static str {
    if record.cold { "cold" } else { "hot" }
}

fn verified(record: &RunRecord) -> &str {
    record.verified.as_deref().unwrap_or("nothing")
}

/// Both the bytes, which are compared, and a size that can be read.
fn memory(record: &RunRecord) -> String {
    let bytes = record.machine.memory_bytes;
    format!("{} ({bytes} bytes)", ByteSize(bytes))
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn note<T: PartialEq + fmt::Display>(&mut self, what: &str, base: T, new: T) {
        if base != new {
            self.0.push(format!("{what}: {base} in the base, {new} in the new run"));
        }
    }

    fn each(&mut self, what: &str, base: &BTreeMap<String, String>, new: &BTreeMap<String, String>) {
        let only_new = new.keys().filter(|key| !base.contains_key(*key));
        for key in base.keys().chain(only_new) {
            let value = |of: &BTreeMap<String, String>| of.get(key).map_or("none".to_owned(), Clone::clone);
            self.note(&format!("{what} {key}"), value(base), value(new));
        }
    }

    fn queries(&mut self, base: &RunRecord, new: &RunRecord) {
        for (whose, one, other) in [("base", base, new), ("new run", new, base)] {
            let missing = one.queries.iter().filter(|query| other.query(&query.name).is_none());
            let names: Vec<&str> = missing.map(|query| query.name.as_str()).collect();
            if !names.is_empty() {
                self.0.push(format!("only in the {whose}: {}", names.join(", ")));
            }
        }
    }
}
