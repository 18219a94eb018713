//! Drawing faults within a budget: no host has two at a time, and one worker at least has none.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Family, Fault, Kind, Target};
use crate::chance::Chance;

/// How long a host is left alone after a fault, at least.
const REST: Duration = Duration::from_secs(1);
/// How long a process is stopped, a link cut.
const HALT: RangeInclusive<u64> = 500..=10_000;
/// How long a daemon is away before it is started again.
const AWAY: RangeInclusive<u64> = 200..=8_000;
/// How long a link is bad, a disk full.
const BAD: RangeInclusive<u64> = 1_000..=10_000;
const LOSS_PERCENT: RangeInclusive<u64> = 1..=30;
const SLOW_KBIT: RangeInclusive<u64> = 500..=20_000;
/// Drivers are numbered below this.
const DRIVERS: u64 = 4;

/// What faults may be drawn, and when.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many workers there are.
    pub workers: u32,
    /// The kinds.
    pub families: Vec<Family>,
    /// The time between two faults.
    pub every: RangeInclusive<Duration>,
    /// No fault begins later.
    pub until: Duration,
}

/// The faults of a seed, in the order of time.
#[derive(Debug)]
pub struct Draw {
    limits: Limits,
    chance: Chance,
    now: Duration,
    /// Until when each host is hit or rests; the manager is none of the workers.
    busy: BTreeMap<Option<u32>, Duration>,
}

impl Draw {
    /// Those of `seed`.
    #[must_use]
    pub fn new(seed: u64, limits: Limits) -> Self {
        Self { limits, chance: Chance::new(seed, 0), now: Duration::ZERO, busy: BTreeMap::new() }
    }

    fn is_free(&self, host: Option<u32>) -> bool {
        self.busy.get(&host).is_none_or(|until| *until <= self.now)
    }

    /// Whether the budget has room for a fault of this target.
    fn allows(&self, target: Target) -> bool {
        let hit = target.workers();
        let untouched =
            (0..self.limits.workers).filter(|worker| !hit.contains(worker) && self.is_free(Some(*worker)));
        match target {
            Target::Manager => self.is_free(None),
            Target::Driver(_) => true,
            Target::Worker(_) | Target::Executor(_) | Target::Between(..) => {
                hit.iter().all(|worker| self.is_free(Some(*worker))) && untouched.count() > 0
            }
        }
    }

    fn target(&mut self, family: Family) -> Option<Target> {
        let with_manager = self.limits.families.contains(&Family::Manager);
        let all = 0..self.limits.workers;
        let workers = all.clone().map(Target::Worker);
        let executors = all.clone().map(Target::Executor);
        let mut targets: Vec<Target> = match family {
            Family::Kill => {
                let drivers = (0..DRIVERS).filter_map(|driver| Some(Target::Driver(driver.try_into().ok()?)));
                // As many drivers as there are workers: one kind of target is as likely as another.
                workers.chain(executors).chain(drivers.take(all.len())).collect()
            }
            Family::Stop => workers.chain(executors).collect(),
            Family::Cut => {
                let pairs = all.clone().flat_map(|one| (one + 1..all.end).map(move |other| (one, other)));
                workers.chain(pairs.map(|(one, other)| Target::Between(one, other))).collect()
            }
            Family::Loss | Family::DiskFull => workers.collect(),
            Family::Corrupt => executors.collect(),
            Family::Manager => vec![Target::Manager],
        };
        if with_manager && matches!(family, Family::Cut | Family::Loss) {
            targets.push(Target::Manager);
        }
        targets.retain(|target| self.allows(*target));
        self.chance.pick(&targets)
    }

    fn kind(&mut self, family: Family) -> Kind {
        let number = |range: RangeInclusive<u64>, chance: &mut Chance| {
            let drawn = range.start() + chance.below(range.end() - range.start() + 1);
            u32::try_from(drawn).expect("a small number")
        };
        match family {
            Family::Kill => Kind::Kill,
            Family::Stop => Kind::Stop,
            Family::Cut => Kind::Cut,
            Family::Loss if self.chance.percent(50) => {
                Kind::Loss { percent: number(LOSS_PERCENT, &mut self.chance) }
            }
            Family::Loss => Kind::Slow { kbit: number(SLOW_KBIT, &mut self.chance) },
            Family::DiskFull => Kind::DiskFull,
            Family::Corrupt => Kind::Corrupt,
            Family::Manager if self.chance.percent(50) => Kind::Kill,
            Family::Manager => Kind::Stop,
        }
    }

    fn lasts(&mut self, kind: Kind, target: Target) -> Duration {
        let span = match (kind, target) {
            (Kind::Kill, Target::Manager | Target::Worker(_)) => AWAY,
            (Kind::Kill | Kind::Corrupt, _) => 0..=0,
            (Kind::Stop | Kind::Cut, _) => HALT,
            (Kind::Loss { .. } | Kind::Slow { .. } | Kind::DiskFull, _) => BAD,
        };
        self.chance.span(Duration::from_millis(*span.start()), Duration::from_millis(*span.end()))
    }

    fn occupy(&mut self, target: Target, until: Duration) {
        for worker in target.workers() {
            self.busy.insert(Some(worker), until);
        }
        if target == Target::Manager {
            self.busy.insert(None, until);
        }
    }
}

impl Iterator for Draw {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        loop {
            let every = self.limits.every.clone();
            self.now += self.chance.span(*every.start(), *every.end()).max(Duration::from_millis(1));
            if self.now >= self.limits.until {
                return None;
            }
            let families = self.limits.families.clone();
            let family = self.chance.pick(&families)?;
            // Where all that it could hit has a fault already, this turn passes.
            let Some(target) = self.target(family) else { continue };
            let kind = self.kind(family);
            let lasts = self.lasts(kind, target);
            self.occupy(target, self.now + lasts + REST);
            let millis = |span: Duration| u64::try_from(span.as_millis()).expect("within a run");
            return Some(Fault { at_ms: millis(self.now), kind, target, for_ms: millis(lasts) });
        }
    }
}
