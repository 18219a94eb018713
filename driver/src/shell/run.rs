//! The driver loop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use firesteel_base::{Clock, SystemClock, Timestamp, version};
use firesteel_protocol::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use v1::driver_to_manager::Message as ToManager;

use super::cluster::Cluster;
use super::control::LoopConfig;
use super::executor_link::ExecutorLink;
use super::heartbeat::Heartbeat;
use super::manager_link::{self, ManagerLink, Opened};
use super::manager_messages::{SUBMITTED_REQUEST, Submitted};
use super::messages::{Command, Input, JobRequest, Member, RunId, StageOffset};
use super::peers::Peers;
use super::running::Running;
use crate::machine::{Event, Life, Outcome};
use crate::progress::{JobProgress, Measured};

/// Messages from peers that may wait for the loop; their pumps wait then.
const INBOX_MAX: usize = 1024;
/// How often watchers are told of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// How long peers may take to close their ends of the streams when the session ends.
const HANG_UP_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct DriverLoop {
    pub config: LoopConfig,
    pub peers: Peers,
    clock: SystemClock,
    commands: mpsc::UnboundedReceiver<Command>,
    inbox: mpsc::Receiver<Input>,
    pub inbox_sender: mpsc::Sender<Input>,
    pub manager: ManagerLink,
    /// Which of the manager sessions it is.
    pub manager_generation: u64,
    /// The name of the manager that it was with last.
    pub manager_run: u64,
    /// The wire version that is spoken with it.
    pub manager_wire: u32,
    /// Executors that are up, and workers that are drained.
    pub cluster: Cluster,
    pub links: BTreeMap<Life, ExecutorLink>,
    pub link_generation: u64,
    /// Where executors are reached.
    pub refs: BTreeMap<Life, v1::ExecutorRef>,
    /// Executors that are gone and whose blocks their workers keep for jobs that run.
    pub kept: BTreeSet<Life>,
    pub jobs: BTreeMap<RunId, Running>,
    /// Events to be stepped, in their order.
    queue: VecDeque<(RunId, Event)>,
    /// Executors that new queries are planned for.
    pub members: watch::Sender<Vec<Member>>,
    progress: watch::Sender<JobProgress>,
    /// The query that watchers are told of.
    shown: Option<RunId>,
    publish_at: Option<Timestamp>,
    pub heartbeat: Heartbeat,
    pub openings: u64,
    next_stage: u32,
    pub submitted: Option<Submitted>,
    /// Ended jobs of which the manager has not said that it knows: as one that is new takes them up, and closes them.
    pub unheard: Vec<(v1::OpenJob, v1::CloseJob)>,
    /// By when the session ends, whoever has heard what. Set once the submitted job is closed.
    hang_up_by: Option<Instant>,
    closing: Option<Vec<oneshot::Sender<()>>>,
}

impl DriverLoop {
    pub fn new(
        peers: Peers,
        config: LoopConfig,
        opened: Opened,
        commands: mpsc::UnboundedReceiver<Command>,
        members: watch::Sender<Vec<Member>>,
        progress: watch::Sender<JobProgress>,
    ) -> Self {
        let (inbox_sender, inbox) = mpsc::channel(INBOX_MAX);
        let submitted = config.submitted_job.map(Submitted::new);
        let mut driver = Self {
            config,
            peers,
            clock: SystemClock::default(),
            commands,
            inbox,
            inbox_sender,
            manager: ManagerLink::Away,
            manager_generation: 0,
            manager_run: 0,
            manager_wire: version::WIRE_OLDEST,
            cluster: Cluster::default(),
            links: BTreeMap::new(),
            link_generation: 0,
            refs: BTreeMap::new(),
            kept: BTreeSet::new(),
            jobs: BTreeMap::new(),
            queue: VecDeque::new(),
            members,
            progress,
            shown: None,
            publish_at: None,
            heartbeat: Heartbeat::default(),
            openings: 0,
            next_stage: 0,
            submitted,
            unheard: Vec::new(),
            hang_up_by: None,
            closing: None,
        };
        driver.manager_up(opened.outgoing, opened.incoming, opened.welcome);
        driver
    }

