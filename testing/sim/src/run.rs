//! One run, from a seed to what has come of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use firesteel_base::Timestamp;

use crate::check::Counts;
use crate::faults::{Fault, UNFAIR_MS};
use crate::mutation::Kind;
use crate::story::Line;
use crate::world::World;

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether its story is kept.
    pub keeps_story: bool,
    /// What is broken on purpose.
    pub mutation: Option<Kind>,
    /// Nothing goes wrong: every query must succeed.
    pub is_calm: bool,
    /// Whether the manager may be killed and started again.
    pub restarts_manager: bool,
    /// Whether faults that are known and not mended are drawn too: see [`known`](crate::known).
    pub shows_known: bool,
    /// What happens, in place of what is drawn.
    pub script: Option<Vec<(Duration, Fault)>>,
    /// Whether jobs are submitted; else they are in some worlds.
    pub submits: bool,
    /// How many managers there are; else one in most worlds, and three in others.
    pub managers: Option<u32>,
    /// Steps after which the run is broken off.
    pub steps_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keeps_story: false,
            mutation: None,
            is_calm: false,
            restarts_manager: true,
            shows_known: false,
            script: None,
            submits: false,
            managers: None,
            steps_max: 2_000_000,
        }
    }
}

/// What has come of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub violation: Option<String>,
    /// Steps made.
    pub steps: u64,
    /// Virtual time that went by.
    pub time: Timestamp,
    /// What has come of its queries.
    pub counts: Counts,
    /// What has happened, if that was kept.
    pub story: Vec<Line>,
}

/// How long messages and time-outs may take to settle once all queries have ended, in milliseconds.
const SETTLES_MS: u64 = 180_000;
/// Queues are measured every so many steps.
const MEASURED_EVERY: u64 = 64;

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    let mut world = World::new(seed, options);
    let mut steps = 0;
    // A machine that finds itself in disorder panics.
    let made = catch_unwind(AssertUnwindSafe(|| go(&mut world, options, &mut steps)));
    if let Err(panic) = made {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        world.scene.check.violated(format!("a machine panicked: {text}"));
    }
    Report {
        seed,
        violation: world.scene.check.violation.clone(),
        steps,
        time: world.scene.now(),
        counts: world.scene.check.counts,
        story: world.scene.story.lines().to_vec(),
    }
}

fn go(world: &mut World, options: &Options, steps: &mut u64) {
    let last = Timestamp(UNFAIR_MS) + World::patience();
    let mut settled = None;
    while *steps < options.steps_max && world.scene.check.violation.is_none() {
        if !world.step() {
            return world.scene.check.violated("nothing is due any more");
        }
        *steps += 1;
        if steps.is_multiple_of(MEASURED_EVERY) {
            world.check_bounds();
        }
        let now = world.scene.now();
        let unfinished = if steps.is_multiple_of(16) { world.unfinished() } else { continue };
        if now.0 < UNFAIR_MS || !unfinished.is_empty() {
            settled = None;
            if now > last {
                let what = format!("not ended in time: {}", unfinished.join(", "));
                world.scene.check.violated(what);
            }
        } else if now.0 > *settled.get_or_insert(now.0) + SETTLES_MS {
            return end(world, options);
        }
    }
}

fn end(world: &mut World, options: &Options) {
    world.check_leftovers();
    let Counts { failed, cancelled, abandoned, .. } = world.scene.check.counts;
    if options.is_calm && failed + cancelled + abandoned > 0 {
        world.scene.check.violated(format!("nothing went wrong, and {failed} queries failed"));
    }
}
