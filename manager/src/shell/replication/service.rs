//! The gRPC service of managers about themselves: who leads, and the calls between members.

use std::sync::Arc;

use firesteel_base::version::{self, Spoken};
use firesteel_protocol::channel::check_version;
use firesteel_protocol::v1::members_server::Members as Service;
use firesteel_protocol::v1::{MemberAnswer, MemberCall, MemberRole, MemberView, ShowMemberRequest};
use openraft::error::{Fatal, RaftError};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status};

use super::record::Records;
use super::{Member, vigil};
use crate::shell::check_client;
use crate::shell::grpc::Serving;

/// The largest call between members, in bytes: an entry of the log with the longest SQL text there may be, as JSON.
pub(super) const CALL_BYTES_MAX: usize = 256 << 20;
/// The largest snapshot that is taken, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// The service of one manager, be it alone or one of several.
pub(in crate::shell) struct Rpc(pub Serving);

impl Rpc {
    fn member(&self) -> Result<&Arc<Member>, Status> {
        match &self.0 {
            Serving::Member(member) => Ok(member),
            Serving::Alone(_) => Err(Status::failed_precondition(
                "this manager is alone: start it with --peers (manager.peers), or leave it out of the others' list",
            )),
        }
    }

    /// What a call says, once it is known to be for this member, from one of the same list.
    fn taken<C: DeserializeOwned>(
        &self,
        request: Request<MemberCall>,
    ) -> Result<(&Arc<Member>, C, Vec<u8>), Status> {
        let member = self.member()?;
        let call = request.into_inner();
        check_version("manager", Spoken::said(call.wire_version, call.wire_version), "")?;
        let (mine, me) = (member.peers.to_string(), member.peers.my_address());
        if call.members != mine {
            let text = format!(
                "the managers differ in manager.peers: {me} has {mine}, another one {}. Give all the same list",
                call.members
            );
            tracing::error!("{text}");
            return Err(Status::failed_precondition(text));
        }
        if call.to != me {
            return Err(Status::failed_precondition(format!("this is the manager {me}, not {}", call.to)));
        }
        let said = serde_json::from_slice(&call.call);
        let said = said.map_err(|fault| Status::invalid_argument(format!("MemberCall.call: {fault}")))?;
        Ok((member, said, call.snapshot.to_vec()))
    }
}

/// An answer or a fault, as JSON; a member that cannot go on is not there.
fn answer<T: Serialize, E: Serialize>(
    answered: Result<T, RaftError<u64, E>>,
) -> Result<Response<MemberAnswer>, Status> {
    if let Err(RaftError::Fatal(fault)) = &answered {
        return Err(ended(fault));
    }
    let answer = serde_json::to_vec(&answered).expect("plain data becomes JSON");
    Ok(Response::new(MemberAnswer { answer: answer.into() }))
}

fn ended(fault: &Fatal<u64>) -> Status {
    Status::unavailable(format!("this manager cannot go on: {fault}"))
}

#[tonic::async_trait]
impl Service for Rpc {
    async fn show(&self, request: Request<ShowMemberRequest>) -> Result<Response<MemberView>, Status> {
        check_client(request.into_inner().wire_version)?;
        Ok(Response::new(match &self.0 {
            Serving::Member(member) => member.view(),
            Serving::Alone(manager) => MemberView {
                role: MemberRole::Alone.into(),
                release: version::build().to_owned(),
                started_unix_ms: manager.started_unix_ms,
                serves: true,
                ..MemberView::default()
            },
        }))
    }

    async fn append(&self, request: Request<MemberCall>) -> Result<Response<MemberAnswer>, Status> {
        let (member, call, _) = self.taken::<AppendEntriesRequest<Records>>(request)?;
        let committed = call.leader_commit;
        let answered = member.raft.append_entries(call).await;
        if let Ok(answered) = &answered
            && !matches!(answered, AppendEntriesResponse::HigherVote(_))
        {
            member.hears_leader();
            let matches = !matches!(answered, AppendEntriesResponse::Conflict);
            vigil::caught_up(member, committed.filter(|_| matches)).await;
        }
        answer(answered)
    }

    /// Who lost what it kept may have voted already, and for somebody who has what it had.
    async fn vote(&self, request: Request<MemberCall>) -> Result<Response<MemberAnswer>, Status> {
        let (member, call, _) = self.taken::<VoteRequest<u64>>(request)?;
        if !member.has_vote() {
            return Err(Status::unavailable(
                "this manager has kept nothing, and has no vote before it has caught up",
            ));
        }
        let answered = member.raft.vote(call).await;
        if answered.as_ref().is_ok_and(|answered| answered.vote_granted) {
            // Whoever has this vote is given the time to win with it.
            member.hears_leader();
        }
        answer(answered)
    }

    async fn install_snapshot(&self, request: Request<MemberCall>) -> Result<Response<MemberAnswer>, Status> {
        let (member, mut call, data) = self.taken::<InstallSnapshotRequest<Records>>(request)?;
        let end = call.offset.saturating_add(data.len() as u64);
        if end > SNAPSHOT_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "a snapshot of more than {SNAPSHOT_BYTES_MAX} bytes"
            )));
        }
        call.data = data;
        let answered = member.raft.install_snapshot(call).await;
        if answered.is_ok() {
            member.hears_leader();
        }
        answer(answered)
    }
}
