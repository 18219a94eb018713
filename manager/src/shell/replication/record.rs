//! What is replicated.

use std::io::Cursor;

use openraft::BasicNode;
use serde::{Deserialize, Serialize};

use crate::shell::journal::records::{Change, Numbers};

openraft::declare_raft_types!(
    /// The types of the consensus: entries of the log are [`Record`]s, a snapshot is JSON.
    pub(super) Records:
        D = Record,
        R = Outcome,
        NodeId = u64,
        Node = BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(super) type Raft = openraft::Raft<Records>;
pub(super) type Entry = openraft::Entry<Records>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Membership = openraft::StoredMembership<u64, BasicNode>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::shell) enum Record {
    /// A manager begins to lead, at a time of the unix clock in milliseconds.
    RunBegins { unix_ms: u64 },
    /// The journal changes.
    Changes(Change),
}

/// What came of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::shell) enum Outcome {
    /// It was an entry of the library's own.
    Nothing,
    Begun(Numbers),
    Changed,
    /// Another run has begun since the one that wrote it: nothing is changed.
    Superseded,
}
