//! What members keep and tell each other, to be read by the fuzzer and by the tests that run what it kept.

use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{Entry, Membership, Records, Vote};
use super::state::Image;
use super::store::{from_json, to_json};

/// Reads JSON of that kind; tells whether it is of it.
pub(in crate::shell) fn read(kind: u8, json: &[u8]) -> bool {
    match kind {
        1 => is_said_again::<Entry>(json),
        2 => is_said_again::<Image>(json),
        3 => is_said_again::<AppendEntriesRequest<Records>>(json),
        4 => is_said_again::<VoteRequest<u64>>(json),
        5 => is_said_again::<InstallSnapshotRequest<Records>>(json),
        6 => is_said_again::<Vote>(json),
        7 => is_said_again::<Membership>(json),
        _ => false,
    }
}

/// Whether it can be read; what was read is said as it will be read.
fn is_said_again<T: Serialize + DeserializeOwned>(json: &[u8]) -> bool {
    let Ok(read) = from_json::<T>(json) else { return false };
    let said = to_json(&read);
    let again: T = from_json(&said).expect("what was said can be read");
    assert_eq!(to_json(&again), said);
    true
}
