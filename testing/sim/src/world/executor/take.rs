//! Outputs that are taken over: a model of `executor/src/take.rs`.

use std::time::Duration;

use firesteel_base::AttemptKey;
use firesteel_driver::machine::{Life, MapOutput};

use super::registry::{Begun, Voice};
use super::{Executor, Phase};
use crate::channel::{Conn, Located, Stated};
use crate::world::fetch::{Fetch, Fetched, Wanted};
use crate::world::{Scene, Timer};

/// How long it takes to fetch an output, in milliseconds.
const TAKES: (u64, u64) = (1, 400);

/// An output that is taken over.
#[derive(Debug)]
pub struct Take {
    wanted: Wanted,
    fetch: Fetch,
}

impl Executor {
    pub(super) fn take_output(
        &mut self,
        conn: Conn,
        voice: Voice,
        output: Located<MapOutput>,
        scene: &mut Scene,
    ) {
        let (producer, life) = (output.what.producer, output.what.life);
        if !self.claim(producer.job(), voice, scene) {
            return self.belongs_to_another(conn, producer, scene);
        }
        self.numbered += 1;
        match self.registry.begin(producer, self.numbered) {
            Begun::Running(_) => {}
            Begun::Ended(report) => scene.send(conn, 1, crate::channel::Message::Report(producer, report)),
            Begun::New(_) => {
                scene.tell(self.proc, || format!("takes {producer} over from {life}"));
                let has_address = !output.unknown.contains(&life);
                let wanted = Wanted { producer, life, has_address };
                self.takes.insert(self.numbered, Take { wanted, fetch: Fetch::default() });
                let after = scene.chance.millis(TAKES.0, TAKES.1);
                self.take_on(producer, after, scene);
            }
        }
    }

    fn take_on(&mut self, producer: AttemptKey, after: Duration, scene: &mut Scene) {
        if let Some(number) = self.registry.run_of(&producer) {
            scene.wake(self.proc, after, Timer::Take(number));
        }
    }

    /// What a take fetches, if it is still wanted.
    #[must_use]
    pub fn taken_by(&self, number: u64) -> Option<(Wanted, Fetch)> {
        self.takes.get(&number).map(|take| (self.followed(take.wanted.clone()), take.fetch))
    }

    /// An output that is taken over was asked for.
    pub fn take_fetched(&mut self, number: u64, came: Fetched, scene: &mut Scene) {
        let Some(mut take) = self.takes.remove(&number) else { return };
        let came = self.unless_gone(&self.followed(take.wanted.clone()), came);
        let producer = take.wanted.producer;
        let report = match came {
            Fetched::Again(fetch, after) => {
                take.fetch = fetch;
                self.takes.insert(number, take);
                return self.take_on(producer, after, scene);
            }
            Fetched::Rows(rows, _) => {
                self.store.commit(producer, (*rows).clone(), scene.agenda.now());
                Stated::Taken
            }
            Fetched::Failed(_) => Stated::NotTaken,
        };
        scene.tell(self.proc, || format!("{producer} is taken over: {report:?}"));
        self.registry.end(producer, report.clone());
        self.report(producer, report, scene);
    }

    /// An output is held elsewhere than readers were told.
    pub(super) fn output_moved(&mut self, producer: AttemptKey, life: Life) {
        self.moved.insert(producer, life);
        for run in self.runs.values_mut().filter(|run| run.phase == Phase::Reading) {
            run.fetch = Fetch::default();
        }
    }

    /// An executor is gone for good: whoever waits for it is woken.
    pub(super) fn holder_gone(&mut self, life: Life, scene: &mut Scene) {
        self.gone.insert(life);
        for number in self.runs.keys().copied().collect::<Vec<_>>() {
            self.go_on(number, scene);
        }
        let taking = self.takes.values().map(|take| take.wanted.producer).collect::<Vec<_>>();
        taking.into_iter().for_each(|producer| self.take_on(producer, Duration::ZERO, scene));
    }

    /// Nobody who is gone is asked again.
    pub(super) fn unless_gone(&self, wanted: &Wanted, came: Fetched) -> Fetched {
        match came {
            Fetched::Again(..) if self.gone.contains(&wanted.life) => Fetched::Failed("the holder is gone"),
            came => came,
        }
    }

    /// What is wanted, at the place where it is now.
    pub(super) fn followed(&self, wanted: Wanted) -> Wanted {
        match self.moved.get(&wanted.producer) {
            Some(life) => Wanted { life: life.clone(), has_address: true, ..wanted },
            None => wanted,
        }
    }
}
