//! Reading a block: the executor that wrote it, then its worker's keeper, with the tries and waits of `shuffle::fetch`.
//!
//! ```text
//!   holder ── has it ──► rows          keeper ── has it ──► rows
//!     │ refused, silent: 3 tries ──────► │  not yet: again for 5 s ──► unreachable
//!     └ missing, corrupt, another epoch ─┴──────────────────────────► failed at once
//! ```

use std::rc::Rc;
use std::time::Duration;

use firesteel_base::{AttemptKey, Epoch, Timestamp};
use firesteel_driver::machine::Life;

use super::World;
use crate::channel::{Host, Party, Proc};
use crate::plan::Rows;

const TRIES_MAX: u32 = 3;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IO_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPER_WAIT: Duration = Duration::from_secs(5);
const KEEPER_PAUSE: Duration = Duration::from_millis(50);

/// How far the reading of a block has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fetch {
    tries: u32,
    /// Until when the keeper is asked.
    keeper_until: Option<Timestamp>,
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Who wrote it.
    pub producer: AttemptKey,
    /// Who should hold it.
    pub life: Life,
    /// Whether the reader was told where that is.
    pub has_address: bool,
}

/// What came of asking.
#[derive(Debug)]
pub enum Fetched {
    /// The rows, and the epoch of the executor that served them; none of a keeper.
    Rows(Rc<Rows>, Option<Epoch>),
    /// To be asked again after this.
    Again(Fetch, Duration),
    /// It cannot be read.
    Failed(&'static str),
}

enum Answer {
    Rows(Rc<Rows>, Option<Epoch>),
    /// Nobody is there, which took so long to find out.
    Nobody(Duration),
    Never(&'static str),
}

impl World {
    /// Asks for the rows of a map output once.
    pub fn fetch(&self, reader: Proc, wanted: &Wanted, fetch: Fetch) -> Fetched {
        match fetch.keeper_until {
            None => match self.ask_holder(reader, wanted) {
                Answer::Rows(rows, epoch) => Fetched::Rows(rows, epoch),
                Answer::Never(why) => Fetched::Failed(why),
                Answer::Nobody(took) => self.after_nobody(wanted, fetch, took),
            },
            Some(until) => match self.ask_keeper(reader, wanted) {
                Answer::Rows(rows, epoch) => Fetched::Rows(rows, epoch),
                Answer::Never(why) => Fetched::Failed(why),
                Answer::Nobody(took) if self.scene.now() + took < until => Fetched::Again(fetch, took),
                Answer::Nobody(_) => Fetched::Failed("neither its executor nor a keeper could be reached"),
            },
        }
    }

    fn after_nobody(&self, wanted: &Wanted, fetch: Fetch, took: Duration) -> Fetched {
        let tries = fetch.tries + 1;
        if tries < TRIES_MAX {
            return Fetched::Again(Fetch { tries, keeper_until: None }, took + PAUSE_FIRST * tries);
        }
        if !wanted.has_address || !self.has_keeper(wanted) {
            return Fetched::Failed("its executor could not be reached");
        }
        let keeper_until = Some(self.scene.now() + took + KEEPER_WAIT);
        Fetched::Again(Fetch { tries: 0, keeper_until }, took)
    }

    fn has_keeper(&self, wanted: &Wanted) -> bool {
        self.keepers.get(&wanted.life.executor.worker).copied().unwrap_or(false)
    }

    fn ask_holder(&self, reader: Proc, wanted: &Wanted) -> Answer {
        let Some(executor) = self.executors.get(&wanted.life.executor).filter(|_| wanted.has_address) else {
            return Answer::Nobody(Duration::ZERO);
        };
        if executor.epoch != Some(wanted.life.epoch) {
            let stale = self.stale.get(&executor.id).and_then(|store| store.get(&wanted.producer));
            if let Some(stored) = stale {
                return Answer::Rows(Rc::clone(&stored.rows), executor.epoch);
            }
            let is_own = executor.proc == reader || !executor.was_in(wanted.life.epoch);
            return if is_own {
                Answer::Nobody(Duration::ZERO)
            } else {
                Answer::Never("the holder was given another epoch since")
            };
        }
        match self.silence(reader, executor.proc) {
            Some(took) => Answer::Nobody(took),
            None => read(executor.store.get(&wanted.producer), executor.epoch),
        }
    }

    fn ask_keeper(&self, reader: Proc, wanted: &Wanted) -> Answer {
        let Some(worker) = self.workers.get(&wanted.life.executor.worker) else {
            return Answer::Nobody(KEEPER_PAUSE);
        };
        if let Some(took) = self.silence(reader, worker.proc) {
            return Answer::Nobody(took);
        }
        match worker.kept.get(&wanted.life) {
            Some(store) => read(store.get(&wanted.producer), None),
            None => Answer::Nobody(KEEPER_PAUSE),
        }
    }

    /// How long it takes to find out that nothing comes of a process, if that is so.
    fn silence(&self, reader: Proc, of: Proc) -> Option<Duration> {
        let processes = &self.scene.net.processes;
        let host = |proc| processes.host(proc).unwrap_or(Host(0));
        if reader == of {
            None
        } else if !self.scene.net.reaches(host(reader), host(of)) {
            Some(CONNECT_TIMEOUT)
        } else {
            processes.is_frozen(of).then_some(IO_TIMEOUT)
        }
    }

    /// The host and process of an executor at that address, whether or not it still lives.
    pub fn address(&self, party: &Party) -> (Proc, Host) {
        let proc = self.scene.net.processes.of(party).unwrap_or(Proc(0));
        (proc, self.scene.net.processes.host(proc).unwrap_or(Host(0)))
    }
}

fn read(stored: Option<&super::Stored>, epoch: Option<Epoch>) -> Answer {
    match stored {
        None => Answer::Never("the holder does not have it"),
        Some(stored) if stored.is_corrupt => Answer::Never("it is corrupt"),
        Some(stored) => Answer::Rows(Rc::clone(&stored.rows), epoch),
    }
}
