//! The job that a driver was launched for: a model of `Submitted` in `driver/src/shell/manager_messages.rs`, and of the command that a
//! worker starts.
//!
//! ```text
//!   starts ─► calls the manager, for a minute ─► opens the job ─► its query runs under it ─► the result is whole
//!                                                                      │ fails, cancelled, SIGTERM     │
//!                                                                      └───────────► closes the job ◄──┘
//!                                                     heard, or a minute later: the process ends ◄┘
//! ```

use std::rc::Rc;

use firesteel_base::{JobId, Timestamp, UserError, WorkerId};
use firesteel_driver::machine::{Event, Outcome};
use firesteel_manager::machine::message::{DriverEvent, OpenJob, Resumed};

use super::manager_link::AWAY_MAX;
use super::{Driver, Query};
use crate::world::Scene;

/// The request under which the submitted job is opened; queries count from 1.
pub(super) const REQUEST: u64 = 0;

/// Which launch of which job's driver it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// The job.
    pub job: JobId,
    /// The how manyth launch.
    pub launch: u32,
    /// The worker that started the process.
    pub worker: WorkerId,
}

/// The submitted job of a driver.
#[derive(Debug)]
pub struct Submitted {
    /// What it was launched for.
    pub launched: Launched,
    is_open: bool,
    /// Why nothing can be run under it any more.
    ended: Option<Outcome>,
    /// How its query ended, and its rows.
    concluded: Option<(Outcome, u64)>,
    /// Rows that were handed out: they go to a file.
    rows: Vec<u64>,
    /// The file, once it is whole.
    result: Option<Rc<Vec<u64>>>,
    /// Set once the job is closed: until when the manager is waited for.
    hang_up_by: Option<Timestamp>,
    end: Option<Result<(), String>>,
}

impl Submitted {
    /// Of a driver that was just started.
    pub fn new(launched: Launched) -> Self {
        Self {
            launched,
            is_open: false,
            ended: None,
            concluded: None,
            rows: Vec::new(),
            result: None,
            hang_up_by: None,
            end: None,
        }
    }

    /// Rows of the result were handed out.
    pub(super) fn take_rows(&mut self, rows: &[u64]) {
        self.rows.extend(rows);
    }

    /// A query has ended.
    pub(super) fn note(&mut self, outcome: &Outcome, rows: u64) {
        if *outcome == Outcome::Succeeded && self.concluded.is_none() {
            self.result = Some(Rc::new(self.rows.clone()));
        }
        self.concluded.get_or_insert_with(|| (outcome.clone(), rows));
    }

    /// The file with the result, when it has just become whole.
    pub fn take_result(&mut self) -> Option<Rc<Vec<u64>>> {
        self.result.take()
    }

    /// How the process ends, once it does.
    #[must_use]
    pub fn end(&self) -> Option<&Result<(), String>> {
        self.end.as_ref()
    }
}

impl Driver {
    fn open_submitted(&self, launched: &Launched, resumes: Option<Resumed>) -> OpenJob {
        OpenJob {
            request: REQUEST,
            name: launched.job.to_string(),
            sql: String::new(),
            queue: String::new(),
            weight: 1,
            submitted_job: Some(launched.job),
            launch: Some(launched.launch),
            resumes,
        }
    }

    /// A session with the manager begins. False for a driver without a submitted job.
    pub(super) fn greet_for_submitted(&mut self, scene: &mut Scene) -> bool {
        let Some(submitted) = &self.submitted else { return false };
        let launched = submitted.launched.clone();
        if submitted.hang_up_by.is_some() {
            return false;
        }
        let resumes = submitted.is_open.then(|| {
            self.queries.values().filter_map(Query::resumed).fold(
                Resumed { job: launched.job, leases: Vec::new(), gone: Vec::new(), only_to_close: false },
                |all, query| Resumed {
                    leases: [all.leases, query.leases].concat(),
                    gone: [all.gone, query.gone].concat(),
                    ..all
                },
            )
        });
        let open = self.open_submitted(&launched, resumes);
        self.say_to_manager(DriverEvent::OpenJob(open), scene);
        true
    }

