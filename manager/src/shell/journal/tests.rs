use std::collections::BTreeMap;

use firesteel_base::Class;
use redb::Database;

use super::own::FORMAT;
use super::records::{EPOCHS_OF_A_RUN, JOBS, NUMBERS};
use super::*;
use crate::ManagerConfig;
use crate::machine::job::{Launch, Phase};
use crate::machine::message::{Ending, Failure, Seed};

fn job(number: u64, phase: Phase) -> Job {
    let mut job =
        Job::new("q1".to_owned(), "select 'ä'".to_owned(), "ana".to_owned(), phase, Timestamp(number));
    job.id = JobId(number);
    job.driver_host = "laptop".to_owned();
    job.incarnation = "the first".to_owned();
    job.queue = "night".to_owned();
    job.weight = 3;
    job
}

fn of_cluster(job: Job) -> Job {
    let conf = BTreeMap::from([("firesteel.adaptive".to_owned(), "false".to_owned())]);
    let worker = Some("w0".parse().unwrap());
    let result_address = Some("w0:7410".to_owned());
    let worker_address = result_address.clone();
    let launch = Launch {
        conf,
        seed: Seed([7; 32]),
        worker,
        worker_address,
        worker_incarnation: Some("the first".to_owned()),
        launches: 1,
        driver_ended: None,
        result_address,
    };
    Job { launch: Some(launch), ..job }
}

fn jobs() -> Vec<Job> {
    let failure = Failure { class: Class::Resources, error: UserError::new("no").detail("why").hint("do") };
    let ended = |job: Job| Job { started: Some(job.submitted), ended: Some(Timestamp(50)), ..job };
    vec![
        of_cluster(job(1, Phase::Submitted)),
        of_cluster(job(2, Phase::Launching { since: Timestamp(0) })),
        job(3, Phase::Detached { until: Timestamp(0) }),
        ended(of_cluster(job(4, Phase::Ended(Ending::Succeeded { rows: 9 })))),
        ended(job(5, Phase::Ended(Ending::Failed(failure)))),
        Job {
            cancelled: Some((Timestamp(40), "enough".to_owned())),
            ..ended(job(6, Phase::Ended(Ending::Cancelled { reason: "enough".to_owned() })))
        },
    ]
}

/// Writes what has changed, if anything has.
fn write(journal: &mut Journal, machine: &Machine) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    if let Some(change) = journal.take_change(machine) {
        runtime.block_on(journal.write(change)).unwrap();
    }
}

/// A journal into which a manager of these jobs has written all of them.
fn written(folder: &Path, jobs: &[Job]) {
    let mut journal = Journal::open(folder).unwrap();
    let machine = Machine::restore(ManagerConfig::default(), jobs.to_vec(), 0, Timestamp(0));
    jobs.iter().for_each(|job| journal.note(job.id, job.launch.is_some()));
    assert!(journal.is_urgent(&machine));
    write(&mut journal, &machine);
    assert!(!journal.is_urgent(&machine));
}

#[test]
fn what_was_written_is_there_for_the_next_manager() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made/on/demand");
    written(&folder, &jobs());
    let mut journal = Journal::open(&folder).unwrap();
    assert_eq!(journal.take_jobs(), jobs());
    assert!(journal.now() >= Timestamp(50), "time goes on after the last thing that was kept");
    // One that is forgotten is not there any more.
    let without = Machine::restore(ManagerConfig::default(), jobs()[..5].to_vec(), 0, Timestamp(0));
    journal.note(JobId(6), false);
    assert!(!journal.is_urgent(&without));
    write(&mut journal, &without);
    drop(journal);
    assert_eq!(Journal::open(&folder).unwrap().take_jobs(), jobs()[..5]);
}

#[test]
fn every_run_begins_past_the_epochs_of_those_before() {
    let folder = tempfile::tempdir().unwrap();
    let first = Journal::open(folder.path()).unwrap();
    let (seed, origin) = (first.epoch_seed(), first.origin_unix_ms());
    drop(first);
    let second = Journal::open(folder.path()).unwrap();
    assert!(second.epoch_seed() >= seed + EPOCHS_OF_A_RUN, "whatever the host's clock says");
    assert_eq!(second.origin_unix_ms(), origin);
}

/// Nor those of jobs that were not written before their manager died.
#[test]
fn numbers_of_jobs_never_come_again() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &jobs());
    let mut journal = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.numbered(), 6 + NUMBERS_AHEAD);
    let near = Machine::restore(ManagerConfig::default(), jobs(), journal.numbered() - 1, Timestamp(0));
    assert!(!journal.is_urgent(&near));
    let there = Machine::restore(ManagerConfig::default(), jobs(), journal.numbered(), Timestamp(0));
    assert!(journal.is_urgent(&there), "the next number must not be given before more are written");
    write(&mut journal, &there);
    drop(journal);
    assert_eq!(Journal::open(folder.path()).unwrap().numbered(), 6 + 2 * NUMBERS_AHEAD);
}

#[test]
fn a_second_manager_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Journal::open(folder.path()).unwrap();
    let fault = Journal::open(folder.path()).unwrap_err().to_string();
    assert!(fault.contains("another manager has the journal") && fault.contains("--state"), "{fault}");
    drop(first);
    Journal::open(folder.path()).unwrap();
}

#[test]
fn what_is_no_journal_is_told_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(OWN_FILE);
    std::fs::write(&file, "these are no pages of a database, for sure").unwrap();
    let fault = Journal::open(folder.path()).unwrap_err().to_string();
    assert!(fault.contains("manager.redb") && fault.contains("cannot open"), "{fault}");
    std::fs::remove_file(&file).unwrap();
    let fault = Journal::open(&Path::new("/proc").join("none")).unwrap_err().to_string();
    assert!(fault.contains("/proc/none"), "{fault}");
}

#[test]
fn a_journal_of_another_form_or_with_a_job_that_cannot_be_read_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), &jobs());
    let change = |number: u64, json: &[u8], format: u64| {
        let database = Database::create(folder.path().join(OWN_FILE)).unwrap();
        let writing = database.begin_write().unwrap();
        writing.open_table(JOBS).unwrap().insert(number, json).unwrap();
        writing.open_table(NUMBERS).unwrap().insert("format", format).unwrap();
        writing.commit().unwrap();
    };
    change(3, b"{", FORMAT);
    let fault = Journal::open(folder.path()).unwrap_err().to_string();
    assert!(fault.contains("job3") && fault.contains("manager.redb"), "{fault}");
    change(3, &KeptJob::of(&jobs()[2]).to_json(), 7);
    let fault = Journal::open(folder.path()).unwrap_err().to_string();
    assert!(fault.contains("form 7") && fault.contains("run the release"), "{fault}");
    change(3, &KeptJob::of(&jobs()[2]).to_json(), FORMAT);
    assert_eq!(Journal::open(folder.path()).unwrap().take_jobs(), jobs());
}
