//! What Firesteel promises under faults, as far as an error may be told. Everything else is a breach: a wrong answer, a query that
//! does not end, one that ends with an error and had no reason to.
//!
//! `docs/chaos.md` says the same for people; the names of [`Excuse`] are those of its table.

use std::fmt;
use std::time::Duration;

use crate::schedule::{Fault, Kind, Target};

/// How a question was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `firesteel sql`: the driver is in the client's process.
    Client,
    /// `firesteel submit`: the driver is a process of a worker.
    Submitted,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "sql",
            Self::Submitted => "submit",
        })
    }
}

/// Why a query may end with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Excuse {
    /// There was no manager when the client came: it connects once.
    ManagerAway,
    /// The driver was lost twice, by itself or with its worker.
    DriverLostTwice,
    /// The worker that kept the result was hit before it was fetched.
    ResultLost,
    /// A part of the result was handed out already, and the rest was lost.
    HandedOut,
    /// The disk that a driver or executor wrote to was full.
    DiskFull,
    /// More went wrong with a task than a job bears with.
    TooOften,
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ManagerAway => "manager-away",
            Self::DriverLostTwice => "driver-lost-twice",
            Self::ResultLost => "result-lost",
            Self::HandedOut => "handed-out",
            Self::DiskFull => "disk-full",
            Self::TooOften => "too-often",
        })
    }
}

/// A query that ended with an error.
#[derive(Debug, Clone)]
pub struct Failed<'a> {
    /// How it was asked.
    pub way: Way,
    /// When it was asked.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard error.
    pub error: &'a str,
}

/// A fault that has begun.
#[derive(Debug, Clone)]
pub struct Befallen {
    /// The fault.
    pub fault: Fault,
    /// When it began.
    pub from: Duration,
    /// When it was ended; none while it lasts.
    pub to: Option<Duration>,
}

/// How long a fault has effects after its end: connections are tried again, TCP has backed off.
const AFTERMATH: Duration = Duration::from_secs(15);
/// The exit code of a command that cannot reach the cluster.
const UNREACHABLE: i32 = 3;
/// The least faults of executors and links that can bring a task to its limits: it may fail by itself four times.
const OFTEN: usize = 4;

/// Why `failed` may have failed, by what befell the cluster meanwhile.
#[must_use]
pub fn excuse(failed: &Failed<'_>, all: &[Befallen]) -> Option<Excuse> {
    let meanwhile: Vec<_> = all.iter().filter(|one| overlaps(one, failed)).map(|one| &one.fault).collect();
    let count = |is: fn(&Fault) -> bool| meanwhile.iter().filter(|fault| is(fault)).count();
    let says = |words: &[&str]| words.iter().any(|word| failed.error.contains(word));
    let submitted = failed.way == Way::Submitted;
    let cases = [
        (failed.code == UNREACHABLE && count(of_manager) > 0, Excuse::ManagerAway),
        (submitted && count(loses_drivers) > 1 && says(&["the driver was lost"]), Excuse::DriverLostTwice),
        (submitted && count(of_worker) > 0 && says(&RESULT_LOST), Excuse::ResultLost),
        (count(of_executor) > 0 && says(&["handed out already"]), Excuse::HandedOut),
        (count(of_disk) > 0 && says(&["scratch", "No space", "no space"]), Excuse::DiskFull),
        (count(of_executor) >= OFTEN && says(&TOO_OFTEN), Excuse::TooOften),
    ];
    cases.into_iter().find_map(|(holds, excuse)| holds.then_some(excuse))
}

/// What a client says that cannot fetch a result from the worker that keeps it.
const RESULT_LOST: [&str; 4] = ["no result to fetch", "is not kept here", "the worker at", "is not whole"];
/// What a job says that gave up.
const TOO_OFTEN: [&str; 3] =
    ["is not tried again", "could not read its input", "could not be read too often"];

fn overlaps(one: &Befallen, failed: &Failed<'_>) -> bool {
    one.from <= failed.to && one.to.is_none_or(|to| to + AFTERMATH >= failed.from)
}

fn of_manager(fault: &Fault) -> bool {
    fault.target == Target::Manager
}

