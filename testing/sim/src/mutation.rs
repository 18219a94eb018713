//! Deliberate breakage: proofs that the checker looks.
//!
//! Each mutation sits between a machine and the rest, or in the model of an executor, and does one thing wrong that a broken
//! machine might do. A run under a mutation must end in a violation; that it does is one of the tests.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use firesteel_base::LeaseId;
use firesteel_driver::machine::{Effect as DriverEffect, Event as DriverEvent, Life};
use firesteel_manager::machine::message::{Effect as ManagerEffect, ToDriver, ToWorker};

use crate::plan::Rows;

macro_rules! kinds {
    ($($kind:ident $name:literal $what:literal,)*) => {
        /// What is done wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = $what] $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// What is done wrong.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$kind => $what,)* }
            }
        }
    };
}

kinds! {
    LeaseTwice "lease-twice" "the manager lends slots a second time, under another lease",
    LendMore "lend-more" "the manager lends a slot more than it counts",
    KeepKept "keep-kept" "the manager does not tell keepers that a job has ended",
    DropDemand "drop-demand" "a driver does not tell the manager what it needs",
    DropLaunch "drop-launch" "a driver forgets to launch an attempt",
    DropRelease "drop-release" "a driver forgets to give slots back",
    DropMoreInputs "drop-more-inputs" "a driver does not tell an early attempt of what it waits for",
    LaunchTwice "launch-twice" "a driver runs two attempts in one slot",
    FreeEarly "free-early" "a driver frees what an attempt is about to read",
    CloseWithoutFreeing "close-without-freeing" "a driver closes a job and leaves its blocks",
    ForgetInput "forget-input" "a driver launches an attempt without one of its inputs",
    ShowResultEarly "show-result-early" "a driver hands out a result of which a part is missing",
    StaleReport "stale-report" "an attempt's end is reported under an epoch that is over",
    ServeStale "serve-stale" "an executor serves what its life before this one has committed",
    LetGoEarly "let-go-early" "the manager lets a drained worker go while jobs need what it has",
    SameAttempts "same-attempts" "all drivers of a submitted job number their attempts alike",
    DropLaunchDriver "drop-launch-driver" "the manager's word to launch a driver is never said",
    EndTwice "end-twice" "the manager tells the end of a submitted job twice",
    LoseWrite "lose-write" "the journal keeps nothing of what it says it has written",
    OldLeaderSpeaks "old-leader-speaks" "a manager that leads no more does not look whether it does",
    LoseRow "lose-row" "an attempt commits a row less than it has made",
    DoubleRow "double-row" "an attempt commits a row twice",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("'{text}' is no mutation; --mutations lists them"))
    }
}

/// A mutation in a run.
#[derive(Debug)]
pub struct Mutation {
    /// What is done wrong.
    pub kind: Kind,
    /// How often there was an occasion for it.
    seen: u32,
    /// Lives that are over.
    gone: BTreeMap<firesteel_base::ExecutorId, Life>,
}

/// Occasions after which it is done; then it is done once.
const OCCASION: u32 = 2;

impl Mutation {
    /// One that has done nothing yet.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, seen: 0, gone: BTreeMap::new() }
    }

    /// Whether this occasion is the one.
    fn is_time(&mut self) -> bool {
        self.seen += 1;
        self.seen == OCCASION
    }
}

/// What the manager's machine says, broken.
pub fn of_manager(mutation: Option<&mut Mutation>, effects: &mut Vec<ManagerEffect>) {
    let Some(mutation) = mutation else { return };
    match mutation.kind {
        Kind::LeaseTwice => {
            let grant = effects.iter().find(|effect| is_grant(effect)).cloned();
            if let Some(mut effect) = grant
                && mutation.is_time()
            {
                if let ManagerEffect::ToDriver(_, ToDriver::Grant(grant)) = &mut effect {
                    grant.lease = LeaseId(grant.lease.0 + 1_000_000);
                }
                effects.push(effect);
            }
        }
        Kind::LendMore => {
            for effect in effects.iter_mut() {
                if let ManagerEffect::ToDriver(_, ToDriver::Grant(grant)) = effect
                    && mutation.is_time()
                {
                    grant.tasks += 1;
                }
            }
        }
        Kind::LetGoEarly => {
            let ordered = effects.iter().find_map(|effect| match effect {
                ManagerEffect::ToWorker(session, ToWorker::Drain { draining: true, .. }) => Some(*session),
                _ => None,
            });
            effects.extend(ordered.map(|session| ManagerEffect::ToWorker(session, ToWorker::Leave)));
        }
        Kind::DropLaunchDriver => {
            effects.retain(|effect| {
                !matches!(effect, ManagerEffect::ToWorker(_, ToWorker::LaunchDriver { .. }))
            });
        }
        Kind::EndTwice => {
            let ended = effects.iter().find(|effect| matches!(effect, ManagerEffect::JobEnded(_))).cloned();
            effects.extend(ended);
        }
        Kind::KeepKept => {
            effects.retain(|effect| !matches!(effect, ManagerEffect::ToWorker(_, ToWorker::FreeKept(_))))
        }
        _ => {}
    }
}

