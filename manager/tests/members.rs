//! Three managers in one process, over real gRPC on loopback.

#![allow(clippy::unwrap_used, reason = "these are tests, and so are their helpers")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::config::HostPort;
use firesteel_base::{UserError, version};
use firesteel_certs::Security;
use firesteel_manager::shell::grpc;
use firesteel_manager::{Manager, ManagerConfig, Member, Peers};
use firesteel_protocol::channel::{self, Channel};
use firesteel_protocol::managers::{Managers, show};
use firesteel_protocol::v1::manager_client::ManagerClient;
use firesteel_protocol::v1::members_client::MembersClient;
use firesteel_protocol::v1::{self, MemberCall, MemberRole};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;

/// No wait of these tests is expected to take this long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A manager and its server.
struct Served {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), UserError>>,
}

impl Served {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap().unwrap();
    }
}

async fn start(peers: &[HostPort], index: usize, listener: TcpListener, folder: &Path) -> Served {
    let me = Peers::find(peers, None, &peers[index]).await.unwrap();
    let state = folder.join(index.to_string());
    let member = Member::start(ManagerConfig::default(), me, Security::default(), &state).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        // Dropped when the test ends: that stops it too.
        let _ = stopped.await;
    };
    Served { stop, ended: tokio::spawn(grpc::serve_member(member, listener, Security::default(), shutdown)) }
}

/// Ports of three managers that know of each other, none of which is started.
async fn three() -> (Vec<HostPort>, Vec<TcpListener>) {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string().parse().unwrap();
    (listeners.iter().map(address).collect(), listeners)
}

fn managers(peers: &[HostPort]) -> Managers {
    Managers::of(&firesteel_base::config::address_list(peers), Security::default())
}

fn client(channel: Channel) -> ManagerClient<Channel> {
    ManagerClient::new(channel)
}

async fn jobs(channel: Channel) -> Vec<String> {
    let request = v1::ListJobsRequest { wire_version: version::WIRE, all: true };
    let listed = client(channel).list_jobs(request).await.unwrap().into_inner();
    listed.jobs.into_iter().map(|job| job.name).collect()
}

async fn role(peer: &HostPort) -> MemberRole {
    show(&Security::default(), &peer.to_string(), PATIENCE).await.unwrap().0.role()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_form_a_cluster_once_all_are_seen_and_two_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, listeners) = three().await;
    let mut listeners = listeners.into_iter();
    let mut running = Vec::new();
    for index in 0..2 {
        running.push(start(&peers, index, listeners.next().unwrap(), folder.path()).await);
    }
    // Two are a majority, but the third may have kept what these two lost.
    let nobody = managers(&peers).connect(Duration::from_secs(3)).await.unwrap_err();
    assert!(nobody.detail.unwrap().contains("it waits for all others"));
    assert_eq!((role(&peers[0]).await, role(&peers[1]).await), (MemberRole::Forming, MemberRole::Forming));
    running.push(start(&peers, 2, listeners.next().unwrap(), folder.path()).await);

    let (leader, channel) = managers(&peers).connect(PATIENCE).await.unwrap();
    let request = v1::SubmitRequest {
        wire_version: version::WIRE,
        name: "one".to_owned(),
        sql: "select 1".to_owned(),
        ..v1::SubmitRequest::default()
    };
    client(channel.clone()).submit(request).await.unwrap();
    assert_eq!(jobs(channel).await, ["one"]);

    // Those that follow say who leads, and lead those there that know only them.
    let at = peers.iter().position(|peer| peer.to_string() == leader).unwrap();
    let other = &peers[(at + 1) % 3];
    let told =
        channel::connect(&Security::default(), channel::Server::Manager, &other.to_string()).await.unwrap();
    let request = v1::ListJobsRequest { wire_version: version::WIRE, all: true };
    let refused = client(told).list_jobs(request).await.unwrap_err();
    assert_eq!(channel::leader_told(&refused), Some(Some(leader.clone())));
    let only_other = Managers::of(&other.to_string(), Security::default());
    assert!(only_other.learn(&refused));
    assert_eq!(only_other.connect(PATIENCE).await.unwrap().0, leader);

    running.remove(at).stop().await;
    let (next, channel) = managers(&peers).connect(PATIENCE).await.unwrap();
    assert_ne!(next, leader);
    assert_eq!(jobs(channel).await, ["one"]);
    for served in running {
        served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_between_members_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, listeners) = three().await;
    let served = start(&peers, 0, listeners.into_iter().next().unwrap(), folder.path()).await;
    let me = peers[0].to_string();
    let (view, channel) = show(&Security::default(), &me, PATIENCE).await.unwrap();
    assert_eq!(view.address, me);
    let members = MembersClient::new(channel);
    let good = MemberCall {
        wire_version: version::WIRE,
        members: view.members.clone(),
        to: me,
        call: "{}".into(),
        snapshot: Vec::new().into(),
    };
    let refused = async |call: MemberCall| {
        let status = members.clone().append(call).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let (code, text) = refused(good.clone()).await;
    assert!(code == Code::InvalidArgument && text.contains("MemberCall.call"), "{text}");
    let (code, text) = refused(MemberCall { members: "a:1,b:1".to_owned(), ..good.clone() }).await;
    assert!(code == Code::FailedPrecondition && text.contains("Give all the same list"), "{text}");
    let (code, text) = refused(MemberCall { to: "b:1".to_owned(), ..good.clone() }).await;
    assert!(code == Code::FailedPrecondition && text.contains("not b:1"), "{text}");
    let (code, _) = refused(MemberCall { wire_version: 999, ..good.clone() }).await;
    assert_eq!(code, Code::FailedPrecondition);
    // It has kept nothing, so it has no vote.
    let vote = r#"{"vote":{"leader_id":{"term":9,"node_id":2},"committed":false},"last_log_id":null}"#;
    let asked = members.clone().vote(MemberCall { call: vote.into(), ..good }).await.unwrap_err();
    assert!(asked.message().contains("has no vote"), "{asked}");
    served.stop().await;
}

#[tokio::test]
async fn a_manager_that_is_alone_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let manager: Arc<Manager> = Manager::start(ManagerConfig::default());
    let (_stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(grpc::serve(manager, listener, Security::default(), async {
        // Dropped when the test ends.
        let _ = stopped.await;
    }));
    let (view, channel) = show(&Security::default(), &address.to_string(), PATIENCE).await.unwrap();
    assert!(view.role() == MemberRole::Alone && view.serves && view.members.is_empty());
    let called = MembersClient::new(channel).append(MemberCall::default()).await.unwrap_err();
    assert!(called.message().contains("this manager is alone"), "{called}");
    // One that is alone is found among several addresses too.
    let list = format!("127.0.0.1:1,{address}");
    assert_eq!(
        Managers::of(&list, Security::default()).connect(PATIENCE).await.unwrap().0,
        address.to_string()
    );
}
