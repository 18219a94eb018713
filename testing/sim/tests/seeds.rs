//! Seeds hold, replay exactly, and a broken machine is caught.

#![allow(clippy::unwrap_used)]

use firesteel_sim::check::Counts;
use firesteel_sim::mutation::Kind;
use firesteel_sim::{Options, run};

/// Runs seeds, and tells of the first that fails with the command that replays it.
fn hold(seeds: std::ops::Range<u64>, options: &Options, flags: &str) -> Counts {
    let mut total = Counts::default();
    for seed in seeds {
        let report = run(seed, options);
        if let Some(what) = report.violation {
            panic!("seed {seed}: {what}\n  replay: cargo run -p firesteel-sim -- --seed {seed}{flags}");
        }
        total.add(&report.counts);
    }
    total
}

#[test]
fn whatever_goes_wrong_jobs_end_right_or_with_an_error_and_nothing_is_left() {
    let total = hold(0..1200, &Options::default(), "");
    // The world must be neither so kind nor so cruel that one of the ways out is never taken.
    let ways = [total.succeeded, total.failed, total.cancelled, total.abandoned];
    assert!(ways.iter().all(|&count| count > 10), "{total:?}");
    assert!(total.succeeded > 2 * total.failed && total.decided > 500, "{total:?}");
    assert!(total.drained > 50 && total.moved > 50, "{total:?}");
    // Some jobs are submitted, drivers launched again, results fetched, and managers follow others.
    assert!(total.submitted > 300 && total.launched_again > 30 && total.delivered > 300, "{total:?}");
    assert!(total.managers > 300, "{total:?}");
}

#[test]
fn when_nothing_goes_wrong_every_query_succeeds() {
    let total = hold(0..800, &Options { is_calm: true, ..Options::default() }, " --calm");
    assert_eq!((total.failed, total.cancelled, total.abandoned), (0, 0, 0));
    assert!(total.drained > 50 && total.moved > 50, "{total:?}");
    assert!(total.delivered > 200 && total.launched_again == 0, "{total:?}");
}

#[test]
fn a_join_does_not_take_in_a_stage_whose_partitions_are_read_in_groups() {
    hold(5696..5697, &Options { is_calm: true, ..Options::default() }, " --calm");
}

#[test]
fn rows_that_were_read_before_they_were_lost_are_not_mixed_with_those_of_another_division() {
    hold(883..884, &Options::default(), "");
}

/// A driver gave an executor up that the next manager had not seen again: nobody had its slots.
#[test]
fn what_a_driver_gives_back_before_its_executor_is_back_is_lent_again() {
    let three = Options { submits: true, managers: Some(3), ..Options::default() };
    hold(358..359, &three, " --submit --managers 3");
}

#[test]
fn the_same_seed_tells_the_same_story_twice() {
    let options = Options { keeps_story: true, ..Options::default() };
    for seed in 0..40 {
        let (one, other) = (run(seed, &options), run(seed, &options));
        assert!(one.story.len() > 50, "seed {seed} tells {} lines", one.story.len());
        assert_eq!(one, other, "seed {seed}");
    }
}

#[test]
fn another_seed_tells_another_story() {
    let options = Options { keeps_story: true, ..Options::default() };
    assert_ne!(run(1, &options).story, run(2, &options).story);
}

#[test]
fn a_story_that_nobody_hears_happens_all_the_same() {
    for seed in 0..20 {
        let heard = run(seed, &Options { keeps_story: true, ..Options::default() });
        let unheard = run(seed, &Options::default());
        assert_eq!((heard.steps, heard.time, heard.counts), (unheard.steps, unheard.time, unheard.counts));
    }
}

/// Seeds within which each mutation must be caught, and how it then is.
const CAUGHT: &[(Kind, &str)] = &[
    (Kind::LeaseTwice, "the manager counts 0"),
    (Kind::LendMore, "and the manager counts"),
    (Kind::KeepKept, "is kept for"),
    (Kind::DropDemand, "not ended in time"),
    (Kind::DropLaunch, "runs nothing and is not given back"),
    (Kind::DropRelease, "runs nothing and is not given back"),
    (Kind::DropMoreInputs, "is wrong"),
    (Kind::LaunchTwice, "and more attempts run"),
    (Kind::FreeEarly, "reads it"),
    (Kind::CloseWithoutFreeing, "has something of"),
    (Kind::ForgetInput, "is wrong"),
    (Kind::ShowResultEarly, "not ended in time"),
    (Kind::StaleReport, "not ended in time"),
    (Kind::ServeStale, "from an executor in"),
    (Kind::LetGoEarly, "is let go, where"),
    (Kind::SameAttempts, "is launched by two drivers"),
    (Kind::DropLaunchDriver, "is lost: no process of it has begun"),
    (Kind::EndTwice, "is told twice"),
    (Kind::LoseWrite, "was taken, and the manager does not know it"),
    (Kind::OldLeaderSpeaks, "speaks, and run"),
    (Kind::LoseRow, "is wrong"),
    (Kind::DoubleRow, "is wrong"),
];
const SEEDS_TO_CATCH: u64 = 300;

#[test]
fn every_mutation_is_caught() {
    let tested: Vec<Kind> = CAUGHT.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(tested, Kind::ALL, "each mutation is in the table");
    for (kind, how) in CAUGHT {
        let options = Options { mutation: Some(*kind), ..Options::default() };
        let caught = (0..SEEDS_TO_CATCH).find_map(|seed| run(seed, &options).violation);
        let what = caught.unwrap_or_else(|| panic!("{kind} is not caught: {}", kind.what()));
        assert!(what.contains(how), "{kind} is caught as: {what}");
    }
}
