//! What goes wrong, and when.
//!
//! ```text
//!   drawn with the world ─► befalls somebody who is drawn when it is time ─► heals after a while that is drawn
//! ```

mod befall;
mod drains;
mod roles;

use std::time::Duration;

use firesteel_base::{ExecutorId, WorkerId};

use crate::Options;
use crate::chance::Chance;
use crate::channel::{Host, Proc};
use crate::world::worker::Setup;

/// Something goes wrong, or well again.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A user comes.
    DriverStarts,
    /// An executor's process is killed.
    ExecutorKilled,
    /// A worker's process is killed, and its executors with it; or its host loses power.
    WorkerKilled,
    /// The worker is started again.
    WorkerBack(Box<Setup>),
    /// A manager's process is killed.
    ManagerKilled,
    /// It is started again.
    ManagerBack(u32),
    /// The manager that leads is stopped.
    LeaderFrozen,
    /// The manager that leads cannot reach anybody.
    LeaderIsolated,
    /// The next write of the journal fails.
    JournalFails,
    /// A driver's process is killed.
    DriverKilled,
    /// The driver of a submitted job is killed.
    LaunchedKilled,
    /// The worker that runs the driver of a submitted job cannot reach anybody.
    LaunchedIsolated,
    /// A client comes to submit that text.
    ClientComes(String),
    /// A connection breaks.
    ConnectionBroken,
    /// Two hosts cannot reach each other.
    Cut,
    /// One host cannot reach any other.
    Isolated,
    /// They can again.
    Healed(Host, Host),
    /// A process is stopped.
    Frozen,
    /// It goes on.
    Thawed(Proc),
    /// A host is slow.
    Slow,
    /// It is as fast as before.
    Fast(Host),
    /// A committed block is no more.
    BlockLost,
    /// A committed block is not what was written.
    BlockCorrupt,
    /// An executor's disk is full.
    DiskFull,
    /// It has room again.
    DiskFreed(Proc),
    /// A process's clock jumps ahead.
    ClockJumped,
    /// Attempts fail by themselves.
    AttemptsFail,
    /// They do not any more.
    AttemptsWork,
    /// A keeper forgets what it keeps.
    KeeperForgets,
    /// Somebody has a job cancelled.
    JobCancelled,
    /// A worker is drained.
    Drained(How),
    /// It is to stay after all.
    DrainTakenBack(WorkerId),
    /// An executor is killed by hand: for scenarios.
    Kill(ExecutorId),
}

pub use drains::How;

/// How long things go wrong at most, in milliseconds of virtual time.
pub const UNFAIR_MS: u64 = 25_000;
const FAULTS_MAX: u64 = 12;

/// Draws all that happens, or takes it from the script.
pub fn draw_all(seed: u64, chance: &mut Chance, options: &Options, members: u32) -> Vec<(Duration, Fault)> {
    if let Some(script) = &options.script {
        return script.clone();
    }
    let drains = drains::draw(seed, options.is_calm);
    let drawn = draw(chance, options).into_iter().chain(drains);
    drawn.chain(roles::draw(seed, options, members)).collect()
}

/// Draws what goes wrong, and when.
fn draw(chance: &mut Chance, options: &Options) -> Vec<(Duration, Fault)> {
    // Some runs are calm: they must succeed.
    let count = if options.is_calm || chance.percent(5) { 0 } else { chance.between(1, FAULTS_MAX) };
    (0..count).map(|_| (chance.millis(200, UNFAIR_MS), draw_one(chance, options))).collect()
}

fn draw_one(chance: &mut Chance, options: &Options) -> Fault {
    match chance.below(100) {
        0..=17 => Fault::ExecutorKilled,
        18..=24 => Fault::WorkerKilled,
        25..=27 if options.restarts_manager => Fault::ManagerKilled,
        25..=29 => Fault::DriverKilled,
        30..=39 => Fault::ConnectionBroken,
        40..=47 => Fault::Cut,
        48..=52 => Fault::Isolated,
        53..=60 => Fault::Frozen,
        61..=65 => Fault::Slow,
        66..=71 => Fault::BlockLost,
        72..=77 => Fault::BlockCorrupt,
        78..=81 => Fault::DiskFull,
        82..=84 => Fault::ClockJumped,
        85..=90 => Fault::AttemptsFail,
        91..=93 => Fault::KeeperForgets,
        94..=96 => Fault::JobCancelled,
        _ => Fault::DriverStarts,
    }
}
