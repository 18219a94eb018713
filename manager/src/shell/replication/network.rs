//! Calls to other members.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use firesteel_base::{UserError, version};
use firesteel_certs::Security;
use firesteel_protocol::channel::{Channel, Server, connect_lazily};
use firesteel_protocol::v1::members_client::MembersClient;
use firesteel_protocol::v1::{MemberAnswer, MemberCall};
use openraft::BasicNode;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status};

use super::Peers;
use super::lease::Lease;
use super::record::Records;
use super::service::CALL_BYTES_MAX;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(500);
/// How soon a member that cannot be reached is called again.
const AWAY_PAUSE: Duration = Duration::from_millis(200);

type CallError<E> = RPCError<u64, BasicNode, E>;

/// Makes the ways to other members.
pub(super) struct Network {
    peers: Peers,
    security: Security,
    lease: Arc<Lease>,
    away: Arc<Mutex<BTreeSet<u64>>>,
}

impl Network {
    pub fn new(peers: Peers, security: Security, lease: Arc<Lease>) -> Self {
        Self { peers, security, lease, away: Arc::default() }
    }
}

impl RaftNetworkFactory<Records> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Way {
        let channel = connect_lazily(&self.security, Server::Manager, &node.addr, CONNECT);
        Way {
            target,
            address: node.addr.clone(),
            members: self.peers.to_string(),
            channel,
            lease: Arc::clone(&self.lease),
            away: Arc::clone(&self.away),
        }
    }
}

/// The way to one of them.
pub(super) struct Way {
    target: u64,
    address: String,
    members: String,
    channel: Result<Channel, UserError>,
    lease: Arc<Lease>,
    /// Those that did not answer the last call.
    away: Arc<Mutex<BTreeSet<u64>>>,
}

impl Way {
    fn client(&self) -> Result<MembersClient<Channel>, Unreachable> {
        let channel = self.channel.as_ref().map_err(Unreachable::new)?;
        let client = MembersClient::new(channel.clone());
        Ok(client.max_decoding_message_size(CALL_BYTES_MAX).max_encoding_message_size(CALL_BYTES_MAX))
    }

    fn call<C: Serialize>(&self, call: &C, snapshot: Vec<u8>, option: &RPCOption) -> Request<MemberCall> {
        let mut request = Request::new(MemberCall {
            // What members say has not changed since: the release before understands it.
            wire_version: version::WIRE_OLDEST,
            members: self.members.clone(),
            to: self.address.clone(),
            call: serde_json::to_vec(call).expect("plain data becomes JSON").into(),
            snapshot: snapshot.into(),
        });
        request.set_timeout(option.hard_ttl());
        request
    }

    /// Notes whether the other is away. Says whether it was not known.
    fn is_news(&self, is_away: bool) -> bool {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if is_away { away.insert(self.target) } else { away.remove(&self.target) }
    }

    /// What was answered, or what the other's consensus library says is wrong.
    fn answer<T, E>(&self, answered: Result<Response<MemberAnswer>, Status>) -> Result<T, CallError<E>>
    where
        T: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let answer = answered.map_err(|status| {
            if self.is_news(true) {
                tracing::warn!(
                    manager = self.address,
                    fault = status.message(),
                    "another manager does not answer"
                );
            }
            CallError::Unreachable(Unreachable::new(&status))
        })?;
        if self.is_news(false) {
            tracing::info!(manager = self.address, "another manager answers again");
        }
        let answer: Result<T, E> = serde_json::from_slice(&answer.into_inner().answer)
            .map_err(|fault| CallError::Network(NetworkError::new(&fault)))?;
        answer.map_err(|fault| CallError::RemoteError(RemoteError::new(self.target, fault)))
    }
}

impl RaftNetwork<Records> for Way {
    async fn append_entries(
        &mut self,
        call: AppendEntriesRequest<Records>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, CallError<RaftError<u64>>> {
        let begun = Instant::now();
        let request = self.call(&call, Vec::new(), &option);
        let answered = self.client()?.append(request).await;
        let answer = self.answer(answered)?;
        match &answer {
            AppendEntriesResponse::HigherVote(_) => {}
            AppendEntriesResponse::Success
            | AppendEntriesResponse::PartialSuccess(_)
            | AppendEntriesResponse::Conflict => self.lease.answered(&call.vote, self.target, begun),
        }
        Ok(answer)
    }

    async fn install_snapshot(
        &mut self,
        mut call: InstallSnapshotRequest<Records>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, CallError<RaftError<u64, InstallSnapshotError>>> {
        let data = std::mem::take(&mut call.data);
        let request = self.call(&call, data, &option);
        let answered = self.client()?.install_snapshot(request).await;
        self.answer(answered)
    }

    async fn vote(
        &mut self,
        call: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, CallError<RaftError<u64>>> {
        let request = self.call(&call, Vec::new(), &option);
        let answered = self.client()?.vote(request).await;
        self.answer(answered)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(AWAY_PAUSE))
    }
}
