//! How this project makes gRPC channels and servers: security, limits, keep-alive and deadlines in one place.

mod access;
mod connector;
mod incoming;
mod traffic;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use firesteel_base::UserError;
use firesteel_base::version::{self, Spoken};
use firesteel_certs::Security;
use http::Uri;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tower::Service;
use tower::layer::util::{Identity, Stack};

pub use access::{AccessLayer, Peer, caller};
pub use incoming::{
    CONNECTIONS_MAX, Connection, ConnectionLimits, HANDSHAKE_MAX, HANDSHAKES_MAX, Incoming, incoming,
    incoming_within,
};
pub use tonic::transport::Channel;
pub use tonic::{Response, Status};
pub use traffic::{TRAFFIC, Traffic};

/// The largest message to and from executors, in bytes: a stage's plan, and what a stage told of its keys.
pub const PLAN_BYTES_MAX: usize = 512 << 20;
/// The largest message to and from managers, in bytes: a job's SQL text, a host's topology, a list of all jobs.
pub const STEERING_BYTES_MAX: usize = 64 << 20;
/// The largest message to and from workers, in bytes: a piece of a result.
pub const RESULT_BYTES_MAX: usize = 4 << 20;
/// The largest question that holds a few numbers and names, in bytes.
pub const QUESTION_BYTES_MAX: usize = 64 << 10;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const WINDOW_BYTES: u32 = 4 << 20;

/// A manager that stands still is left for another one soon: nothing is lost by doing so in vain.
const ALERT_INTERVAL: Duration = Duration::from_secs(1);
const ALERT_TIMEOUT: Duration = Duration::from_secs(2);

/// The name under which a status carries who leads.
const LEADER: &str = "firesteel-leader";

/// The name under which a status carries what whoever is refused can do.
const HINT: &str = "firesteel-hint-bin";

/// Calls under way on one connection, sessions included; who makes more waits.
const CALLS_PER_CONNECTION_MAX: u32 = 256;
/// What is connected to. An executor has its worker's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// A manager.
    Manager,
    /// A worker.
    Worker,
    /// An executor.
    Executor,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
            Self::Executor => "executor",
        })
    }
}

/// Connects to `address` (`host:port`, with or without `http://`), or says what is not there.
///
/// # Errors
/// When the address makes no sense or may not be talked to, or nothing that is what it should be answers at it within five seconds.
pub async fn connect(security: &Security, server: Server, address: &str) -> Result<Channel, UserError> {
    let endpoint = endpoint(security, server, address)?;
    endpoint.connect_with_connector(connector(security, server)).await.map_err(|fault| {
        let hint = format!("is the {server} running there, and is the address right?");
        unreachable(server, address, &fault, &hint)
    })
}

/// As [`connect`], to a peer of which there are several: within `patience`, and left when it has been silent for 3 s.
///
/// # Errors
/// When the address makes no sense, or nothing answers at it in time.
pub(crate) async fn connect_alert(
    security: &Security,
    server: Server,
    address: &str,
    patience: Duration,
) -> Result<Channel, UserError> {
    let endpoint = endpoint(security, server, address)?
        .connect_timeout(patience)
        .http2_keep_alive_interval(ALERT_INTERVAL)
        .keep_alive_timeout(ALERT_TIMEOUT);
    let connected = endpoint.connect_with_connector(connector(security, server)).await;
    connected.map_err(|fault| unreachable(server, address, &fault, ""))
}

/// A channel to `address` that connects when it is used, and again when that is lost.
///
/// # Errors
/// When the address makes no sense.
pub fn connect_lazily(
    security: &Security,
    server: Server,
    address: &str,
    patience: Duration,
) -> Result<Channel, UserError> {
    let endpoint = endpoint(security, server, address)?.connect_timeout(patience);
    Ok(endpoint.connect_with_connector_lazy(connector(security, server)))
}

fn endpoint(security: &Security, server: Server, address: &str) -> Result<Endpoint, UserError> {
    let uri = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| {
        UserError::new(format!("'{address}' is not the address of a {server}"))
            .hint("write it as host:port, for example 127.0.0.1:7400")
    })?;
    connector::check_reach(security, server, endpoint.uri())?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES))
}

/// What makes the connections of a channel.
fn connector(
    security: &Security,
    server: Server,
) -> impl Service<Uri, Response = connector::Connected, Error = Box<dyn Error + Send + Sync>, Future: Send>
+ Send
+ 'static {
    let security = security.clone();
    tower::service_fn(move |uri| connector::open(security.clone(), server, uri))
}

/// Why nothing that may be talked to is there. A fault of security has a hint of its own.
fn unreachable(server: Server, address: &str, fault: &tonic::transport::Error, hint: &str) -> UserError {
    let error = UserError::new(format!("cannot reach the {server} at {address}"));
    if connector::wants_tls(fault) {
        return error.detail(connector::SECURED).hint(connector::SECURED_HINT);
    }
    let unsecured = connector::causes(fault).find_map(|cause| cause.downcast_ref::<connector::Unsecured>());
    let error = error.detail(root_cause(fault));
    match unsecured.map_or(Some(hint), |unsecured| unsecured.hint) {
        None | Some("") => error,
        Some(hint) => error.hint(hint),
    }
}

/// A server with this project's settings, which asks each call whether its caller may make it.
#[must_use]
pub fn server() -> tonic::transport::Server<Stack<AccessLayer, Identity>> {
    tonic::transport::Server::builder()
        .layer(AccessLayer)
        .max_concurrent_streams(Some(CALLS_PER_CONNECTION_MAX))
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}

