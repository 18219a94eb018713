//! A client that submits a job and waits for its result: a model of `firesteel submit` and `cli/src/cluster.rs`.
//!
//! ```text
//!   submits ─► asks how the job is ─► ... ─► it has succeeded ─► fetches the result from the worker that keeps it
//!      │ no answer: may be taken, or not           │ else
//!      └────────────► done ◄───────────────────────┴───────────◄
//! ```

use std::time::Duration;

use firesteel_base::{JobId, Timestamp, WorkerId};
use firesteel_manager::machine::job::{Job, Phase};
use firesteel_manager::machine::message::Ending;

use super::{Scene, Timer};
use crate::channel::{Asked, Conn, Host, Message, Proc, Told};

const POLL: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(300);
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long after its job's end a result may still be on its way into the worker's keeping.
const RESULT_LATE_MAX: Duration = Duration::from_secs(5);
/// How often a client comes that is not answered.
const TRIES_MAX: u32 = 200;

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its process.
    pub proc: Proc,
    sql: String,
    state: State,
    conn: Option<Conn>,
    tries: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Submits,
    Waits(JobId),
    Fetches { job: JobId, worker: WorkerId, since: Timestamp },
    Done,
}

/// Whom a client is to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callee {
    /// The manager.
    Manager,
    /// A worker.
    Worker(WorkerId),
}

impl Client {
    /// One that was just started, and submits this text.
    pub fn start(proc: Proc, sql: String, scene: &mut Scene) -> Self {
        scene.wake(proc, Duration::ZERO, Timer::ClientGoes);
        Self { proc, sql, state: State::Submits, conn: None, tries: 0 }
    }

    /// Whether it has all that it will get.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whom it wants to ask now, if anybody.
    #[must_use]
    pub fn wants(&self) -> Option<Callee> {
        match &self.state {
            _ if self.conn.is_some() => None,
            State::Done => None,
            State::Submits | State::Waits(_) => Some(Callee::Manager),
            State::Fetches { worker, .. } => Some(Callee::Worker(worker.clone())),
        }
    }

    /// Asks whoever is at that address.
    pub fn ask(&mut self, whom: (Proc, Host), scene: &mut Scene) {
        let asked = match &self.state {
            State::Submits => Asked::Submit(self.sql.clone()),
            State::Waits(job) => Asked::State(*job),
            State::Fetches { job, .. } => Asked::Result(*job),
            State::Done => return,
        };
        let conn = scene.call(self.proc, whom, Message::Asked(asked));
        self.conn = Some(conn);
        scene.wake(self.proc, ANSWER_MAX, Timer::ClientUnanswered(conn));
    }

    /// An answer comes.
    pub fn hear(&mut self, conn: Conn, message: Message, scene: &mut Scene) {
        let Message::Told(told) = message else { unreachable!("a client hears answers alone") };
        if self.conn != Some(conn) {
            return;
        }
        scene.close(conn, 0);
        (self.conn, self.tries) = (None, 0);
        match (self.state.clone(), told) {
            (State::Submits, Told::Submitted(Ok(job))) => {
                scene.tell(self.proc, || format!("hears that {} is {job}", self.sql));
                scene.check.job_taken(job, &self.sql);
                self.go(State::Waits(job), POLL, scene);
            }
            (State::Submits, Told::Submitted(Err(why))) => {
                scene.tell(self.proc, || format!("is refused: {why}"));
                self.state = State::Done;
            }
            (State::Waits(job), Told::State(found)) => {
                scene.check.client_sees(job, found.as_deref());
                self.waited(job, found.as_deref(), scene);
            }
            (State::Fetches { job, since, .. }, Told::Result(None)) => {
                if scene.now() - since < RESULT_LATE_MAX {
                    return self.go(self.state.clone(), AGAIN, scene);
                }
                self.result_is_lost(job, "it is not kept there", scene);
            }
            (State::Fetches { job, .. }, Told::Result(Some((launch, rows)))) => {
                scene.tell(self.proc, || {
                    format!("has the result of {job}: {} rows of launch {launch}", rows.len())
                });
                scene.check.delivered(job, launch, &rows);
                self.state = State::Done;
            }
            (state, told) => unreachable!("{told:?} is no answer for one that {state:?}"),
        }
    }

    fn waited(&mut self, job: JobId, found: Option<&Job>, scene: &mut Scene) {
        let Some(found) = found else {
            self.state = State::Done;
            return;
        };
        match &found.phase {
            Phase::Ended(Ending::Succeeded { .. }) => {
                let worker = found.worker().expect("a submitted job that succeeded has a worker").clone();
                self.go(State::Fetches { job, worker, since: scene.now() }, Duration::ZERO, scene);
            }
            Phase::Ended(ending) => {
                scene.tell(self.proc, || format!("hears that {job} has ended: {ending:?}"));
                self.state = State::Done;
            }
            Phase::Submitted | Phase::Launching { .. } | Phase::Open { .. } | Phase::Detached { .. } => {
                self.go(State::Waits(job), POLL, scene);
            }
        }
    }

    fn go(&mut self, state: State, after: Duration, scene: &mut Scene) {
        self.state = state;
        scene.wake(self.proc, after, Timer::ClientGoes);
    }

    fn result_is_lost(&mut self, job: JobId, why: &str, scene: &mut Scene) {
        scene.tell(self.proc, || format!("cannot fetch the result of {job}: {why}"));
        scene.check.counts.results_lost += 1;
        self.state = State::Done;
    }

    /// Nothing has come for too long.
    pub fn unanswered(&mut self, conn: Conn, scene: &mut Scene) {
        if self.conn == Some(conn) {
            scene.close(conn, 0);
            self.lose(conn, scene);
        }
    }

    /// A connection is broken: what waits is asked again. A job that may have been taken is not submitted twice.
    pub fn lose(&mut self, conn: Conn, scene: &mut Scene) {
        if self.conn != Some(conn) {
            return;
        }
        self.conn = None;
        self.tries += 1;
        match &self.state {
            State::Fetches { job, .. } => self.result_is_lost(*job, "its worker cannot be reached", scene),
            State::Waits(_) if self.tries < TRIES_MAX => scene.wake(self.proc, AGAIN, Timer::ClientGoes),
            State::Submits | State::Waits(_) => {
                scene.tell(self.proc, || "gives up: it was not answered".to_owned());
                self.state = State::Done;
            }
            State::Done => {}
        }
    }
}
