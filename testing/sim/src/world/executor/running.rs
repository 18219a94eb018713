//! Runs of attempts: admitted, given cores, moved on step by step, ended.

use std::rc::Rc;
use std::time::Duration;

use firesteel_base::{AttemptKey, Class, StageId, UserError};
use firesteel_driver::machine::{AttemptFailure, Launch, LostBlock};
use firesteel_shuffle::{BlockStat, LaneOutput, LaneSizes};

use super::{Executor, Phase, Run};
use crate::channel::{Located, StageWork, Stated};
use crate::mutation;
use crate::plan::{Read, Rows, compute};
use crate::world::fetch::{Fetch, Fetched, Wanted};
use crate::world::{Scene, Timer};

/// Bytes of a row, as sizes tell them.
const ROW_BYTES: u64 = 10;
/// How long attempts compute, in milliseconds; some take ten times as long.
const COMPUTES: (u64, u64) = (2, 400);

impl Executor {
    pub(super) fn admit(
        &mut self,
        number: u64,
        launch: Located<Launch>,
        work: Option<Rc<StageWork>>,
        scene: &mut Scene,
    ) {
        let key = launch.what.attempt;
        let Some(work) = work else {
            return self.refuse(key, Class::Transient, "its stage's plan is not here", scene);
        };
        if Some(launch.what.life.epoch) != self.epoch {
            return self.refuse(key, Class::Transient, "it is in another epoch", scene);
        }
        if launch.what.memory_bytes > self.memory {
            return self.refuse(key, Class::Resources, "it has less memory", scene);
        }
        let Ok(mut answer) = self.pool.ask(launch.what.lanes as usize) else {
            return self.refuse(
                key,
                Class::Resources,
                "it has fewer cores, or too many wait for them",
                scene,
            );
        };
        let run = Run {
            key,
            launch: launch.what,
            work,
            unknown: launch.unknown,
            cancelled: None,
            read: Read::new(),
            fetch: Fetch::default(),
            step: 0,
            phase: Phase::Queued,
            cores: None,
            ask: Box::new(move || answer.try_recv().ok()),
        };
        self.runs.insert(number, run);
        self.hand_out_cores(scene);
    }

    fn refuse(&mut self, key: AttemptKey, class: Class, why: &str, scene: &mut Scene) {
        let failure = AttemptFailure { class, error: UserError::new(why), lost: None };
        scene.tell(self.proc, || format!("does not run {key}: {why}"));
        self.registry.end(key, Stated::Failed(failure.clone()));
        self.report(key, Stated::Failed(failure), scene);
    }

    /// Lets runs begin whose turn it is.
    fn hand_out_cores(&mut self, scene: &mut Scene) {
        let mut begun = Vec::new();
        for (number, run) in self.runs.iter_mut().filter(|(_, run)| run.phase == Phase::Queued) {
            run.cores = (run.ask)();
            if run.cores.is_some() {
                run.phase = Phase::Reading;
                begun.push((*number, run.key));
            }
        }
        for (number, key) in begun {
            scene.tell(self.proc, || format!("runs {key}"));
            self.report(key, Stated::Started, scene);
            self.go_on(number, scene);
        }
    }

    /// Has a run that reads look for its next block.
    pub(super) fn go_on(&mut self, number: u64, scene: &mut Scene) {
        if self.runs.get(&number).is_some_and(|run| run.phase == Phase::Reading) {
            self.plan_step(number, scene.chance.millis(0, 3), scene);
        }
    }

    fn plan_step(&mut self, number: u64, after: Duration, scene: &mut Scene) {
        let slow = u32::try_from(scene.slowness(self.host)).unwrap_or(u32::MAX);
        let Some(run) = self.runs.get_mut(&number) else { return };
        run.step += 1;
        scene.wake(self.proc, after * slow, Timer::Attempt(run.key, run.step));
    }

    /// Which run a step is of, if it is the next one of it.
    #[must_use]
    pub fn run_at(&self, key: &AttemptKey, step: u64) -> Option<u64> {
        let found = self.runs.iter().find(|(_, run)| run.key == *key && run.step == step);
        found.map(|(number, _)| *number)
    }

    /// What a run reads next, if it is there to be read.
    #[must_use]
    pub fn wanted_by(&self, number: u64) -> Option<(StageId, Wanted, Fetch)> {
        let run = self.runs.get(&number).filter(|run| run.phase == Phase::Reading)?;
        run.next_block().map(|(input, wanted)| (input, self.followed(wanted), run.fetch))
    }