    pub async fn run(mut self) {
        loop {
            let wake = self.next_wake();
            tokio::select! {
                command = self.commands.recv(), if self.closing.is_none() => match command {
                    Some(command) => self.command(command),
                    // Nobody is left to ask for anything.
                    None => self.begin_close(None),
                },
                Some(input) = self.inbox.recv() => self.input(input),
                () = tokio::time::sleep_until(wake) => {}
            }
            self.tick();
            if self.closing.is_some() && self.jobs.is_empty() {
                self.close_submitted();
                if self.has_said_all() {
                    return self.hang_up().await;
                }
            }
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn next_wake(&self) -> Instant {
        let machines = self.jobs.values().filter_map(|job| job.machine.as_ref()?.next_deadline());
        let next = machines.chain(self.publish_at).chain([self.heartbeat.next()]).min();
        let next = Instant::now() + (next.expect("the heartbeat has a next time") - self.now());
        self.hang_up_by.map_or(next, |by| by.min(next))
    }

    /// What is due by time. Runs after every input, so nothing starves it.
    fn tick(&mut self) {
        let now = self.now();
        let is_due = |job: &Running| {
            job.machine
                .as_ref()
                .and_then(|machine| machine.next_deadline())
                .is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<_> = self.jobs.iter().filter(|(_, job)| is_due(job)).map(|(run, _)| *run).collect();
        for run in due {
            self.tell(run, Event::Tick);
        }
        self.drain();
        if self.heartbeat.is_due(now) {
            self.beat(now);
            self.drain();
        }
        if self.publish_at.is_some_and(|at| at <= now) {
            self.publish();
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Manager(generation, news) => self.manager_news(generation, news),
            Input::Executor(life, generation, news) => self.link_news(life, generation, news),
        }
        self.drain();
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Run(request) => self.begin(request),
            Command::ResultBegun(run, producer) => self.tell(run, Event::ResultBegun { producer }),
            Command::ResultTaskRead(run, producer) => self.tell(run, Event::ResultTaskRead { producer }),
            Command::ResultRead(run) => self.tell(run, Event::ResultRead),
            Command::ResultFetchFailed(run, producer, error) => {
                self.tell(run, Event::ResultFetchFailed { producer, error });
            }
            Command::Cancel(run, reason) => self.cancel(run, &reason),
            Command::CancelAll(reason) => self.cancel_all(&reason),
            Command::Conclude(end) => {
                if let Some(submitted) = &mut self.submitted {
                    submitted.conclude(end);
                }
            }
            Command::Close(closed) => self.begin_close(Some(closed)),
        }
        self.drain();
    }

    /// Takes a query in, and asks the manager for a job for it.
    fn begin(&mut self, request: JobRequest) {
        let run = request.run;
        let offset = StageOffset(if self.submitted.is_some() { self.next_stage } else { 0 });
        self.openings += 1;
        let job = Running {
            request,
            offset,
            opening: self.openings,
            manager_job: None,
            opened_by: 0,
            machine: None,
            measured: None,
            totals: Measured::default(),
        };
        self.next_stage = job.stages_end().max(self.next_stage);
        self.jobs.insert(run, job);
        self.shown = Some(run);
        self.publish();
        if matches!(self.manager, ManagerLink::Lost) {
            self.call_manager();
        }
        self.ask_for_job(run);
    }

    pub fn ask_for_job(&mut self, run: RunId) {
        if self.submitted.is_some() {
            return self.open_under_submitted(run);
        }
        let job = &self.jobs[&run];
        let open = self.open_message(job.opening, &job.request.sql);
        self.manager.send(ToManager::OpenJob(job.resume(open)));
    }

    /// What opens a job of this session.
    pub fn open_message(&self, request: u64, sql: &str) -> v1::OpenJob {
        v1::OpenJob {
            request,
            name: self.config.name.clone(),
            sql: sql.to_owned(),
            queue: self.config.queue.clone(),
            weight: self.config.weight,
            launch: self.peers.launch,
            ..v1::OpenJob::default()
        }
    }

    /// A job that is not open yet has nothing to give back: it is forgotten, and closed should the manager open it.
    fn cancel(&mut self, run: RunId, reason: &str) {
        match self.jobs.get(&run) {
            Some(job) if job.machine.is_none() => {
                self.forget_unopened(run, &Outcome::Cancelled(reason.to_owned()))
            }
            Some(_) => self.tell(run, Event::Cancel { reason: reason.to_owned() }),
            None => {}
        }
    }

    pub fn forget_unopened(&mut self, run: RunId, outcome: &Outcome) {
        let Some(job) = self.jobs.remove(&run) else { return };
        job.settle(outcome);
        self.note_outcome(outcome, 0);
        if self.shown == Some(run) {
            let phase = match outcome {
                Outcome::Succeeded => crate::progress::Phase::Succeeded,
                Outcome::Failed(_) => crate::progress::Phase::Failed,
                Outcome::Cancelled(_) => crate::progress::Phase::Cancelled,
            };
            self.progress.send_replace(JobProgress { phase, ..JobProgress::default() });
        }
    }

    pub fn cancel_all(&mut self, reason: &str) {
        for run in self.runs() {
            self.cancel(run, reason);
        }
    }

    pub fn runs(&self) -> Vec<RunId> {
        self.jobs.keys().copied().collect()
    }

    /// Queues an event for a query's machine.
    pub fn tell(&mut self, run: RunId, event: Event) {
        self.queue.push_back((run, event));
    }

    pub fn tell_all(&mut self, event: &Event) {
        for run in self.runs() {
            self.tell(run, event.clone());
        }
    }

    /// Steps machines until no event is left; effects may bring new ones.
    pub fn drain(&mut self) {
        while let Some((run, event)) = self.queue.pop_front() {
            let now = self.now();
            let Some(job) = self.jobs.get_mut(&run) else { continue };
            let Some(machine) = job.machine.as_mut() else { continue };
            let is_finish = matches!(event, Event::AttemptFinished { .. });
            let mut effects = Vec::new();
            machine.step(now, event, &mut effects);
            if is_finish {
                job.keep_measured();
            }
            self.publish_at.get_or_insert(now + PROGRESS_INTERVAL);
            for effect in effects {
                self.apply(run, effect);
            }
        }
    }

    /// Tells watchers of the latest query.
    pub fn publish(&mut self) {
        self.publish_at = None;
        let now = self.now();
        if let Some(job) = self.shown.and_then(|run| self.jobs.get(&run)) {
            self.progress.send_replace(job.progress(now));
        }
    }

    fn begin_close(&mut self, closed: Option<oneshot::Sender<()>>) {
        self.closing.get_or_insert_default().extend(closed);
        self.cancel_all("the session was closed");
        self.drain();
    }

    /// Tells how the submitted job of this session ended, once.
    fn close_submitted(&mut self) {
        let Some(submitted) = self.submitted.take() else { return };
        let job = Some(submitted.job().0);
        let open = self.open_message(SUBMITTED_REQUEST, "");
        let open = v1::OpenJob { submitted_job: job, resumed_job: job, only_to_close: true, ..open };
        self.say_end(open, submitted.close());
        self.hang_up_by = Some(Instant::now() + self.config.manager_away_max);
    }

    /// Whether nothing has to be heard any more. Of how a submitted job ended nobody else can tell, so a manager that is away
    /// is waited for; a client's process ends when its user has what he asked for.
    fn has_said_all(&self) -> bool {
        let is_over = |by| self.unheard.is_empty() || Instant::now() >= by;
        matches!(self.manager, ManagerLink::Lost) || self.hang_up_by.is_none_or(is_over)
    }

    /// Says the last word to everybody, and waits a moment until they have heard it.
    async fn hang_up(mut self) {
        let mut open = self.links.len() + usize::from(self.manager.is_connected());
        self.manager = ManagerLink::Lost;
        self.links.clear();
        let deadline = Instant::now() + HANG_UP_TIMEOUT;
        while open > 0 {
            let Ok(Some(input)) = tokio::time::timeout_at(deadline, self.inbox.recv()).await else { break };
            open -= usize::from(input.is_end());
        }
        for closed in self.closing.take().unwrap_or_default() {
            // Whoever asked may have gone.
            let _ = closed.send(());
        }
    }

    /// Begins to look for the manager again.
    pub fn call_manager(&mut self) {
        self.manager = ManagerLink::Away;
        self.manager_generation += 1;
        let patience = self.config.manager_away_max;
        manager_link::reopen(
            self.peers.clone(),
            self.manager_generation,
            patience,
            self.inbox_sender.clone(),
        );
    }
}
