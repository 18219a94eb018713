//! Watching the processes and the manager's view of the cluster while faults come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::cluster::Cluster;
use crate::proc::{self, Usage};
use crate::record::Record;
use crate::schedule::Target;

const INTERVAL: Duration = Duration::from_secs(1);
/// Rounds between two questions to the manager, and between two lines of progress.
const ROUNDS_PER_LOOK: u32 = 5;
const ROUNDS_PER_PROGRESS: u32 = 15;
/// How long after the last fault that concerns it a worker may take to be there again with its executor.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// What a process may take beside an executor's memory, in bytes.
const MEMORY_BESIDE: u64 = 512 << 20;
const FILES_MAX: u64 = 4096;
const THREADS_MAX: u64 = 512;
/// A life is judged for growth when it has lasted as long.
const LIFE_MIN: u64 = 180;

/// The role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The manager.
    Manager,
    /// A worker.
    Worker,
    /// An executor.
    Executor,
}

/// The most that a process of each role took at a time.
pub type Most = BTreeMap<Role, Usage>;

/// What was seen.
#[derive(Debug, Default)]
pub struct Watch {
    most: Most,
    lives: BTreeMap<u32, (Role, Vec<Usage>)>,
    whole: BTreeMap<String, Duration>,
    round: u32,
}

impl Watch {
    /// Watches until the run ends.
    pub fn on(&mut self, cluster: &Cluster, record: &Record) {
        while record.pause(INTERVAL) {
            self.round += 1;
            match cluster.start_those_that_ended() {
                Ok(ended) => ended.into_iter().for_each(|what| record.breach(what)),
                Err(error) => record.breach(format!("a daemon cannot be started again: {error:#}")),
            }
            self.sample(cluster, record);
            if self.round.is_multiple_of(ROUNDS_PER_LOOK) {
                self.look(cluster, record);
            }
            if self.round.is_multiple_of(ROUNDS_PER_PROGRESS) {
                let counts = record.noted().counts.clone();
                record.story.progress(format_args!("{:.0} s: {counts}", record.story.now().as_secs_f64()));
            }
        }
    }

    /// The most that processes took.
    #[must_use]
    pub fn most(&self) -> &Most {
        &self.most
    }

    fn sample(&mut self, cluster: &Cluster, record: &Record) {
        let workers = 0..cluster.setup().workers;
        let mut all = vec![(Role::Manager, cluster.manager())];
        all.extend(workers.clone().filter_map(|worker| Some((Role::Worker, cluster.worker(worker)?))));
        all.extend(workers.filter_map(|worker| Some((Role::Executor, cluster.executor(worker)?))));
        for (role, pid) in all {
            let Some(usage) = proc::usage(pid) else { continue };
            self.lives.entry(pid).or_insert_with(|| (role, Vec::new())).1.push(usage);
            let most = self.most.entry(role).or_default();
            *most = largest(*most, usage);
            let memory_max =
                if role == Role::Executor { cluster.setup().memory.0 } else { 0 } + MEMORY_BESIDE;
            if usage.memory > memory_max || usage.files > FILES_MAX || usage.threads > THREADS_MAX {
                record.breach(format!("{role:?} {pid} takes too much: {usage:?}"));
            }
        }
    }

    /// Each worker must be there with its executor, unless something has just happened to it or to the manager.
    fn look(&mut self, cluster: &Cluster, record: &Record) {
        let Ok(nodes) = cluster.nodes() else { return };
        let now = record.story.now();
        for node in nodes.iter().filter(|node| node.is_whole()) {
            self.whole.insert(node.worker.clone(), now);
        }
        for worker in 0..cluster.setup().workers {
            let seen = self.whole.get(&format!("w{worker}")).copied().unwrap_or_default();
            let Some(hit) = last_hit(record, worker, now) else { continue };
            if now.saturating_sub(seen.max(hit)) > RECOVERY_MAX {
                let known = nodes.iter().find(|node| node.worker == format!("w{worker}"));
                record
                    .breach(format!("worker w{worker} has not come back within {RECOVERY_MAX:?}: {known:?}"));
                // Told again when it has been missed for as long again.
                self.whole.insert(format!("w{worker}"), now);
            }
        }
    }

    /// Those whose use of memory, files or threads grew all their life. Peaks of its second and last quarter are compared: what is
    /// kept warm is there by then.
    #[must_use]
    pub fn growing(&self) -> Vec<String> {
        let judge = |(pid, (role, samples)): (&u32, &(Role, Vec<Usage>))| {
            let quarter = samples.len() / 4;
            if (samples.len() as u64) < LIFE_MIN {
                return None;
            }
            let peak = |part: &[Usage]| part.iter().copied().fold(Usage::default(), largest);
            let (before, after) = (peak(&samples[quarter..2 * quarter]), peak(&samples[3 * quarter..]));
            let memory_grows = *role != Role::Executor && after.memory > before.memory * 3 / 2 + (64 << 20);
            let grows =
                memory_grows || after.files > before.files + 64 || after.threads > before.threads + 32;
            grows.then(|| format!("{role:?} {pid} grows: from {before:?} to {after:?}"))
        };
        self.lives.iter().filter_map(judge).collect()
    }
}

fn largest(one: Usage, other: Usage) -> Usage {
    Usage {
        memory: one.memory.max(other.memory),
        files: one.files.max(other.files),
        threads: one.threads.max(other.threads),
    }
}

/// When the last fault that concerns a worker ended; none while one lasts.
fn last_hit(record: &Record, worker: u32, now: Duration) -> Option<Duration> {
    let concerns = |target: Target| target == Target::Manager || target.workers().contains(&worker);
    let noted = record.noted();
    let all = noted.befallen.iter().filter(|one| concerns(one.fault.target));
    all.map(|one| one.to).try_fold(Duration::ZERO, |last, to| Some(last.max(to?))).map(|last| last.min(now))
}