fn of_driver(fault: &Fault) -> bool {
    matches!(fault.target, Target::Driver(_))
}

/// A worker, or its link, was away.
fn of_worker(fault: &Fault) -> bool {
    matches!(fault.target, Target::Worker(_) | Target::Between(..)) && fault.kind != Kind::DiskFull
}

/// A driver was hit, or a worker was away, or the manager from all of them: whom it does not hear it gives up.
fn loses_drivers(fault: &Fault) -> bool {
    let is_of_link = matches!(fault.kind, Kind::Cut | Kind::Loss { .. } | Kind::Slow { .. });
    of_driver(fault) || of_worker(fault) || (of_manager(fault) && is_of_link)
}

/// An executor was lost, or could not be reached, or what it holds could not be read.
fn of_executor(fault: &Fault) -> bool {
    matches!(fault.target, Target::Executor(_)) || of_worker(fault)
}

fn of_disk(fault: &Fault) -> bool {
    fault.kind == Kind::DiskFull
}

#[cfg(test)]
mod tests {
    use super::*;

    fn befallen(kind: Kind, target: Target, from: u64, to: Option<u64>) -> Befallen {
        let fault = Fault { at_ms: 0, kind, target, for_ms: 0 };
        Befallen { fault, from: Duration::from_secs(from), to: to.map(Duration::from_secs) }
    }

    fn failed(way: Way, code: i32, error: &str) -> Failed<'_> {
        Failed { way, from: Duration::from_secs(100), to: Duration::from_secs(110), code, error }
    }

    #[test]
    fn a_client_may_not_reach_a_manager_that_is_away_and_no_other() {
        let away = |from, to| [befallen(Kind::Kill, Target::Manager, from, to)];
        let unreachable = failed(Way::Client, 3, "error: the manager cannot be reached");
        assert_eq!(excuse(&unreachable, &away(101, None)), Some(Excuse::ManagerAway));
        assert_eq!(excuse(&unreachable, &away(90, Some(99))), Some(Excuse::ManagerAway));
        assert_eq!(excuse(&unreachable, &away(10, Some(20))), None);
        assert_eq!(excuse(&unreachable, &away(111, None)), None);
        assert_eq!(excuse(&failed(Way::Client, 1, "error: lost"), &away(101, None)), None);
        assert_eq!(excuse(&unreachable, &[]), None);
    }

    #[test]
    fn only_submitted_jobs_depend_on_drivers_and_workers() {
        let killed = befallen(Kind::Kill, Target::Driver(0), 105, Some(105));
        let error = "error: the driver was lost 2 times";
        let twice = [killed.clone(), killed.clone()];
        assert_eq!(excuse(&failed(Way::Submitted, 1, error), &twice), Some(Excuse::DriverLostTwice));
        assert_eq!(excuse(&failed(Way::Submitted, 1, error), &twice[..1]), None);
        assert_eq!(excuse(&failed(Way::Client, 1, error), &twice), None);
        let worker = befallen(Kind::Kill, Target::Worker(1), 105, Some(106));
        let once = failed(Way::Submitted, 1, error);
        assert_eq!(excuse(&once, std::slice::from_ref(&worker)), None);
        assert_eq!(excuse(&once, &[worker.clone(), worker.clone()]), Some(Excuse::DriverLostTwice));
        let manager = |kind| befallen(kind, Target::Manager, 101, Some(108));
        assert_eq!(excuse(&once, &[worker.clone(), manager(Kind::Cut)]), Some(Excuse::DriverLostTwice));
        assert_eq!(excuse(&once, &[worker, manager(Kind::Stop)]), None, "it gives nobody up for that");
    }

    #[test]
    fn one_fault_of_an_executor_is_no_reason() {
        let one = befallen(Kind::Kill, Target::Executor(1), 105, Some(105));
        let error = "error: x\n detail: task job1/s0/p0 failed 4 times, and is not tried again";
        assert_eq!(excuse(&failed(Way::Client, 1, error), &vec![one.clone(); 3]), None);
        assert_eq!(excuse(&failed(Way::Client, 1, error), &vec![one; 4]), Some(Excuse::TooOften));
    }
}
