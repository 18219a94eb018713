//! What is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_manager::machine::Work;

/// How much memory is allocated at the moment, in bytes.
pub type Allocated = fn() -> usize;

/// Messages of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many.
    pub messages: u64,
    /// Their bytes as protocol buffers, without what gRPC adds.
    pub bytes: u64,
}

impl Sent {
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

/// Messages by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kinds(BTreeMap<&'static str, Sent>);

impl Kinds {
    /// One more of that kind.
    pub fn note(&mut self, kind: &'static str, bytes: usize) {
        self.0.entry(kind).or_default().add(Sent { messages: 1, bytes: bytes as u64 });
    }

    /// By kind.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Sent)> {
        self.0.iter().map(|(kind, sent)| (*kind, *sent))
    }

    /// Those of one kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> Sent {
        self.0.get(kind).copied().unwrap_or_default()
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> Sent {
        self.0.values().fold(Sent::default(), |mut sum, sent| {
            sum.add(*sent);
            sum
        })
    }
}

/// Spans of time, of which the middle and the ends are asked for.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    nanos: Vec<u64>,
}

impl Spans {
    /// One more.
    pub fn note(&mut self, span: Duration) {
        self.nanos.push(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.nanos.len() as u64
    }

    /// All together.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos.iter().sum())
    }

    /// The one that so many of a thousand are not above; zero when there is none.
    #[must_use]
    pub fn permille(&self, permille: usize) -> Duration {
        let mut nanos = self.nanos.clone();
        if nanos.is_empty() {
            return Duration::ZERO;
        }
        let at = (nanos.len() - 1) * permille / 1000;
        Duration::from_nanos(*nanos.select_nth_unstable(at).1)
    }
}

/// All that a run counts.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// What the manager hears.
    pub to_manager: Kinds,
    /// What the manager says.
    pub from_manager: Kinds,
    /// What drivers say to executors.
    pub to_executors: Kinds,
    /// What executors say to drivers.
    pub from_executors: Kinds,
    /// Leases that were lent.
    pub grants: u64,
    /// Slots of them.
    pub slots_lent: u64,
    /// Decoding of what the manager hears, and encoding of what it says.
    pub coding: Duration,
    /// How long the manager's machine takes to take in single messages.
    pub taking: Spans,
    /// Those of them that are heartbeats of workers.
    pub beats: Spans,
    /// How long it takes to lend all slots that a turn's messages let it lend.
    pub lending: Spans,
    /// How long to find that there are none to be lent.
    pub idling: Spans,
    /// Steps of job machines.
    pub driver_steps: Spans,
    /// How much its machine has looked at to lend slots.
    pub work: Work,
    /// Most messages that one turn of the manager took in.
    pub inbox_max: u64,
    /// Most messages that one turn had for one session.
    pub session_max: u64,
    /// Most attempts that ran at a time.
    pub running_max: u64,
    /// Bytes that the manager has allocated, at most.
    pub manager_bytes: i64,
    /// Those once all nodes were registered and no driver was there.
    pub manager_idle_bytes: i64,
    /// Bytes that all drivers have allocated, at most.
    pub drivers_bytes: i64,
    /// Jobs that have a driver then.
    pub drivers_then: u64,
}

impl Tally {
    /// Bytes that the counting itself takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let spans = [&self.taking, &self.beats, &self.lending, &self.idling, &self.driver_steps];
        spans.iter().map(|spans| spans.nanos.capacity() * size_of::<u64>()).sum()
    }
}
