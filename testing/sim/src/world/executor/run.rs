//! One run of an attempt.
//!
//! ```text
//!   waits for cores ──► reads its inputs, block after block ──► writes ──► commits
//!          │                        │                             │
//!          └────────────────────────┴──── cancelled, failed ──────┴──────► ends without an output
//! ```

use std::fmt;
use std::rc::Rc;

use firesteel_base::{AttemptKey, Class, StageId};
use firesteel_driver::machine::{Launch, MapOutput, StageInputs};
use firesteel_executor::cores::CoreLease;

use crate::channel::{Located, StageWork};
use crate::plan::{Read, Rows};
use crate::world::fetch::{Fetch, Wanted};

/// A run.
pub struct Run {
    /// The attempt.
    pub key: AttemptKey,
    /// What it was launched with, and told since.
    pub launch: Launch,
    /// Its stage's plan.
    pub work: Rc<StageWork>,
    /// What it reads that has no address.
    pub unknown: std::collections::BTreeSet<firesteel_driver::machine::Life>,
    /// The wish that it ends early.
    pub cancelled: Option<(Class, String)>,
    /// What it has read.
    pub read: Read,
    /// How the reading of the next block goes.
    pub fetch: Fetch,
    /// Which of its steps is the next.
    pub step: u64,
    /// How far it is.
    pub phase: Phase,
    /// Its cores, once it has them.
    pub cores: Option<CoreLease>,
    /// Asks whether its cores are there.
    pub ask: Box<dyn FnMut() -> Option<CoreLease>>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits for cores.
    Queued,
    /// It reads, or waits for more to read.
    Reading,
    /// It computes and writes.
    Writing,
    /// It is about to end.
    Ending,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({}, {:?})", self.key, self.phase)
    }
}

impl Run {
    /// The next block that it has to read.
    #[must_use]
    pub fn next_block(&self) -> Option<(StageId, Wanted)> {
        self.launch.inputs.iter().find_map(|input| {
            let known = self.read.get(&input.stage).map_or(0, Vec::len);
            let output = input.outputs.get(known)?;
            Some((input.stage, self.wanted(output)))
        })
    }

    fn wanted(&self, output: &MapOutput) -> Wanted {
        let has_address = !self.unknown.contains(&output.life);
        Wanted { producer: output.producer, life: output.life.clone(), has_address }
    }

    /// Whether something that it reads is still to come.
    #[must_use]
    pub fn waits_for_more(&self) -> bool {
        self.launch.inputs.iter().any(|input| input.coming)
    }

    /// A block was read.
    pub fn take(&mut self, input: StageId, producer: AttemptKey, rows: Rc<Rows>) {
        self.read.entry(input).or_default().push((producer, rows));
        self.fetch = Fetch::default();
    }

    /// It is told of more. What it knows changes nothing.
    pub fn add(&mut self, more: &Located<StageInputs>) {
        self.unknown.extend(more.unknown.iter().cloned());
        let Some(known) = self.launch.inputs.iter_mut().find(|known| known.stage == more.what.stage) else {
            return;
        };
        let is_new = |new: &&std::sync::Arc<MapOutput>| {
            known.outputs.iter().all(|output| output.producer.task != new.producer.task)
        };
        let new: Vec<_> = more.what.outputs.iter().filter(is_new).cloned().collect();
        known.outputs = known.outputs.iter().cloned().chain(new).collect();
        known.coming &= more.what.coming;
    }

    /// All that it has read, inputs without an output included, each in the order of its tasks.
    #[must_use]
    pub fn all_read(&self) -> Read {
        let mut read = self.read.clone();
        for input in &self.launch.inputs {
            read.entry(input.stage).or_default().sort_by_key(|(producer, _)| producer.task.task);
        }
        read
    }
}