/// The newest wire version that a peer and this build speak; one that speaks none in common is refused, both named. A
/// greeting names the oldest and the newest that its sender speaks, a client's request the oldest alone.
///
/// # Errors
/// When there is no version that both speak.
pub fn check_version(peer: &str, spoken: Spoken, release: &str) -> Result<u32, Status> {
    spoken.common(version::SPOKEN).ok_or_else(|| {
        let release = if release.is_empty() { "unknown" } else { release };
        Status::failed_precondition(format!(
            "this {peer} speaks wire {} (release {release}), but {} spoken here (release {}): \
             install the same release on both, or one and then the next",
            versions(spoken),
            match version::SPOKEN {
                Spoken { oldest, newest } if oldest == newest => format!("version {newest} is"),
                Spoken { oldest, newest } => format!("versions {oldest} to {newest} are"),
            },
            version::build(),
        ))
    })
}

fn versions(Spoken { oldest, newest }: Spoken) -> String {
    if oldest == newest { format!("version {oldest}") } else { format!("versions {oldest} to {newest}") }
}

/// The answer of a manager that does not lead, with the address of the one that does, if it knows.
#[must_use]
pub fn not_leader(leader: Option<&str>) -> Status {
    let mut status = Status::unavailable(match leader {
        Some(leader) => format!("this manager is not the leader, the leader is {leader}"),
        None => "this manager is not the leader, and knows of none".to_owned(),
    });
    // An address is plain text; one that is not is told in words alone.
    let leader = leader.unwrap_or_default().parse().unwrap_or_else(|_| MetadataValue::from_static(""));
    status.metadata_mut().insert(LEADER, leader);
    status
}

/// Whether a call failed because the manager does not lead: then who does, if that manager knew.
#[must_use]
pub fn leader_told(status: &Status) -> Option<Option<String>> {
    let leader = status.metadata().get(LEADER)?.to_str().unwrap_or_default();
    Some((!leader.is_empty()).then(|| leader.to_owned()))
}

/// The same refusal with what whoever is refused can do.
#[must_use]
pub fn with_hint(mut status: Status, hint: Option<&str>) -> Status {
    if let Some(hint) = hint {
        status.metadata_mut().insert_bin(HINT, MetadataValue::from_bytes(hint.as_bytes()));
    }
    status
}

fn hint(status: &Status) -> Option<String> {
    let bytes = status.metadata().get_bin(HINT)?.to_bytes().ok()?;
    String::from_utf8(bytes.to_vec()).ok()
}

/// What a status of a call tells a person.
#[must_use]
pub fn user_error(role: &str, address: &str, status: &Status) -> UserError {
    match status.code() {
        Code::Unavailable if leader_told(status).is_some() => {
            UserError::new(format!("the {role} at {address} does not serve")).detail(status.message()).hint(
                "name all managers, as with --manager a:7400,b:7400,c:7400; `firesteel managers` shows them",
            )
        }
        _ if connector::wants_tls(status) => {
            UserError::new(format!("cannot talk to the {role} at {address}"))
                .detail(connector::SECURED)
                .hint(connector::SECURED_HINT)
        }
        // A connection that breaks during a call says no more than "transport error".
        _ if is_away(status) => UserError::new(format!("lost the connection to the {role} at {address}"))
            .detail(told(status))
            .hint(format!("is the {role} still running?")),
        Code::DeadlineExceeded => {
            UserError::new(format!("the {role} at {address} did not answer in time")).detail(status.message())
        }
        _ => {
            let error = UserError::new(status.message());
            match hint(status) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
    }
}

/// Whether a call failed because the peer is not there, is of another version or speaks TLS alone, rather than because of what
/// was asked.
#[must_use]
pub fn is_unreachable(status: &Status) -> bool {
    is_away(status)
        || connector::wants_tls(status)
        || matches!(status.code(), Code::DeadlineExceeded | Code::FailedPrecondition | Code::Unimplemented)
}

/// Whether a call failed because the peer is not there, or went away during it: the same may be asked of it again later.
#[must_use]
pub fn is_away(status: &Status) -> bool {
    let is_broken = status.code() == Code::Unknown && status.source().is_some();
    status.code() == Code::Unavailable || is_broken
}

/// Whether a call failed because what was asked for is not there.
#[must_use]
pub fn is_not_found(status: &Status) -> bool {
    status.code() == Code::NotFound
}

/// Whether the peer does not know what it was asked for: it is of an earlier release.
#[must_use]
pub fn is_unknown_call(status: &Status) -> bool {
    status.code() == Code::Unimplemented
}

/// Whether the peer would have done what it was asked for, had whoever asked insisted.
#[must_use]
pub fn is_refused_for_now(status: &Status) -> bool {
    status.code() == Code::Aborted
}

/// What a status says, and when it says no more than that the connection broke, why.
pub(crate) fn told(status: &Status) -> String {
    if connector::wants_tls(status) {
        return connector::SECURED.to_owned();
    }
    match status.source() {
        Some(_) => format!("{}: {}", status.message(), root_cause(status)),
        None => status.message().to_owned(),
    }
}

fn root_cause(fault: &(dyn Error + 'static)) -> String {
    connector::causes(fault).last().unwrap_or(fault).to_string()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod leaders {
    use super::*;

    #[test]
    fn who_leads_is_told_with_the_refusal() {
        assert_eq!(leader_told(&not_leader(Some("b:7400"))), Some(Some("b:7400".to_owned())));
        assert_eq!(leader_told(&not_leader(None)), Some(None));
        assert_eq!(leader_told(&not_leader(Some("\n"))), Some(None));
        assert_eq!(leader_told(&Status::unavailable("gone")), None);
        assert!(is_away(&not_leader(None)));
    }
}
