//! Who reads a query's result: a model of `driver/src/results.rs`, the last consumer of the job's blocks.
//!
//! It runs on its own. What it says comes to the loop a little later, and what the loop decides it sees between two blocks.

use std::time::Duration;

use firesteel_base::{AttemptKey, UserError};
use firesteel_driver::machine::{MapOutput, Outcome};

use super::{Driver, Query};
use crate::channel::Proc;
use crate::world::fetch::{Fetch, Fetched, Wanted};
use crate::world::{Command, Scene, Timer};

/// A command comes to the loop within so many milliseconds.
const COMMAND_WITHIN: u64 = 3;

/// A reader.
#[derive(Debug)]
pub struct Reader {
    /// The latest word of what can be read, and which of it has an address.
    pub outputs: Option<Vec<(MapOutput, bool)>>,
    /// Tasks of the result stage.
    pub tasks: u32,
    /// How the job ends, once that is decided.
    pub outcome: Option<Outcome>,
    rests_max: u64,
    task: u32,
    lane: u32,
    is_begun: bool,
    /// The block that is being read.
    open: Option<Wanted>,
    /// Rows of it that were handed out.
    given: usize,
    fetch: Fetch,
    unreadable: Option<AttemptKey>,
    is_done: bool,
    step: u64,
}

/// What a reader does next.
enum Next {
    /// It reads a block.
    Block(Wanted),
    /// It says something, and goes on.
    Say(Command),
    /// It goes on.
    On,
    /// It waits for the loop.
    Wait,
}

impl Reader {
    /// One that rests between blocks for at most so many milliseconds.
    pub fn new(rests_max: u64) -> Self {
        Self {
            outputs: None,
            tasks: 0,
            outcome: None,
            rests_max,
            task: 0,
            lane: 0,
            is_begun: false,
            open: None,
            given: 0,
            fetch: Fetch::default(),
            unreadable: None,
            is_done: false,
            step: 0,
        }
    }

    /// What it reads may be elsewhere now.
    pub fn begin_fetch_anew(&mut self) {
        self.fetch = Fetch::default();
    }

    fn output(&self) -> Option<&(MapOutput, bool)> {
        let usable = |(output, _): &&(MapOutput, bool)| {
            output.producer.task.task == self.task && Some(output.producer) != self.unreadable
        };
        self.outputs.as_ref()?.iter().find(usable)
    }

    fn next(&mut self) -> Next {
        if self.is_done || self.outputs.is_none() {
            return Next::Wait;
        }
        if self.outcome.is_some() {
            self.is_done = true;
            return Next::Wait;
        }
        if let Some(wanted) = &self.open {
            return Next::Block(wanted.clone());
        }
        if self.task >= self.tasks {
            self.is_done = true;
            return Next::Say(Command::AllRead);
        }
        let Some((output, has_address)) = self.output() else { return Next::Wait };
        let Some(lane) = output.lanes.get(self.lane as usize) else {
            let said = Command::TaskRead(output.producer);
            (self.task, self.lane, self.is_begun, self.unreadable) = (self.task + 1, 0, false, None);
            return Next::Say(said);
        };
        if lane.rows() == 0 {
            self.lane += 1;
            return Next::On;
        }
        let (producer, life, has_address) = (output.producer, output.life.clone(), *has_address);
        let wanted = Wanted { producer, life, has_address };
        self.open = Some(wanted.clone());
        Next::Block(wanted)
    }

    /// Takes half of what is left of the present block, at least a row.
    fn take(&mut self, rows: &[u64]) -> Vec<u64> {
        let left = &rows[self.given.min(rows.len())..];
        let taken = left[..left.len().div_ceil(2)].to_vec();
        self.given += taken.len();
        if self.given >= rows.len() {
            (self.open, self.given, self.lane) = (None, 0, self.lane + 1);
        }
        taken
    }
}

impl Driver {
    pub(super) fn wake_reader(proc: Proc, number: u64, query: &mut Query, scene: &mut Scene) {
        query.reader.step += 1;
        scene.wake_within(proc, (0, 2), Timer::Read(number, query.reader.step));
    }

    /// What the reader of a query reads next, once it has said what is to be said.
    pub fn read_next(&mut self, number: u64, step: u64, scene: &mut Scene) -> Option<(Wanted, Fetch)> {
        loop {
            let query = self.queries.get_mut(&number)?;
            if query.reader.step != step {
                return None;
            }
            match query.reader.next() {
                Next::Block(wanted) => {
                    let fetch = query.reader.fetch;
                    let wanted = match self.moved.get(&wanted.producer) {
                        Some(life) => Wanted { life: life.clone(), has_address: true, ..wanted },
                        None => wanted,
                    };
                    return Some((wanted, fetch));
                }
                Next::On => {}
                Next::Wait => return None,
                Next::Say(command) => {
                    if matches!(command, Command::AllRead) {
                        scene.check.all_read(self.proc, number);
                    }
                    self.reader_says(number, command, scene);
                }
            }
        }
    }

    /// A block of the result was asked for.
    pub fn block_read(&mut self, number: u64, wanted: &Wanted, came: Fetched, scene: &mut Scene) {
        let Some(query) = self.queries.get_mut(&number) else { return };
        let reader = &mut query.reader;
        reader.fetch = Fetch::default();
        match came {
            Fetched::Rows(rows, _) => {
                let block = rows.get(reader.lane as usize).and_then(|lane| lane.first());
                let taken = reader.take(block.map_or(&[], Vec::as_slice));
                scene.check.handed_out(self.proc, number, &taken);
                if let Some(submitted) = &mut self.submitted {
                    submitted.take_rows(&taken);
                }
                if !std::mem::replace(&mut reader.is_begun, true) {
                    let command = Command::Begun(wanted.producer);
                    self.reader_says(number, command, scene);
                }
                self.read_on(number, None, scene);
            }
            Fetched::Again(..) if self.gone.contains(&wanted.life) => {
                self.unreadable(number, wanted, "its executor is gone", scene);
            }
            Fetched::Again(fetch, after) => {
                reader.fetch = fetch;
                self.read_on(number, Some(after), scene);
            }
            Fetched::Failed(why) => self.unreadable(number, wanted, why, scene),
        }
    }

    fn unreadable(&mut self, number: u64, wanted: &Wanted, why: &str, scene: &mut Scene) {
        let Some(query) = self.queries.get_mut(&number) else { return };
        let reader = &mut query.reader;
        reader.unreadable = Some(wanted.producer);
        (reader.open, reader.lane, reader.given) = (None, 0, 0);
        let error = UserError::new(format!("result block of {}: {why}", wanted.producer));
        scene.tell(self.proc, || format!("cannot read the result of q{number}: {}", error.message));
        self.reader_says(number, Command::Unreadable(wanted.producer, error), scene);
        self.read_on(number, None, scene);
    }

    fn read_on(&mut self, number: u64, after: Option<Duration>, scene: &mut Scene) {
        let Some(query) = self.queries.get_mut(&number) else { return };
        let after = after.unwrap_or_else(|| scene.chance.millis(0, query.reader.rests_max));
        query.reader.step += 1;
        scene.wake(self.proc, after, Timer::Read(number, query.reader.step));
    }

    /// Commands come to the loop in their order.
    fn reader_says(&mut self, number: u64, command: Command, scene: &mut Scene) {
        let at = scene.now() + scene.chance.millis(0, COMMAND_WITHIN);
        self.commanded = self.commanded.max(at);
        let after = self.commanded - scene.now();
        scene.wake(self.proc, after, Timer::Command(number, command));
    }
}
