//! What is said because workers are drained: outputs are taken over, readers hear of it, and the manager of what is left.

use std::sync::Arc;

use firesteel_base::{AttemptKey, WorkerId, version};
use firesteel_protocol::{MalformedMessage, v1};
use v1::driver_to_executor::Message as ToExecutor;
use v1::driver_to_manager::Message as ToManager;

use super::convert;
use super::messages::RunId;
use super::run::DriverLoop;
use crate::machine::{Event, LeftThere, Life, MapOutput};

impl DriverLoop {
    /// Has an executor take an output over.
    pub fn take_output(&mut self, run: RunId, output: &MapOutput, life: Life) {
        let producer = output.producer;
        let Some(executor) = self.refs.get(&life).cloned() else {
            return self.tell(run, Event::OutputNotTaken { producer, life });
        };
        self.link(&life, executor);
        let message = v1::TakeOutput { output: Some(self.wire_output(output, &(0..u32::MAX))) };
        let link = self.links.get_mut(&life).expect("it was just opened");
        link.taking.insert(producer, message.clone());
        link.send(ToExecutor::TakeOutput(message));
    }

    pub fn output_taken(&mut self, life: &Life, taken: &v1::OutputTaken) -> Result<(), MalformedMessage> {
        let producer = convert::attempt(taken.producer.as_ref())?;
        if let Some(link) = self.links.get_mut(life) {
            link.taking.remove(&producer);
        }
        let life = life.clone();
        let event = match &taken.failure {
            None => Event::OutputTaken { producer, life },
            Some(failure) => {
                tracing::info!(%producer, %life, reason = failure.message, "a map output was not taken over");
                Event::OutputNotTaken { producer, life }
            }
        };
        self.report(producer, event);
        Ok(())
    }

    /// Tells those who may read an output, this process among them, where it is now.
    pub fn output_moved(&mut self, output: &Arc<MapOutput>, lives: &[Life]) {
        let holder = self.shuffle_output(output).holder;
        self.config.fetcher.note_moved(output.producer, holder);
        let told = self.wire_output(output, &(0..0));
        let message = v1::OutputMoved { producer: told.producer, holder: told.holder };
        for link in lives.iter().filter_map(|life| self.links.get(life)) {
            if link.wire >= version::WIRE_DRAIN {
                link.send(ToExecutor::OutputMoved(message.clone()));
            }
        }
    }

    /// Tells the manager what a job still has at a worker that is drained.
    pub fn say_left(&mut self, run: RunId, worker: &WorkerId, left: LeftThere) {
        let Some(job) = self.jobs[&run].manager_job.filter(|_| self.manager_wire >= version::WIRE_DRAIN)
        else {
            return;
        };
        let LeftThere { attempts, outputs, bytes } = left;
        let worker = worker.to_string();
        self.manager.send(ToManager::DrainProgress(v1::DrainProgress {
            job: job.0,
            worker,
            attempts,
            outputs,
            bytes,
        }));
    }

    /// Lets go of a take that is not wanted any more, should its connection break.
    pub fn forget_take(&mut self, life: &Life, producer: AttemptKey) {
        if let Some(link) = self.links.get_mut(life) {
            link.taking.remove(&producer);
        }
    }
}
