//! What a worker knows of its executors and drivers, and what the manager must hear of it.

use std::collections::{BTreeMap, VecDeque};

use firesteel_base::{Epoch, JobId};
use firesteel_protocol::v1;
use v1::worker_to_manager::Message;

use super::driver_child::{DriverEnd, Launched};
use super::executor_child::ExecutorEvent;
use super::metrics::SeenExecutor;
use crate::process::Ready;

/// The worker's memory: pure bookkeeping, so that what a manager hears after a lost connection can be tested.
#[derive(Debug, Default)]
pub(crate) struct State {
    executors: BTreeMap<u32, ExecutorState>,
    drivers_ended: VecDeque<(Launched, DriverEnd)>,
}

/// Ends of drivers that a manager hears of again when it comes back.
const DRIVERS_ENDED_MAX: usize = 256;

#[derive(Debug, Default)]
struct ExecutorState {
    life: u64,
    up: Option<Ready>,
    epoch: Option<Epoch>,
    down: Option<(Epoch, String)>,
    /// It is not started again.
    given_up: bool,
    usage: Option<v1::StatusReply>,
    /// How often it has answered, in all of its lives.
    answers: u64,
}

impl State {
    /// Notes what happened to an executor and returns what the manager must hear at once.
    pub(crate) fn executor(&mut self, index: u32, event: ExecutorEvent) -> Option<Message> {
        let state = self.executors.entry(index).or_default();
        match event {
            ExecutorEvent::Up { life, ready } => {
                let answers = state.answers;
                *state = ExecutorState { life, up: Some(ready.clone()), answers, ..ExecutorState::default() };
                Some(up(index, &ready, None))
            }
            ExecutorEvent::Down { life, reason } => {
                let was_up = state.up.take().is_some();
                let epoch = state.epoch.take().unwrap_or_default();
                let (down_since, answers) = (Some((epoch, reason.clone())), state.answers);
                *state = ExecutorState { life, down: down_since, answers, ..ExecutorState::default() };
                was_up.then(|| down(index, epoch, &reason))
            }
            ExecutorEvent::Usage { reply } => {
                state.answers += 1;
                state.usage = state.up.is_some().then_some(reply);
                None
            }
            ExecutorEvent::GivenUp { reason } => {
                let epoch = state.down.take().map(|(epoch, _)| epoch).unwrap_or_default();
                (state.down, state.given_up) = (Some((epoch, reason.clone())), true);
                Some(down(index, epoch, &reason))
            }
        }
    }

    /// Notes the epoch that the manager gave, and returns the life it is for. When that life has ended meanwhile the
    /// manager must hear so: it did not know the epoch by which that was told before.
    pub(crate) fn epoch(&mut self, index: u32, epoch: Epoch) -> Result<u64, v1::ExecutorDown> {
        let state = self.executors.entry(index).or_default();
        if state.up.is_some() {
            state.epoch = Some(epoch);
            return Ok(state.life);
        }
        let (ended, reason) = state.down.get_or_insert((epoch, "it is not running".to_owned()));
        *ended = epoch;
        Err(v1::ExecutorDown { index, epoch: epoch.0, reason: reason.clone() })
    }

    /// Notes how a driver ended and returns what the manager must hear.
    pub(crate) fn driver_ended(&mut self, launched: Launched, end: DriverEnd) -> Message {
        let message = ended(launched, &end);
        self.drivers_ended.push_back((launched, end));
        if self.drivers_ended.len() > DRIVERS_ENDED_MAX {
            self.drivers_ended.pop_front();
        }
        message
    }

    /// What the manager must hear of a launch that has ended.
    pub(crate) fn end_of(&self, launched: Launched) -> Option<Message> {
        let found = self.drivers_ended.iter().find(|(ended, _)| *ended == launched);
        found.map(|(launched, end)| ended(*launched, end))
    }

    /// Forgets a job whose result was freed.
    pub(crate) fn forget_job(&mut self, job: JobId) {
        self.drivers_ended.retain(|(ended, _)| ended.job != job);
    }

    /// All that a manager must hear after a connection was made anew.
    pub(crate) fn all(&self) -> Vec<Message> {
        let executors = self.executors.iter().filter_map(|(&index, state)| match (&state.up, &state.down) {
            (Some(ready), _) => Some(up(index, ready, state.epoch)),
            (None, Some((epoch, reason))) => Some(down(index, *epoch, reason)),
            (None, None) => None,
        });
        let drivers = self.drivers_ended.iter().map(|(launched, end)| ended(*launched, end));
        executors.chain(drivers).collect()
    }

    /// Whether nothing runs and nothing lies on any executor, as far as they have said.
    pub(crate) fn is_idle(&self) -> bool {
        let is_idle = |state: &ExecutorState| match (&state.up, &state.usage) {
            (None, _) => true,
            (Some(_), None) => state.epoch.is_none(),
            (Some(_), Some(usage)) => usage.running_attempts == 0 && usage.block_bytes == 0,
        };
        self.executors.values().all(is_idle)
    }