    /// A block was asked for.
    pub fn fetched(
        &mut self,
        number: u64,
        input: StageId,
        wanted: &Wanted,
        came: Fetched,
        scene: &mut Scene,
    ) {
        let came = self.unless_gone(wanted, came);
        let Some(run) = self.runs.get_mut(&number) else { return };
        match came {
            Fetched::Rows(rows, epoch) => {
                run.take(input, wanted.producer, rows);
                let key = run.key;
                scene.check.attempt_reads(key, wanted, epoch);
                self.go_on(number, scene);
            }
            Fetched::Again(fetch, after) => {
                run.fetch = fetch;
                self.plan_step(number, after, scene);
            }
            Fetched::Failed(why) => {
                let (producer, life) = (wanted.producer, wanted.life.clone());
                let error = UserError::new(format!("block of {producer} at {life}: {why}"));
                let lost = Some(LostBlock { producer, life });
                self.end_run(number, Err(AttemptFailure { class: Class::Fetch, error, lost }), scene);
            }
        }
    }

    /// A run goes on that has nothing to read at the moment.
    pub fn step(&mut self, number: u64, scene: &mut Scene) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        match run.phase {
            Phase::Reading if run.waits_for_more() => {}
            Phase::Reading => {
                run.phase = Phase::Writing;
                let long = if scene.chance.percent(5) { 10 } else { 1 };
                let takes = scene.chance.millis(COMPUTES.0, COMPUTES.1) * long;
                let key = run.key;
                self.report(key, Stated::Progress(1, ROW_BYTES), scene);
                self.plan_step(number, takes, scene);
            }
            Phase::Writing => self.finish(number, scene),
            Phase::Ending => {
                let (class, reason) = run.cancelled.clone().expect("it was asked to end");
                let error = UserError::new(reason);
                self.end_run(number, Err(AttemptFailure { class, error, lost: None }), scene);
            }
            Phase::Queued => {}
        }
    }

    fn finish(&mut self, number: u64, scene: &mut Scene) {
        let run = &self.runs[&number];
        let failure = if scene.full_disks.contains(&self.proc) {
            Some((Class::Resources, "no space left on device"))
        } else {
            scene.attempt_fault()
        };
        let done = match failure {
            Some((class, why)) => Err(AttemptFailure { class, error: UserError::new(why), lost: None }),
            None => {
                let mut rows = compute(&run.work, &run.launch, &run.all_read());
                mutation::of_attempt(scene.mutation.as_mut(), &mut rows);
                Ok(rows)
            }
        };
        self.end_run(number, done, scene);
    }

    /// Asks a run to end early.
    pub(super) fn end_early(&mut self, run: Option<u64>, class: Class, why: &str, scene: &mut Scene) {
        let Some(number) = run else { return };
        self.takes.remove(&number);
        let Some(run) = self.runs.get_mut(&number) else { return };
        if run.cancelled.is_none() {
            run.cancelled = Some((class, why.to_owned()));
            run.phase = Phase::Ending;
            self.plan_step(number, scene.chance.millis(0, 50), scene);
        }
    }

    /// Commits what was written, or discards it, and reports.
    fn end_run(&mut self, number: u64, done: Result<Rows, AttemptFailure>, scene: &mut Scene) {
        let Some(run) = self.runs.remove(&number) else { return };
        let key = run.key;
        drop(run);
        if let Ok(rows) = &done {
            let is_wanted = self.registry.run_of(&key) == Some(number);
            if is_wanted {
                self.store.commit(key, rows.clone(), scene.agenda.now());
            }
        }
        let report = match done {
            Ok(rows) => Stated::Finished(rows.iter().map(|lane| sizes(lane)).collect()),
            Err(failure) => Stated::Failed(failure),
        };
        scene.tell(self.proc, || match &report {
            Stated::Finished(lanes) => {
                format!("commits {key}, {} rows", lanes.iter().map(LaneSizes::rows).sum::<u64>())
            }
            Stated::Failed(failure) => format!("{key} ends: {:?}, {}", failure.class, failure.error.message),
            Stated::Started | Stated::Progress(..) | Stated::Taken | Stated::NotTaken => String::new(),
        });
        if self.registry.run_of(&key) == Some(number) {
            self.registry.end(key, report.clone());
            self.report(key, report, scene);
        }
        self.hand_out_cores(scene);
    }
}

fn sizes(blocks: &[Vec<u64>]) -> LaneSizes {
    let stat = |block: &Vec<u64>| {
        let rows = block.len() as u64;
        BlockStat { rows, bytes: rows * ROW_BYTES }
    };
    LaneSizes::of(&LaneOutput { partitions: blocks.iter().map(stat).collect() })
}
