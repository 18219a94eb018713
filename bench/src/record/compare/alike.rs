//! What must be the same for two runs to be compared, and what need not be.

use std::collections::BTreeMap;
use std::fmt;

use firesteel_base::{ByteSize, UserError};

use super::super::run::{DataInfo, Machine, RunRecord};

/// Where a run stands: what it asked, of which data, on which machine. Times of runs that stand elsewhere say nothing about
/// each other.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    /// How messages call the run.
    pub name: &'a str,
    /// The benchmark.
    pub benchmark: &'a str,
    /// The data.
    pub data: &'a DataInfo,
    /// The machine.
    pub machine: &'a Machine,
}

impl<'a> Ground<'a> {
    /// That of a record.
    pub fn of(name: &'a str, record: &'a RunRecord) -> Self {
        Self { name, benchmark: &record.benchmark, data: &record.data, machine: &record.machine }
    }
}

const BASE: &str = "the base";
const NEW: &str = "the new run";

/// Refuses runs whose times say nothing about each other, with everything that differs.
pub(super) fn require(base: &RunRecord, new: &RunRecord) -> Result<(), UserError> {
    let mut found = Differences::between(BASE, NEW);
    found.ground(Ground::of(BASE, base), Ground::of(NEW, new));
    found.note("cores", base.cores, new.cores);
    found.queries(base, new);
    found.refuse()
}

/// Refuses runs that do not stand on the same ground; they may have other cores and other queries.
pub(crate) fn require_ground(base: Ground<'_>, new: Ground<'_>) -> Result<(), UserError> {
    let mut found = Differences::between(base.name, new.name);
    found.ground(base, new);
    found.refuse()
}

/// What differs although the runs can be compared.
pub(super) fn notable(base: &RunRecord, new: &RunRecord) -> Vec<String> {
    let mut found = Differences::between(BASE, NEW);
    found.note("mode", &base.mode, &new.mode);
    found.conditions(base, new);
    found.each("version of", &base.versions, &new.versions);
    found.found
}

/// What differs in how two runs, perhaps of different engines in different modes, came about.
pub(crate) fn conditions(base: (&str, &RunRecord), new: (&str, &RunRecord)) -> Vec<String> {
    let mut found = Differences::between(base.0, new.0);
    found.conditions(base.1, new.1);
    found.found
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
fn memory(machine: &Machine) -> String {
    let bytes = machine.memory_bytes;
    format!("{} ({bytes} bytes)", ByteSize(bytes))
}

struct Differences<'a> {
    base: &'a str,
    new: &'a str,
    found: Vec<String>,
}

impl<'a> Differences<'a> {
    /// None yet, between runs that messages call so.
    fn between(base: &'a str, new: &'a str) -> Self {
        Self { base, new, found: Vec::new() }
    }

    fn refuse(self) -> Result<(), UserError> {
        if self.found.is_empty() {
            return Ok(());
        }
        Err(UserError::new("the two runs cannot be compared: they did not do the same on the same")
            .detail(self.found.join("; "))
            .hint("run the benchmark again for one of them, with what the other had"))
    }

    fn ground(&mut self, base: Ground<'_>, new: Ground<'_>) {
        self.note("benchmark", base.benchmark, new.benchmark);
        self.note("scale", base.data.scale, new.data.scale);
        self.note("generator", &base.data.generator, &new.data.generator);
        self.note("checksum of the data", &base.data.checksum, &new.data.checksum);
        self.note("processor", &base.machine.cpu, &new.machine.cpu);
        self.note("processors", base.machine.cpus, new.machine.cpus);
        self.note("memory", memory(base.machine), memory(new.machine));
    }

    fn conditions(&mut self, base: &RunRecord, new: &RunRecord) {
        self.note("caches", caches(base), caches(new));
        self.note("streams", base.streams, new.streams);
        self.note("warm-up runs", base.warmup, new.warmup);
        self.note("files", base.data.files, new.data.files);
        self.note("compression", &base.data.compression, &new.data.compression);
        self.note("disk", &base.machine.disk, &new.machine.disk);
        self.note("kernel", &base.machine.kernel, &new.machine.kernel);
        self.note("verified by", verified(base), verified(new));
        if base.engine.name == new.engine.name {
            self.each("setting", &base.settings, &new.settings);
        }
    }

    fn note<T: PartialEq + fmt::Display>(&mut self, what: &str, base: T, new: T) {
        if base != new {
            self.found.push(format!("{what}: {base} in {}, {new} in {}", self.base, self.new));
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
        for (whose, one, other) in [(self.base, base, new), (self.new, new, base)] {
            let missing = one.queries.iter().filter(|query| other.query(&query.name).is_none());
            let names: Vec<&str> = missing.map(|query| query.name.as_str()).collect();
            if !names.is_empty() {
                self.found.push(format!("only in {whose}: {}", names.join(", ")));
            }
        }
    }
}
