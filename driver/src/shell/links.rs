//! The connections to executors, and what comes over them.

use firesteel_base::{AttemptKey, version};
use firesteel_protocol::{MalformedMessage, v1};
use v1::driver_to_executor::Message as ToExecutor;
use v1::executor_to_driver::Message as FromExecutor;

use super::convert;
use super::executor_link::{self, ExecutorLink};
use super::messages::{LinkNews, RunId};
use super::run::DriverLoop;
use crate::machine::{Event, Life};

impl DriverLoop {
    /// The link to an executor, opened if there is none.
    pub fn link(&mut self, life: &Life, executor: v1::ExecutorRef) {
        if !self.links.contains_key(life) {
            let link = self.open_link(life, executor);
            self.links.insert(life.clone(), link);
        }
    }

    fn open_link(&mut self, life: &Life, executor: v1::ExecutorRef) -> ExecutorLink {
        self.link_generation += 1;
        let (generation, now) = (self.link_generation, self.now());
        executor_link::open(
            self.peers.clone(),
            life.clone(),
            executor,
            generation,
            now,
            self.inbox_sender.clone(),
        )
    }

    /// Says something to an executor; what concerns one that is gone is settled.
    pub fn say(&mut self, life: &Life, message: ToExecutor) {
        if let Some(link) = self.links.get(life) {
            link.send(message);
        }
    }

    /// Has nobody wait for blocks of an executor that is gone with them: not here, and not at any other.
    pub fn holder_gone(&self, gone: &Life) {
        self.config.fetcher.note_gone(gone.executor.clone(), gone.epoch);
        let message = v1::HolderGone { executor: Some((&gone.executor).into()), epoch: gone.epoch.0 };
        for link in self.links.values().filter(|link| link.wire >= version::WIRE_GONE) {
            link.send(ToExecutor::HolderGone(message.clone()));
        }
    }

    pub fn link_news(&mut self, life: Life, generation: u64, news: LinkNews) {
        let now = self.now();
        let Some(link) = self.links.get_mut(&life).filter(|link| link.generation == generation) else {
            return;
        };
        match news {
            LinkNews::Said(message) => {
                link.heard = now;
                if let Err(fault) = self.executor_said(&life, message) {
                    tracing::warn!(executor = %life, %fault, "ignored an executor's message");
                }
            }
            LinkNews::Down(reason) if link.attached && !link.is_retry => self.try_link_again(&life, &reason),
            LinkNews::Down(reason) => self.lose_link(&life, &reason),
        }
    }

    fn executor_said(&mut self, life: &Life, message: v1::ExecutorToDriver) -> Result<(), MalformedMessage> {
        match message.message {
            Some(FromExecutor::Attached(attached)) => self.attached(life, attached.wire_version),
            Some(FromExecutor::Started(started)) => {
                let attempt = convert::attempt(started.attempt.as_ref())?;
                self.report(attempt, Event::AttemptStarted { attempt, life: life.clone() });
            }
            Some(FromExecutor::Progress(progress)) => {
                let attempt = convert::attempt(progress.attempt.as_ref())?;
                let (rows, bytes) = (progress.rows, progress.bytes);
                self.report(attempt, Event::AttemptProgress { attempt, life: life.clone(), rows, bytes });
            }
            Some(FromExecutor::Finished(finished)) => {
                let attempt = convert::attempt(finished.attempt.as_ref())?;
                self.attempt_ended(life, attempt);
                let lanes = convert::lanes(&finished.lanes)?;
                if let Some(job) = self.run_of(attempt).and_then(|run| self.jobs.get_mut(&run)) {
                    job.measured = Some((attempt, finished.metrics.unwrap_or_default()));
                }
                self.report(attempt, Event::AttemptFinished { attempt, life: life.clone(), lanes });
                self.drain();
            }
            Some(FromExecutor::Failed(failed)) => {
                let attempt = convert::attempt(failed.attempt.as_ref())?;
                self.attempt_ended(life, attempt);
                let failure = convert::failure(failed.failure.as_ref())?;
                self.report(attempt, Event::AttemptFailed { attempt, life: life.clone(), failure });
            }
            Some(FromExecutor::OutputTaken(taken)) => self.output_taken(life, &taken)?,
            Some(FromExecutor::Pong(_)) => {}
            None => {
                return Err(MalformedMessage::new(
                    "ExecutorToDriver.message",
                    "of a kind unknown to this release",
                ));
            }
        }
        Ok(())
    }

    fn attached(&mut self, life: &Life, wire: u32) {
        if let Some(link) = self.links.get_mut(life) {
            link.wire = version::agreed(wire);
            link.attached = true;
            link.is_retry = false;
        }
    }

    fn attempt_ended(&mut self, life: &Life, attempt: AttemptKey) {
        if let Some(link) = self.links.get_mut(life) {
            link.launched.remove(&attempt);
        }
    }

    /// Hands a report to the machine of its job. Without one the job has ended, and the report is of no use.
    pub fn report(&mut self, attempt: AttemptKey, event: Event) {
        if let Some(run) = self.run_of(attempt) {
            self.tell(run, event);
        }
    }

    fn run_of(&self, attempt: AttemptKey) -> Option<RunId> {
        self.jobs.iter().find(|(_, job)| job.owns(attempt)).map(|(run, _)| *run)
    }

    /// The executor keeps everything for a moment: who is back in time goes on as if nothing had been.
    fn try_link_again(&mut self, life: &Life, reason: &str) {
        let Some(executor) = self.refs.get(life).cloned() else { return self.lose_link(life, reason) };
        let Some(broken) = self.links.remove(life) else { return };
        tracing::info!(executor = %life, reason, "lost the connection, trying again");
        let mut link = self.open_link(life, executor);
        link.is_retry = true;
        (link.launched, link.taking) = (broken.launched, broken.taking);
        let put: Vec<_> =
            broken.put.into_iter().filter_map(|key| Some((self.run_with_stage(key)?, key))).collect();
        for (run, key) in put {
            link.put.insert(key);
            if let Some(message) = self.put_stage_message(run, key, life) {
                link.send(ToExecutor::PutStage(message));
            }
        }
        for launch in link.launched.values() {
            link.send(ToExecutor::Launch(launch.clone()));
        }
        for take in link.taking.values() {
            link.send(ToExecutor::TakeOutput(take.clone()));
        }
        self.links.insert(life.clone(), link);
    }

    fn run_with_stage(&self, key: firesteel_base::StageKey) -> Option<RunId> {
        self.jobs.iter().find(|(_, job)| job.stage_keys().contains(&key)).map(|(run, _)| *run)
    }

    pub fn lose_link(&mut self, life: &Life, reason: &str) {
        self.links.remove(life);
        tracing::info!(executor = %life, reason, "the executor cannot be reached");
        let reason = format!("it cannot be reached: {reason}");
        let blocks_kept = self.refs.get(life).is_some_and(|executor| !executor.keeper_address.is_empty());
        self.tell_all(&Event::LinkLost { life: life.clone(), reason, blocks_kept });
    }
}
