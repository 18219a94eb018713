//! Each row of the table in `docs/failures.md`: that fault alone befalls small clusters, it is seen to have happened and to have been
//! dealt with, and everything that must hold does.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use firesteel_sim::faults::Fault;
use firesteel_sim::{Options, Report, run};

/// What happened in many worlds in which nothing but this fault came, at several times.
struct Befell(Vec<Report>);

const SEEDS: u64 = 40;

/// Clusters whose users come at once, and which this fault befalls while their queries run.
fn befalls(fault: &Fault, options: &Options) -> Befell {
    let at = |millis| (Duration::from_millis(millis), fault.clone());
    let come = |millis| (Duration::from_millis(millis), Fault::DriverStarts);
    let world = |seed: u64| {
        let hits = [1_300 + 37 * (seed % 11), 2_600, 4_200].map(at);
        let script = [come(100), come(900)].into_iter().chain(hits).collect();
        let options = Options { keeps_story: true, script: Some(script), ..options.clone() };
        let report = run(seed, &options);
        assert_eq!(report.violation, None, "seed {seed} of {fault:?}");
        report
    };
    Befell((0..SEEDS).map(world).collect())
}

impl Befell {
    fn says(report: &Report, what: &str) -> bool {
        report.story.iter().any(|line| line.what.contains(what))
    }

    /// In how many worlds all of this was told.
    fn in_which(&self, told: &[&str]) -> usize {
        self.0.iter().filter(|report| told.iter().all(|what| Self::says(report, what))).count()
    }

    /// Some worlds tell all of this.
    fn tells(&self, told: &[&str]) -> &Self {
        assert!(self.in_which(told) > 0, "no world tells all of {told:?}");
        self
    }

    /// No query came to nothing.
    fn all_succeed(&self) -> &Self {
        for report in &self.0 {
            let counts = report.counts;
            assert_eq!(
                counts.failed + counts.cancelled + counts.abandoned,
                0,
                "seed {}: {counts:?}",
                report.seed
            );
        }
        self
    }

    /// Most queries succeed, and some need not.
    fn most_succeed(&self) -> &Self {
        let sum = |of: fn(&Report) -> u64| self.0.iter().map(of).sum::<u64>();
        let (good, bad) = (sum(|r| r.counts.succeeded), sum(|r| r.counts.failed + r.counts.abandoned));
        assert!(good > 2 * bad, "{good} succeeded, {bad} did not");
        self
    }
}

fn one_manager() -> Options {
    Options { managers: Some(1), ..Options::default() }
}

fn submitting() -> Options {
    Options { submits: true, ..one_manager() }
}

#[test]
fn an_attempt_that_fails_is_tried_again_and_a_users_error_is_not() {
    befalls(&Fault::AttemptsFail, &one_manager())
        .tells(&["of 100 attempts fail", "Transient, it panicked"])
        .tells(&["Resources, out of memory"])
        .tells(&["User, division by zero", "has ended: failed: division by zero"])
        .most_succeed();
}

#[test]
fn an_executor_that_dies_costs_its_running_attempts_alone() {
    befalls(&Fault::ExecutorKilled, &one_manager())
        .tells(&["is killed", "is gone: its process ended", "blocks kept: true"])
        .most_succeed();
}

#[test]
fn what_a_lost_worker_held_is_made_again() {
    befalls(&Fault::WorkerKilled, &one_manager())
        .tells(&["its host loses power", "is lost: nothing was heard of it"])
        .tells(&["it is killed", "blocks kept: false"])
        .most_succeed();
}

#[test]
fn a_worker_behind_a_cut_is_given_up_and_comes_back_with_other_epochs() {
    befalls(&Fault::Isolated, &one_manager())
        .tells(&["cannot reach each other", "is lost: nothing was heard of it", "is in e1002"])
        .most_succeed();
}

#[test]
fn a_block_that_is_corrupt_is_named_and_the_attempt_that_wrote_it_is_run_again() {
    befalls(&Fault::BlockCorrupt, &one_manager())
        .tells(&["is corrupt", "Fetch, block of", "it is corrupt"])
        .most_succeed();
}

#[test]
fn a_straggler_gets_a_second_attempt_and_the_first_to_commit_counts() {
    befalls(&Fault::Slow, &one_manager()).tells(&["times slower", "speculated"]).all_succeed();
}

#[test]
fn a_manager_that_dies_is_followed_by_one_that_knows_what_was_written_and_hears_the_rest() {
    befalls(&Fault::ManagerKilled, &submitting())
        .tells(&["manager is killed", "lost the manager; what runs goes on", "goes on as"])
        .tells(&["goes on with its job and"])
        .most_succeed();
}

#[test]
fn a_leader_that_is_gone_is_followed_by_another_and_says_nothing_more() {
    let three = Options { managers: Some(3), submits: true, ..Options::default() };
    befalls(&Fault::LeaderFrozen, &three).tells(&["is stopped for", "does not lead any more"]).most_succeed();
    befalls(&Fault::LeaderIsolated, &three)
        .tells(&["cannot reach each other", "does not lead any more"])
        .most_succeed();
}

#[test]
fn a_journal_that_cannot_be_written_ends_the_manager_and_nothing_that_was_said_is_forgotten() {
    befalls(&Fault::JournalFails, &submitting())
        .tells(&["cannot write its journal, and ends", "goes on with its job and"])
        .most_succeed();
}

#[test]
fn what_a_dead_clients_driver_had_is_freed() {
    befalls(&Fault::DriverKilled, &one_manager()).tells(&["is killed", "whose driver is gone"]);
}

#[test]
fn a_submitted_jobs_driver_that_dies_is_launched_once_more() {
    let befell = befalls(&Fault::LaunchedKilled, &submitting());
    befell.tells(&["ended with signal: 9 (SIGKILL)", "launch 2"]).tells(&["the driver was lost 2 times"]);
    let launched_again: u64 = befell.0.iter().map(|report| report.counts.launched_again).sum();
    let delivered: u64 = befell.0.iter().map(|report| report.counts.delivered).sum();
    assert!(launched_again > 10 && delivered > 10, "{launched_again} launched again, {delivered} delivered");
}

#[test]
fn a_submitted_jobs_driver_behind_a_cut_loses_its_job_to_the_next() {
    let befell = befalls(&Fault::LaunchedIsolated, &submitting());
    befell.tells(&["is lost: nothing was heard of it", "launch 2"]);
}

#[test]
fn a_disk_that_is_full_fails_its_attempts_plainly_and_others_do_them() {
    befalls(&Fault::DiskFull, &one_manager())
        .tells(&["the disk of", "Resources, no space left on device"])
        .most_succeed();
}