    /// How an executor is, for the metrics; its slots are not known here.
    pub(crate) fn seen(&self, index: u32) -> SeenExecutor {
        let Some(state) = self.executors.get(&index) else {
            return SeenExecutor { index, ..SeenExecutor::default() };
        };
        SeenExecutor {
            index,
            slots: 0,
            pid: state.up.as_ref().map(|ready| ready.pid),
            given_up: state.given_up,
            restarts: state.life.saturating_sub(1),
            usage: state.usage,
        }
    }

    /// The heartbeat.
    pub(crate) fn heartbeat(&self) -> Message {
        let usage = |(&index, state): (&u32, &ExecutorState)| {
            let usage = state.usage.as_ref()?;
            Some(v1::ExecutorUsage {
                index,
                running_attempts: usage.running_attempts,
                memory_used: usage.memory_used,
                block_bytes: usage.block_bytes,
                answers: state.answers,
            })
        };
        Message::Heartbeat(v1::WorkerHeartbeat {
            executors: self.executors.iter().filter_map(usage).collect(),
        })
    }
}

fn up(index: u32, ready: &Ready, epoch: Option<Epoch>) -> Message {
    Message::ExecutorUp(v1::ExecutorUp {
        index,
        control_address: ready.control.clone(),
        shuffle_address: ready.shuffle.clone(),
        pid: ready.pid,
        epoch: epoch.unwrap_or_default().0,
    })
}

fn down(index: u32, epoch: Epoch, reason: &str) -> Message {
    Message::ExecutorDown(v1::ExecutorDown { index, epoch: epoch.0, reason: reason.to_owned() })
}

fn ended(Launched { job, launch }: Launched, end: &DriverEnd) -> Message {
    let reason = end.as_ref().err().cloned().unwrap_or_default();
    Message::DriverEnded(v1::DriverEnded { job: job.0, launch, succeeded: end.is_ok(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(pid: u32) -> Ready {
        Ready { control: format!("h:{pid}"), shuffle: format!("h:{}", pid + 1), pid }
    }

    fn state_with_executor_up() -> State {
        let mut state = State::default();
        let told = state.executor(0, ExecutorEvent::Up { life: 1, ready: ready(10) });
        assert_eq!(told, Some(up(0, &ready(10), None)));
        state
    }

    #[test]
    fn a_manager_that_comes_back_hears_who_is_up_and_who_ended() {
        let mut state = state_with_executor_up();
        assert_eq!(state.epoch(0, Epoch(4)), Ok(1));
        state.executor(1, ExecutorEvent::Up { life: 1, ready: ready(20) });
        assert_eq!(state.epoch(1, Epoch(5)), Ok(1));
        state.executor(1, ExecutorEvent::Down { life: 1, reason: "signal: 9".to_owned() });
        let launched = Launched { job: JobId(3), launch: 2 };
        state.driver_ended(launched, Err("no".to_owned()));
        let all = [
            up(0, &ready(10), Some(Epoch(4))),
            down(1, Epoch(5), "signal: 9"),
            ended(launched, &Err("no".to_owned())),
        ];
        assert_eq!(state.all(), all);
        assert_eq!(state.end_of(launched), Some(all[2].clone()));
        assert_eq!(state.end_of(Launched { launch: 3, ..launched }), None);
        state.forget_job(JobId(3));
        assert_eq!(state.all(), all[..2]);
    }

    #[test]
    fn a_life_that_never_was_up_is_not_reported_down() {
        let mut state = State::default();
        assert_eq!(state.executor(0, ExecutorEvent::Down { life: 1, reason: "exit".to_owned() }), None);
        let told = state.executor(0, ExecutorEvent::GivenUp { reason: "too often".to_owned() });
        assert_eq!(told, Some(down(0, Epoch(0), "too often")));
        let seen = state.seen(0);
        assert!(seen.given_up && seen.pid.is_none() && seen.restarts == 0, "{seen:?}");
    }

    #[test]
    fn an_epoch_is_for_the_life_that_is_up() {
        let mut state = state_with_executor_up();
        state.executor(0, ExecutorEvent::Down { life: 1, reason: "exit".to_owned() });
        let ended = v1::ExecutorDown { index: 0, epoch: 7, reason: "exit".to_owned() };
        assert_eq!(state.epoch(0, Epoch(7)), Err(ended));
        state.executor(0, ExecutorEvent::Up { life: 2, ready: ready(11) });
        assert_eq!(state.epoch(0, Epoch(8)), Ok(2));
    }

    #[test]
    fn the_heartbeat_tells_of_those_that_answered_and_are_up() {
        let mut state = state_with_executor_up();
        let reply = v1::StatusReply { running_attempts: 2, memory_used: 3, ..v1::StatusReply::default() };
        state.executor(0, ExecutorEvent::Usage { reply });
        let Message::Heartbeat(beat) = state.heartbeat() else { panic!("no heartbeat") };
        assert_eq!((beat.executors.len(), beat.executors[0].running_attempts), (1, 2));
        state.executor(0, ExecutorEvent::Down { life: 1, reason: "exit".to_owned() });
        state.executor(0, ExecutorEvent::Usage { reply });
        assert_eq!(state.heartbeat(), Message::Heartbeat(v1::WorkerHeartbeat::default()));
    }
}
