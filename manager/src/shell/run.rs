//! The task that owns the machine.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use firesteel_base::{Clock, JobId, Timestamp, UserError, version};
use firesteel_protocol::v1;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tonic::Status;
use tracing::{debug, warn};

use super::counts::Counts;
use super::journal::Journal;
use super::mailbox::Mailbox;
use super::notes::record;
use super::{outbound, stopping};
use crate::ManagerConfig;
use crate::machine::Machine;
use crate::machine::job::Job;
use crate::machine::message::{
    Answer, ClientRequest, DriverEvent, Effect, Event, Refusal, SessionId, Ticket, ToDriver, WorkerEvent,
};
use crate::machine::rights::Rights;

/// A turn of the loop may come so much late before its host is said to have stood still.
const STARVED: Duration = Duration::from_millis(500);

/// What the task is asked to do.
pub(super) enum Input {
    Event(Event),
    Open { id: SessionId, link: Link, greeting: Box<Event>, greeted: oneshot::Sender<Result<(), Status>> },
    Fault { id: SessionId, status: Status },
    Client { rights: Rights, request: ClientRequest, answer: oneshot::Sender<Result<Answer, Refusal>> },
    Wait { job: JobId, ended: oneshot::Sender<Result<v1::JobInfo, Status>> },
    Stop(oneshot::Sender<()>),
}

/// A question that changes nothing.
pub(super) type Look = Box<dyn FnOnce(&View<'_>) + Send>;

/// Where the task hears what it is asked to do.
pub(super) struct Inputs {
    pub(super) queue: mpsc::Receiver<Input>,
    pub(super) looking: mpsc::Receiver<Look>,
}

/// Questions that are answered after each batch, so that many of them hold up nobody's heartbeat.
const LOOKS_PER_TURN: usize = 16;

/// Effects of a batch at which they are run, should it not be done: one of them may be a word to every driver.
const EFFECTS_MAX: usize = 4_096;

/// What there is to do in a turn of the loop.
enum Turn {
    Tick,
    /// Messages, or one question.
    Batch,
    Over,
}

/// The way to a session. Dropped, it ends the session's queue and its pump.
pub(super) struct Link {
    pub(super) queue: Queue,
    pub(super) why: Arc<OnceLock<Status>>,
    pub(super) _open: oneshot::Sender<()>,
}

/// What waits for a session, and the wire version that it speaks.
pub(super) enum Queue {
    Worker(Mailbox<v1::ManagerToWorker>, u32),
    Driver(Mailbox<v1::ManagerToDriver>, u32),
}

impl Queue {
    /// What the machine hears when the session breaks.
    pub(super) fn lost(&self, id: SessionId) -> Event {
        match self {
            Self::Worker(..) => Event::Worker(id, WorkerEvent::StreamLost),
            Self::Driver(..) => Event::Driver(id, DriverEvent::StreamLost),
        }
    }
}

/// The machine, to be looked at.
pub(super) struct View<'a> {
    pub(super) machine: &'a Machine,
    pub(super) now: Timestamp,
    /// Sessions of workers and drivers.
    pub(super) sessions: usize,
    origin_unix_ms: u64,
    asks: bool,
}

impl View<'_> {
    pub(super) fn job_info(&self, job: &Job) -> v1::JobInfo {
        outbound::job_info(self.machine, job, self.origin_unix_ms, self.asks)
    }
}

pub(super) struct Runner {
    pub(super) machine: Machine,
    clock: Arc<dyn Clock>,
    origin_unix_ms: u64,
    heartbeat: Duration,
    /// Where the epochs of this manager begin, which names it.
    run: u64,
    /// Whether callers are asked who they are.
    asks: bool,
    tick: Duration,
    batch: usize,
    links: BTreeMap<SessionId, Link>,
    greetings: BTreeMap<SessionId, oneshot::Sender<Result<(), Status>>>,
    tickets: u64,
    answers: BTreeMap<Ticket, oneshot::Sender<Result<Answer, Refusal>>>,
    /// Who waits for the end of a job.
    pub(super) waiters: BTreeMap<JobId, Vec<oneshot::Sender<Result<v1::JobInfo, Status>>>>,
    pub(super) waiters_max: usize,
    journal: Option<Journal>,
    counts: Arc<Counts>,
    /// Ends of jobs that were heard and are not written yet: their drivers hear of it when they are.
    unwritten_ends: Vec<(SessionId, JobId)>,
}

