use std::collections::BTreeMap;
use std::path::Path;

use firesteel_base::Timestamp;
use openraft::storage::{RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, EntryPayload, StorageError};
use tempfile::TempDir;

use super::log::Log;
use super::record::{Entry, LogId, Outcome, Record, Records, Vote};
use super::state::State;
use super::*;
use crate::machine::job::{Job, Phase};
use crate::shell::Journal;
use crate::shell::journal::KeptJob;
use crate::shell::journal::records::{Change, rows};

fn peers() -> Peers {
    Peers::new(["c:1", "a:1", "b:1"].map(str::to_owned), "b:1")
}

fn open(folder: &Path) -> (Log, State) {
    let store = Store::open(folder, &peers()).unwrap();
    (Log(store.clone()), State(store))
}

struct InNewFolders;

impl StoreBuilder<Records, Log, State, TempDir> for InNewFolders {
    async fn build(&self) -> Result<(TempDir, Log, State), StorageError<u64>> {
        let folder = tempfile::tempdir().unwrap();
        let (log, state) = open(folder.path());
        Ok((folder, log, state))
    }
}

/// The library's own tests of what it needs of a log and a state.
#[test]
fn the_store_is_what_the_consensus_needs() {
    Suite::test_all(InNewFolders).unwrap();
}

fn at(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn entry(index: u64, record: Record) -> Entry {
    Entry { log_id: at(index), payload: EntryPayload::Normal(record) }
}

fn job(number: u64) -> KeptJob {
    let mut job = Job::new(
        "q".to_owned(),
        "select 1".to_owned(),
        "ana".to_owned(),
        Phase::Submitted,
        Timestamp(number),
    );
    job.weight = 1;
    KeptJob::of(&job)
}

fn change(run: u64, numbered: u64, jobs: &[(u64, Option<KeptJob>)]) -> Record {
    Record::Changes(Change { run, numbered, jobs: jobs.iter().cloned().collect::<BTreeMap<_, _>>() })
}

async fn begin(state: &mut State, index: u64, unix_ms: u64) -> u64 {
    match state.apply([entry(index, Record::RunBegins { unix_ms })]).await.unwrap().as_slice() {
        [Outcome::Begun(numbers)] => numbers.epoch_seed,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_run_that_another_has_followed_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut state) = open(folder.path());
    let first = begin(&mut state, 1, 1000).await;
    let kept =
        state.apply([entry(2, change(first, 50, &[(7, Some(job(7))), (8, Some(job(8)))]))]).await.unwrap();
    assert_eq!(kept, [Outcome::Changed]);
    let second = begin(&mut state, 3, 900).await;
    assert!(second > first, "whatever the clock of its host says");
    let late = state.apply([entry(4, change(first, 9000, &[(7, None)]))]).await.unwrap();
    assert_eq!(late, [Outcome::Superseded]);
    state.apply([entry(5, change(second, 60, &[(8, None)]))]).await.unwrap();
    let numbers: Vec<u64> = state.0.read(rows).unwrap().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [7]);
}

#[tokio::test]
async fn a_snapshot_brings_another_member_to_the_same_state() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (_, mut from) = open(folders[0].path());
    let (_, mut to) = open(folders[1].path());
    let run = begin(&mut from, 1, 1000).await;
    from.apply([entry(2, change(run, 50, &[(7, Some(job(7)))]))]).await.unwrap();
    begin(&mut to, 1, 10).await;
    to.apply([entry(2, change(10, 5, &[(3, Some(job(3)))]))]).await.unwrap();
    let mut builder = from.get_snapshot_builder().await;
    // What is applied meanwhile is not in it.
    from.apply([entry(3, change(run, 50, &[(9, Some(job(9)))]))]).await.unwrap();
    let snapshot = builder.build_snapshot().await.unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(at(2)));
    to.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    let numbers: Vec<u64> = to.0.read(rows).unwrap().into_iter().map(|(number, _)| number).collect();
    assert_eq!((numbers, to.applied_state().await.unwrap().0), (vec![7], Some(at(2))));
    assert_eq!(to.get_current_snapshot().await.unwrap().unwrap().meta, snapshot.meta);
    assert!(begin(&mut to, 3, 0).await > run);
    // What is none harms nothing.
    let broken = Box::new(std::io::Cursor::new(b"{}".to_vec()));
    assert!(to.install_snapshot(&snapshot.meta, broken).await.is_err());
    assert_eq!(to.applied_state().await.unwrap().0, Some(at(3)));
}

#[tokio::test]
async fn votes_and_the_right_to_vote_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    assert!(!log.0.has_vote().unwrap());
    log.save_vote(&Vote::new(3, 2)).await.unwrap();
    let (founders, folder_name) = (vec!["x".to_owned(), "y".to_owned()], log.0.folder().to_owned());
    log.0.gain_vote(founders.clone()).await.unwrap();
    drop(log);
    let (mut log, _) = open(folder.path());
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 2)));
    assert!(log.0.has_vote().unwrap());
    assert_eq!((log.0.founders().unwrap(), log.0.folder()), (founders, folder_name.as_str()));
    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(other.path()).0.0.folder(), folder_name);
}

#[test]
fn a_folder_is_of_one_member_of_one_list() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let fault = |peers: &Peers| Store::open(folder.path(), peers).unwrap_err().to_string();
    let other = fault(&Peers::new(["a:1", "b:1", "d:1"].map(str::to_owned), "b:1"));
    assert!(other.contains("a:1,b:1,c:1") && other.contains("a:1,b:1,d:1"), "{other}");
    let another = fault(&Peers::new(["a:1", "b:1", "c:1"].map(str::to_owned), "c:1"));
    assert!(another.contains("of the manager b:1") && another.contains("--state"), "{another}");
    let alone = Journal::open(folder.path()).unwrap_err().to_string();
    assert!(alone.contains("one of several managers"), "{alone}");
    let (first, _) = open(folder.path());
    assert!(fault(&peers()).contains("another manager has the journal"));
    drop(first);
    let alone = tempfile::tempdir().unwrap();
    drop(Journal::open(alone.path()).unwrap());
    let fault = Store::open(alone.path(), &peers()).unwrap_err().to_string();
    assert!(fault.contains("a manager that was alone"), "{fault}");
}

#[tokio::test]
async fn a_manager_finds_itself_in_the_list_or_says_that_it_cannot() {
    let list: Vec<_> =
        ["127.0.0.1:7401", "127.0.0.1:7402", "192.0.2.1:7401"].map(|peer| peer.parse().unwrap()).into();
    let find = async |advertised: Option<&str>, bind: &str| {
        let advertised = advertised.map(|peer| peer.parse().unwrap());
        let found = Peers::find(&list, advertised.as_ref(), &bind.parse().unwrap()).await;
        found.map(|peers| peers.my_address().to_owned()).map_err(|error| error.to_string())
    };
    assert_eq!(find(None, "0.0.0.0:7402").await, Ok("127.0.0.1:7402".to_owned()));
    assert_eq!(find(None, "0.0.0.0:7401").await, Ok("127.0.0.1:7401".to_owned()));
    assert_eq!(find(Some("192.0.2.1:7401"), "0.0.0.0:9").await, Ok("192.0.2.1:7401".to_owned()));
    assert!(find(None, "0.0.0.0:7403").await.unwrap_err().contains("is none of the managers"));
}