fn is_grant(effect: &ManagerEffect) -> bool {
    matches!(effect, ManagerEffect::ToDriver(_, ToDriver::Grant(_)))
}

/// What a job's machine says, broken.
pub fn of_driver(mutation: Option<&mut Mutation>, effects: &mut Vec<DriverEffect>) {
    let Some(mutation) = mutation else { return };
    let kind = mutation.kind;
    let mut is_dropped = |effect: &DriverEffect| match (kind, effect) {
        (Kind::DropDemand, DriverEffect::Demand(demand)) => demand.tasks > 0 && mutation.is_time(),
        (Kind::DropLaunch, DriverEffect::Launch(_))
        | (Kind::DropRelease, DriverEffect::ReleaseSlots { .. })
        | (Kind::DropMoreInputs, DriverEffect::MoreInputs { .. }) => mutation.is_time(),
        _ => false,
    };
    effects.retain(|effect| !is_dropped(effect));
    add_or_change(mutation, effects);
}

fn add_or_change(mutation: &mut Mutation, effects: &mut Vec<DriverEffect>) {
    let mut added = Vec::new();
    for effect in effects.iter_mut() {
        match (mutation.kind, effect) {
            (Kind::LaunchTwice, DriverEffect::Launch(launch)) if mutation.is_time() => {
                let mut again = launch.clone();
                again.attempt.attempt += 1;
                added.push(DriverEffect::Launch(again));
            }
            (Kind::FreeEarly, DriverEffect::Launch(launch)) => {
                let output = launch.inputs.iter().flat_map(|input| input.outputs.iter()).next();
                if let Some(output) = output
                    && mutation.is_time()
                {
                    let (attempt, life) = (output.producer, output.life.clone());
                    added.push(DriverEffect::FreeAttempt { attempt, life });
                }
            }
            (Kind::ForgetInput, DriverEffect::Launch(launch)) => {
                let has_rows = |input: &&mut firesteel_driver::machine::StageInputs| {
                    input.outputs.iter().any(|output| output.total().rows > 0)
                };
                if let Some(input) = launch.inputs.iter_mut().find(has_rows)
                    && mutation.is_time()
                {
                    input.outputs = Arc::from([]);
                }
            }
            (Kind::CloseWithoutFreeing, DriverEffect::Close { lives, .. }) => lives.clear(),
            (Kind::ShowResultEarly, DriverEffect::ResultReady(outputs)) => {
                outputs.pop();
            }
            _ => {}
        }
    }
    effects.extend(added);
}

/// What a job's machine hears, broken.
pub fn to_driver(mutation: Option<&mut Mutation>, event: DriverEvent) -> Option<DriverEvent> {
    let Some(mutation) = mutation.filter(|mutation| mutation.kind == Kind::StaleReport) else {
        return Some(event);
    };
    Some(match event {
        DriverEvent::ExecutorGone { life, reason, blocks_kept } => {
            mutation.gone.insert(life.executor.clone(), life.clone());
            DriverEvent::ExecutorGone { life, reason, blocks_kept }
        }
        DriverEvent::AttemptFinished { attempt, life, lanes } => {
            let stale = mutation.gone.get(&life.executor).filter(|gone| gone.epoch < life.epoch).cloned();
            DriverEvent::AttemptFinished { attempt, life: stale.unwrap_or(life), lanes }
        }
        other => other,
    })
}

/// What an attempt commits, broken.
pub fn of_attempt(mutation: Option<&mut Mutation>, rows: &mut Rows) {
    let Some(mutation) = mutation else { return };
    let Some(block) = rows.iter_mut().flatten().find(|block| !block.is_empty()) else { return };
    let kind = mutation.kind;
    match kind {
        Kind::LoseRow if mutation.is_time() => {
            block.pop();
        }
        Kind::DoubleRow if mutation.is_time() => block.push(block[0]),
        _ => {}
    }
}
