//! What came of a run, for people and for scripts.

use std::fmt::{self, Write as _};
use std::time::Duration;

use firesteel_base::{ByteSize, Timestamp};
use serde_json::{Value, json};

use super::{Kinds, Scale, Sent, Spans, Tally};

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was run.
    pub scale: Scale,
    /// What was counted.
    pub tally: Tally,
    /// Attempts that ended well: one for each task, and few more.
    pub tasks: u64,
    /// How long it all took in the cluster.
    pub virtual_time: Timestamp,
    /// How long it took here.
    pub took: Duration,
    /// For how much of that a processor was there for it, where the kernel tells.
    pub busy: Option<Duration>,
}

impl Report {
    /// The processor's time that the manager's machine took.
    #[must_use]
    pub fn manager_time(&self) -> Duration {
        let Tally { taking, lending, idling, .. } = &self.tally;
        self.busy(taking.total() + lending.total() + idling.total())
    }

    /// Leases in a second of the time that the manager's machine takes to lend them.
    #[must_use]
    pub fn grants_per_second(&self) -> f64 {
        per(self.tally.grants, self.busy(self.tally.lending.total()).as_secs_f64())
    }

    /// What of a time that was measured by a clock a processor was there for: others may use it meanwhile.
    fn busy(&self, span: Duration) -> Duration {
        match self.busy {
            Some(busy) if !self.took.is_zero() => {
                span.mul_f64(busy.as_secs_f64() / self.took.as_secs_f64()).min(span)
            }
            Some(_) | None => span,
        }
    }

    /// All as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self { scale, tally, tasks, .. } = self;
        json!({
            "nodes": scale.nodes,
            "slots": scale.slots,
            "jobs": scale.jobs,
            "tasks": tasks,
            "virtual_ms": self.virtual_time.0,
            "took_ms": millis(self.took),
            "processor_ms": self.busy.map(millis),
            "manager": {
                "in": kinds_json(&tally.to_manager),
                "out": kinds_json(&tally.from_manager),
                "grants": tally.grants,
                "slots_lent": tally.slots_lent,
                "machine_ms": millis(self.manager_time()),
                "coding_ms": millis(self.busy(tally.coding)),
                "work": {
                    "rounds": tally.work.rounds,
                    "stages": tally.work.stages,
                    "seats": tally.work.seats,
                    "leases": tally.work.leases,
                },
                "grants_per_second": self.grants_per_second(),
                "lending_us": spans_json(&tally.lending),
                "idling_us": spans_json(&tally.idling),
                "heartbeat_us": spans_json(&tally.beats),
                "inbox_max": tally.inbox_max,
                "session_max": tally.session_max,
                "bytes_of_nodes": tally.manager_idle_bytes,
                "bytes_max": tally.manager_bytes,
            },
            "drivers": {
                "in": kinds_json(&tally.from_executors),
                "out": kinds_json(&tally.to_executors),
                "step_us": spans_json(&tally.driver_steps),
                "steps_ms": millis(self.busy(tally.driver_steps.total())),
                "running_max": tally.running_max,
                "bytes_max": tally.drivers_bytes,
                "jobs_then": tally.drivers_then,
            },
        })
    }

    fn table(&self, out: &mut String) -> fmt::Result {
        let Self { scale, tally, tasks, .. } = self;
        let Scale { nodes, slots, jobs, .. } = scale;
        writeln!(out, "{nodes} nodes of {slots} slots, {jobs} jobs, {tasks} tasks")?;
        let (virtual_s, took) = (self.virtual_time.0 as f64 / 1e3, self.took.as_secs_f64());
        writeln!(
            out,
            "  {virtual_s:.1} s in the cluster, {took:.1} s here; at most {} attempts at a time",
            tally.running_max
        )?;
        writeln!(out, "manager")?;
        self.traffic(out, "hears", &tally.to_manager)?;
        self.traffic(out, "says", &tally.from_manager)?;
        let seconds = self.manager_time().as_secs_f64();
        writeln!(
            out,
            "  machine        {seconds:.2} s, {:.1} us a task; coding of messages {:.2} s",
            seconds * 1e6 / *tasks as f64,
            self.busy(tally.coding).as_secs_f64()
        )?;
        writeln!(
            out,
            "  leases         {}, of {} slots; {:.0} a second",
            tally.grants,
            tally.slots_lent,
            self.grants_per_second()
        )?;
        writeln!(out, "  lending in a turn       {}", shown(&tally.lending))?;
        writeln!(out, "  finding nothing to lend {}", shown(&tally.idling))?;
        writeln!(out, "  a worker's heartbeat    {}", shown(&tally.beats))?;
        writeln!(
            out,
            "  queues         {} messages taken in at once, {} for one session",
            tally.inbox_max, tally.session_max
        )?;
        writeln!(
            out,
            "  memory         {} for all nodes, {} a node; {} at most",
            size(tally.manager_idle_bytes),
            size(tally.manager_idle_bytes / i64::from(*nodes)),
            size(tally.manager_bytes)
        )?;
        writeln!(out, "drivers")?;
        self.traffic(out, "hear of executors", &tally.from_executors)?;
        self.traffic(out, "say to executors", &tally.to_executors)?;
        let seconds = self.busy(tally.driver_steps.total()).as_secs_f64();
        writeln!(out, "  machines       {seconds:.2} s, {:.1} us a task", seconds * 1e6 / *tasks as f64)?;
        writeln!(out, "  a step                  {}", shown(&tally.driver_steps))?;
        let running = i64::try_from(tally.drivers_then.max(1)).unwrap_or(i64::MAX);
        writeln!(
            out,
            "  memory         {} at most, for {} drivers: {} each",
            size(tally.drivers_bytes),
            tally.drivers_then,
            size(tally.drivers_bytes / running)
        )
    }

    fn traffic(&self, out: &mut String, what: &str, kinds: &Kinds) -> fmt::Result {
        let tasks = self.tasks as f64;
        let line = |out: &mut String, name: &str, Sent { messages, bytes }: Sent| {
            writeln!(
                out,
                "  {name:<18} {messages:>10} messages, {:>9}; {:.2} and {:.0} B a task",
                ByteSize(bytes).to_string(),
                messages as f64 / tasks,
                bytes as f64 / tasks
            )
        };
        line(out, what, kinds.total())?;
        kinds.iter().try_for_each(|(kind, sent)| line(out, &format!("  {kind}"), sent))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.table(&mut out)?;
        f.write_str(out.trim_end())
    }
}

fn per(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn micros(span: Duration) -> f64 {
    span.as_nanos() as f64 / 1e3
}

fn size(bytes: i64) -> String {
    ByteSize(u64::try_from(bytes).unwrap_or(0)).to_string()
}

fn shown(spans: &Spans) -> String {
    format!(
        "{} times; median {:.1} us, p99 {:.1} us, most {:.1} us",
        spans.count(),
        micros(spans.permille(500)),
        micros(spans.permille(990)),
        micros(spans.permille(1000))
    )
}

fn spans_json(spans: &Spans) -> Value {
    json!({
        "count": spans.count(),
        "median": micros(spans.permille(500)),
        "p99": micros(spans.permille(990)),
        "max": micros(spans.permille(1000)),
        "total": micros(spans.total()),
    })
}

fn kinds_json(kinds: &Kinds) -> Value {
    let one = |sent: Sent| json!({ "messages": sent.messages, "bytes": sent.bytes });
    let mut all: serde_json::Map<String, Value> =
        kinds.iter().map(|(kind, sent)| (kind.to_owned(), one(sent))).collect();
    all.insert("all".to_owned(), one(kinds.total()));
    Value::Object(all)
}
