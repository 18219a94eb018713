#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firesteel_certs::{Authority, Files, Lifetime, Request as Asked, Role, Security, Tls};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Request};

use super::*;
use crate::v1::members_client::MembersClient;
use crate::v1::members_server::{Members, MembersServer};
use crate::v1::{MemberAnswer, MemberCall, MemberView, ShowMemberRequest};

const SOON: Duration = Duration::from_secs(20);

/// Says of everybody who asks who it is.
struct Mirror;

#[tonic::async_trait]
impl Members for Mirror {
    async fn show(&self, request: Request<ShowMemberRequest>) -> Result<Response<MemberView>, Status> {
        let folder = caller(&request).identity().map(ToString::to_string).unwrap_or_default();
        Ok(Response::new(MemberView { folder, ..MemberView::default() }))
    }

    async fn append(&self, _: Request<MemberCall>) -> Result<Response<MemberAnswer>, Status> {
        Ok(Response::new(MemberAnswer::default()))
    }

    async fn vote(&self, _: Request<MemberCall>) -> Result<Response<MemberAnswer>, Status> {
        Ok(Response::new(MemberAnswer::default()))
    }

    async fn install_snapshot(&self, _: Request<MemberCall>) -> Result<Response<MemberAnswer>, Status> {
        Ok(Response::new(MemberAnswer::default()))
    }
}

async fn serve(security: &Security, limits: ConnectionLimits) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = incoming_within(listener, security, limits);
    tokio::spawn(server().add_service(MembersServer::new(Mirror)).serve_with_incoming(connections));
    address
}

/// An authority in a folder of its own.
struct Issuer(tempfile::TempDir);

impl Issuer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Authority::create(&folder.path().join("ca"), "test", Lifetime::of_days(2)).unwrap();
        Self(folder)
    }

    fn issue(&self, name: &str, role: Role, hosts: &[&str]) -> Security {
        let folder: &Path = &self.0.path().join(name);
        let user = (role == Role::Client).then(|| name.to_owned());
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        let asked = Asked { role, user, hosts, lifetime: Lifetime::of_days(2) };
        let authority = Authority::open(&self.0.path().join("ca")).unwrap();
        authority.issue(&asked).unwrap().write(folder).unwrap();
        Security::Tls(Arc::new(Tls::of_files(Files::of_folder(folder)).unwrap()))
    }
}

async fn show(security: &Security, address: &str) -> Result<String, UserError> {
    let asking = async {
        let channel = connect(security, Server::Manager, address).await?;
        let shown = MembersClient::new(channel).show(ShowMemberRequest::default()).await;
        shown.map(|view| view.into_inner().folder).map_err(|status| user_error("manager", address, &status))
    };
    tokio::time::timeout(SOON, asking).await.expect("an answer, soon")
}

#[tokio::test]
async fn both_ends_know_each_other_and_a_call_is_for_some_roles() {
    let issuer = Issuer::new();
    let manager = issuer.issue("manager", Role::Manager, &["127.0.0.1"]);
    let address = serve(&manager, ConnectionLimits::default()).await;
    let alice = issuer.issue("alice", Role::Client, &[]);
    assert_eq!(show(&alice, &address).await.unwrap(), "client alice of the cluster 'test'");
    for (security, allowed) in [(&alice, false), (&manager, true)] {
        let channel = connect(security, Server::Manager, &address).await.unwrap();
        let answered = MembersClient::new(channel).append(MemberCall::default()).await;
        match answered {
            Ok(_) => assert!(allowed),
            Err(status) => {
                assert!(!allowed && status.code() == Code::PermissionDenied, "{status}");
                assert!(status.message().contains("for a manager of the cluster 'test'"), "{status}");
                assert!(status.message().contains("of a client alice"), "{status}");
            }
        }
    }
}

#[tokio::test]
async fn who_speaks_without_tls_is_told_so_and_the_reverse() {
    let issuer = Issuer::new();
    let address =
        serve(&issuer.issue("manager", Role::Manager, &["127.0.0.1"]), ConnectionLimits::default()).await;
    let told = show(&Security::default(), &address).await.unwrap_err().to_string();
    assert!(told.contains("speaks TLS alone") && told.contains("security.folder"), "{told}");

    let plain = serve(&Security::default(), ConnectionLimits::default()).await;
    assert_eq!(show(&Security::default(), &plain).await.unwrap(), "");
    let told = show(&issuer.issue("alice", Role::Client, &[]), &plain).await.unwrap_err().to_string();
    assert!(told.contains("TLS") && told.contains("--insecure"), "{told}");
}

#[tokio::test]
async fn a_server_must_be_who_was_meant() {
    let issuer = Issuer::new();
    let alice = issuer.issue("alice", Role::Client, &[]);
    let refused = async |server: Security| {
        let address = serve(&server, ConnectionLimits::default()).await;
        show(&alice, &address).await.unwrap_err().to_string()
    };
    let told = refused(issuer.issue("elsewhere", Role::Manager, &["elsewhere"])).await;
    assert!(told.contains("127.0.0.1") && told.contains("elsewhere"), "{told}");
    let told = refused(issuer.issue("worker", Role::Worker, &["127.0.0.1"])).await;
    assert!(
        told.contains("of a worker") && told.contains("of a manager of the cluster 'test' is wanted"),
        "{told}"
    );
    let told = refused(Issuer::new().issue("foreign", Role::Manager, &["127.0.0.1"])).await;
    assert!(told.contains("issued by another authority"), "{told}");
}

#[tokio::test]
async fn who_stays_silent_is_dropped() {
    let issuer = Issuer::new();
    let manager = issuer.issue("manager", Role::Manager, &["127.0.0.1"]);
    let limits = ConnectionLimits { handshake: Duration::from_millis(100), ..ConnectionLimits::default() };
    let address = serve(&manager, limits).await;
    let mut silent = TcpStream::connect(&address).await.unwrap();
    let ended = tokio::time::timeout(SOON, silent.read(&mut [0; 8])).await.expect("it is dropped");
    assert!(!matches!(ended, Ok(1..)), "nothing is said to it: {ended:?}");
}

#[tokio::test]
async fn who_comes_too_late_is_dropped_and_room_is_given_back() {
    let issuer = Issuer::new();
    let manager = issuer.issue("manager", Role::Manager, &["127.0.0.1"]);
    let limits = ConnectionLimits { handshakes: 2, ..ConnectionLimits::default() };
    let address = serve(&manager, limits).await;
    let kept = [TcpStream::connect(&address).await.unwrap(), TcpStream::connect(&address).await.unwrap()];
    let mut third = TcpStream::connect(&address).await.unwrap();
    let ended = tokio::time::timeout(SOON, third.read(&mut [0; 8])).await.expect("it is dropped");
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    drop(kept);
    let alice = issuer.issue("alice", Role::Client, &[]);
    let until = tokio::time::Instant::now() + SOON;
    while let Err(fault) = show(&alice, &address).await {
        assert!(tokio::time::Instant::now() < until, "{fault}");
    }
}

#[tokio::test]
async fn other_hosts_are_not_talked_to_without_certificates() {
    let told = connect(&Security::default(), Server::Manager, "10.255.255.1:7400").await.unwrap_err();
    assert!(told.message.contains("is on another host"), "{told}");
    assert!(told.hint.unwrap().contains("--insecure"));
    for address in ["localhost:1", "127.0.0.1:1", "[::1]:1"] {
        let told = connect(&Security::default(), Server::Manager, address).await.unwrap_err();
        assert!(told.message.contains("cannot reach the manager"), "{address}: {told}");
    }
}