/// What a manager starts with.
pub(super) struct Start {
    pub machine: Machine,
    pub clock: Arc<dyn Clock>,
    /// The unix clock at time 0 of `clock`.
    pub origin_unix_ms: u64,
    pub journal: Option<Journal>,
}

impl Runner {
    pub(super) fn new(config: &ManagerConfig, start: Start) -> Self {
        let Start { machine, clock, origin_unix_ms, journal } = start;
        Self {
            clock,
            origin_unix_ms,
            heartbeat: config.heartbeat,
            run: config.epoch_seed,
            asks: config.tokens.is_some(),
            tick: tick_of(config),
            batch: config.limits.batch,
            links: BTreeMap::new(),
            greetings: BTreeMap::new(),
            tickets: 0,
            answers: BTreeMap::new(),
            waiters: BTreeMap::new(),
            waiters_max: config.limits.waiters,
            machine,
            journal,
            counts: Arc::clone(&config.counts),
            unwritten_ends: Vec::new(),
        }
    }

    /// Runs until it is told to stop, or its handle is gone.
    ///
    /// # Errors
    /// When the journal cannot be written: what nobody will remember is told to nobody.
    pub(super) async fn run(mut self, mut inputs: Inputs) -> Result<(), UserError> {
        let ended = self.take_turns(&mut inputs).await;
        self.end_links();
        ended
    }