    /// The manager has opened the submitted job, or taken it up again with these leases.
    pub(super) fn submitted_opened(
        &mut self,
        resumed: Option<Vec<firesteel_base::LeaseId>>,
        scene: &mut Scene,
    ) {
        if let Some(submitted) = &mut self.submitted {
            submitted.is_open = true;
        }
        if let Some(leases) = resumed {
            scene.tell(self.proc, || format!("goes on with its job and {} leases", leases.len()));
            self.tell_all(&Event::ManagerBack { leases: leases.into_iter().collect() });
        }
        for number in self.queries.keys().copied().collect::<Vec<_>>() {
            self.open_under_submitted(number, scene);
        }
    }

    /// Starts a query under the submitted job, once that is open. False for a driver without one.
    pub(super) fn open_under_submitted(&mut self, number: u64, scene: &mut Scene) -> bool {
        let Some(submitted) = &self.submitted else { return false };
        let (job, is_open, ended) = (submitted.launched.job, submitted.is_open, submitted.ended.clone());
        match ended {
            _ if !is_open => {}
            Some(outcome) => self.forget_unopened(number, &outcome, scene),
            None if self.queries[&number].machine.is_none() => self.open_query(number, job, scene),
            None => {}
        }
        true
    }

    /// The manager does not want the job any more. False when it means another.
    pub(super) fn submitted_cancelled(&mut self, job: JobId, reason: &str, scene: &mut Scene) -> bool {
        let Some(submitted) = self.submitted.as_mut().filter(|submitted| submitted.launched.job == job)
        else {
            return false;
        };
        submitted.ended = Some(Outcome::Cancelled(reason.to_owned()));
        self.stop_queries(&Outcome::Cancelled(reason.to_owned()), scene);
        true
    }

    /// Its worker asks it to stop.
    pub(super) fn asked_to_stop(&mut self, scene: &mut Scene) {
        scene.tell(self.proc, || "is asked to stop".to_owned());
        if let Some(submitted) = &mut self.submitted {
            let outcome = Outcome::Failed(UserError::new("it was interrupted by SIGTERM"));
            submitted.concluded.get_or_insert((outcome, 0));
        }
        self.stop_queries(&Outcome::Cancelled("its user stopped it".to_owned()), scene);
    }

    fn stop_queries(&mut self, outcome: &Outcome, scene: &mut Scene) {
        self.planned.clear();
        let Outcome::Cancelled(reason) = outcome else { return };
        for number in self.queries.keys().copied().collect::<Vec<_>>() {
            match self.queries[&number].machine {
                Some(_) => self.cancel(number, reason),
                None => self.forget_unopened(number, outcome, scene),
            }
        }
    }

    /// Closes the job when nothing runs any more, and ends when that was heard, or nobody is there to hear it.
    pub(super) fn end_submitted(&mut self, scene: &mut Scene) {
        let now = scene.clock(self.proc);
        let is_lost = self.manager.is_lost();
        if !self.queries.is_empty() || (!self.planned.is_empty() && !is_lost) {
            return;
        }
        let Some(submitted) = self.submitted.as_mut().filter(|submitted| submitted.end.is_none()) else {
            return;
        };
        let stopped = || (Outcome::Failed(UserError::new("the manager cannot be reached")), 0);
        let (concluded, rows) = submitted.concluded.clone().unwrap_or_else(stopped);
        let Some(by) = submitted.hang_up_by else {
            submitted.hang_up_by = Some(now + AWAY_MAX);
            let outcome = submitted.ended.clone().unwrap_or_else(|| concluded.clone());
            let launched = submitted.launched.clone();
            let resumed =
                Resumed { job: launched.job, leases: Vec::new(), gone: Vec::new(), only_to_close: true };
            let open = self.open_submitted(&launched, Some(resumed));
            self.say_end(open, launched.job, &outcome, rows, scene);
            return self.end_submitted(scene);
        };
        if is_lost || self.unheard.is_empty() || now >= by {
            submitted.end = Some(match concluded {
                Outcome::Succeeded => Ok(()),
                Outcome::Failed(error) => Err(error.message),
                Outcome::Cancelled(reason) => Err(reason),
            });
        }
    }
}