    async fn take_turns(&mut self, inputs: &mut Inputs) -> Result<(), UserError> {
        let mut ticks = tokio::time::interval(self.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Instant::now();
        let (mut batch, mut looks) = (Vec::new(), Vec::new());
        loop {
            let turn = tokio::select! {
                // A flood of messages must not hold up time-outs.
                biased;
                _ = ticks.tick() => Turn::Tick,
                count = inputs.queue.recv_many(&mut batch, self.batch) => if count == 0 { Turn::Over } else { Turn::Batch },
                Some(look) = inputs.looking.recv() => {
                    looks.push(look);
                    Turn::Batch
                }
            };
            if let Some(absence) = self.absence(seen.elapsed()) {
                warn!(?absence, "the manager has stood still; nobody is given up for it");
                self.step(Event::Absence(absence)).await?;
            }
            seen = Instant::now();
            match turn {
                Turn::Over => return self.end_all().await,
                Turn::Tick => self.take_tick().await?,
                Turn::Batch => {
                    if let Some(stopped) = self.take(&mut batch).await? {
                        let ended = self.end_all().await;
                        // Whoever stops the manager may not wait for it.
                        let _ = stopped.send(());
                        return ended;
                    }
                }
            }
            let more = std::iter::from_fn(|| inputs.looking.try_recv().ok()).take(LOOKS_PER_TURN);
            looks.extend(more);
            if !looks.is_empty() {
                self.check_office()?;
            }
            looks.drain(..).for_each(|look| look(&self.view()));
        }
    }

    /// The part of a gap between two turns of the loop that is no wait for a tick.
    fn absence(&self, gap: Duration) -> Option<Duration> {
        (gap > 2 * self.tick + STARVED).then(|| gap - self.tick)
    }

    async fn take_tick(&mut self) -> Result<(), UserError> {
        self.check_office()?;
        self.step(Event::Tick).await?;
        self.forget_waiters();
        for event in self.write_journal().await? {
            self.step(event).await?;
        }
        Ok(())
    }

    /// Takes a batch in: the machine hears all of it, then what comes of it is written and told. Returns whom to tell that
    /// the manager has stopped, when somebody wants it to.
    async fn take(&mut self, batch: &mut Vec<Input>) -> Result<Option<oneshot::Sender<()>>, UserError> {
        self.check_office()?;
        let (mut effects, mut waits, mut opened, mut stop) = (Vec::new(), Vec::new(), Vec::new(), None);
        for input in batch.drain(..) {
            match input {
                Input::Event(event) => self.hear(event, &mut effects),
                Input::Open { id, link, greeting, greeted } => {
                    self.links.insert(id, link);
                    self.greetings.insert(id, greeted);
                    opened.push(id);
                    self.hear(*greeting, &mut effects);
                }
                Input::Fault { id, status } => {
                    warn!(session = id.0, fault = status.message(), "a session sent what makes no sense");
                    let lost = self.end(id, status);
                    lost.into_iter().for_each(|event| self.hear(event, &mut effects));
                }
                Input::Client { rights, request, answer } => {
                    self.tickets += 1;
                    let ticket = Ticket(self.tickets);
                    self.answers.insert(ticket, answer);
                    self.hear(Event::Client(ticket, rights, request), &mut effects);
                }
                Input::Wait { job, ended } => waits.push((job, ended)),
                Input::Stop(stopped) => stop = Some(stopped),
            }
            if effects.len() >= EFFECTS_MAX {
                self.settle(&mut effects).await?;
            }
        }
        self.settle(&mut effects).await?;
        for id in opened {
            if let Some(greeted) = self.greetings.remove(&id) {
                // When the caller has gone its pump never starts, and its queue is closed.
                let _ = greeted.send(Ok(()));
            }
        }
        waits.into_iter().for_each(|(job, ended)| self.wait(job, ended));
        Ok(stop)
    }

    async fn step(&mut self, event: Event) -> Result<(), UserError> {
        let mut effects = Vec::new();
        self.hear(event, &mut effects);
        self.settle(&mut effects).await
    }

    fn hear(&mut self, event: Event, effects: &mut Vec<Effect>) {
        debug!(?event, "step");
        self.machine.hear(self.clock.now(), event, effects);
    }

    /// Has the machine draw its conclusions, writes and tells what is to be done, and does the same for what comes of that.
    async fn settle(&mut self, effects: &mut Vec<Effect>) -> Result<(), UserError> {
        loop {
            let (began, placed) = (Instant::now(), self.machine.work().stages);
            self.machine.settle(self.clock.now(), effects);
            self.counts.settled(began.elapsed(), self.machine.work().stages - placed);
            let mut events = self.keep(effects).await?;
            // Writing takes its time, and so may whatever stopped this process since.
            self.check_office()?;
            for effect in effects.drain(..) {
                events.extend(self.perform(effect));
            }
            if events.is_empty() {
                return Ok(());
            }
            events.into_iter().for_each(|event| self.hear(event, effects));
        }
    }

    /// Notes which jobs changed. Those that their clients leave to the cluster are written before anybody hears of it.
    /// Returns what happens of it.
    async fn keep(&mut self, effects: &[Effect]) -> Result<Vec<Event>, UserError> {
        let Some(journal) = &mut self.journal else { return Ok(Vec::new()) };
        for effect in effects {
            match effect {
                Effect::Keep { job, at_once } => journal.note(*job, *at_once),
                Effect::Forget(job) => journal.note(*job, false),
                _ => {}
            }
        }
        if journal.is_urgent(&self.machine) { self.write_journal().await } else { Ok(Vec::new()) }
    }

    /// Writes what has changed. Returns what happens of telling so: a session that cannot be told is lost.
    async fn write_journal(&mut self) -> Result<Vec<Event>, UserError> {
        let Some(journal) = &mut self.journal else { return Ok(Vec::new()) };
        while let Some(change) = journal.take_change(&self.machine) {
            self.counts.write(journal, change).await?;
        }
        self.check_office()?;
        let ends = std::mem::take(&mut self.unwritten_ends);
        Ok(ends.into_iter().filter_map(|(id, job)| self.tell_driver(id, ToDriver::JobClosed(job))).collect())
    }

    /// A manager whose place another one may have taken has nothing to say any more.
    fn check_office(&self) -> Result<(), UserError> {
        match &self.journal {
            Some(journal) if !journal.is_in_office() => Err(UserError::new(
                "this manager does not lead any more, or has not heard a majority for too long",
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn tell_driver(&mut self, id: SessionId, message: ToDriver) -> Option<Event> {
        let Queue::Driver(_, wire) = self.links.get(&id)?.queue else {
            unreachable!("a driver's session is not a worker's")
        };
        let message = match message {
            ToDriver::ClusterChanged(_) if wire < version::WIRE_CHANGES => {
                outbound::whole_cluster(self.machine.members())
            }
            message => outbound::to_driver(message, self.heartbeat, self.run, wire),
        };
        self.tell(id, |queue| match queue {
            Queue::Driver(queue, _) => queue.put(message),
            Queue::Worker(..) => unreachable!("a driver's session is not a worker's"),
        })
    }

    /// Runs an effect. Returns what happens of it: a session that cannot be told is lost.
    fn perform(&mut self, effect: Effect) -> Option<Event> {
        debug!(?effect, "effect");
        self.counts.effect(&effect, &self.machine);
        match effect {
            Effect::ToWorker(id, message) => {
                let (heartbeat, run, asks) = (self.heartbeat, self.run, self.asks);
                self.tell(id, |queue| match queue {
                    Queue::Worker(queue, wire) => {
                        let message = outbound::to_worker(message, heartbeat, (*wire, run), asks);
                        queue.put(message)
                    }
                    Queue::Driver(..) => unreachable!("a worker's session is not a driver's"),
                })
            }
            // It would not say it again.
            Effect::ToDriver(id, ToDriver::JobClosed(job))
                if self.journal.as_ref().is_some_and(Journal::has_unwritten) =>
            {
                self.unwritten_ends.push((id, job));
                None
            }
            Effect::ToDriver(id, message) => self.tell_driver(id, message),
            Effect::Refuse(id, refusal) => {
                warn!(session = id.0, %refusal, "refused");
                self.links.remove(&id);
                if let Some(greeted) = self.greetings.remove(&id) {
                    // The caller may have gone.
                    let _ = greeted.send(Err(outbound::status(&refusal)));
                }
                None
            }
            Effect::EndSession(id, reason) => {
                self.end(id, Status::aborted(reason));
                None
            }
            Effect::Answer(ticket, answer) => {
                if let Some(asked) = self.answers.remove(&ticket) {
                    // The client may have gone.
                    let _ = asked.send(answer);
                }
                None
            }
            Effect::JobEnded(id) => {
                self.wake(id);
                None
            }
            Effect::Note(note) => {
                record(&note);
                None
            }
            // They were noted before anything was done.
            Effect::Keep { .. } | Effect::Forget(_) => None,
        }
    }

    fn tell(&mut self, id: SessionId, send: impl FnOnce(&Queue) -> Result<(), String>) -> Option<Event> {
        let sent = send(&self.links.get(&id)?.queue);
        let fault = sent.err()?;
        warn!(session = id.0, %fault, "a session does not take its messages: it is dropped");
        self.end(id, Status::resource_exhausted("the session did not take its messages in time"))
    }

    /// Ends a session. Returns what the machine is to hear of it.
    fn end(&mut self, id: SessionId, why: Status) -> Option<Event> {
        let link = self.links.remove(&id)?;
        // The first reason stands.
        let _ = link.why.set(why);
        Some(link.queue.lost(id))
    }

    async fn end_all(&mut self) -> Result<(), UserError> {
        self.end_links();
        self.write_journal().await.map(drop)
    }

    fn end_links(&mut self) {
        let why = self.journal.as_ref().map_or_else(stopping, Journal::farewell);
        for link in std::mem::take(&mut self.links).into_values() {
            // The first reason stands.
            let _ = link.why.set(why.clone());
        }
        for (_, greeted) in std::mem::take(&mut self.greetings) {
            // The caller may have gone.
            let _ = greeted.send(Err(why.clone()));
        }
    }

    pub(super) fn view(&self) -> View<'_> {
        let (now, origin_unix_ms, asks) = (self.clock.now(), self.origin_unix_ms, self.asks);
        View { machine: &self.machine, now, sessions: self.links.len(), origin_unix_ms, asks }
    }
}

/// Often enough that no time-out is noticed late by more than a quarter of it.
fn tick_of(config: &ManagerConfig) -> Duration {
    let timeouts = [config.node_suspect_after, config.node_timeout, config.driver_timeout, config.claim_wait];
    let shortest = timeouts.into_iter().min().expect("there are some");
    (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
}
