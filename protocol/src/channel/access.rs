//! Who may call what, by the role that a certificate gives. Said here and nowhere else; over plain connections nobody is asked.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use firesteel_certs::{Identity, Role};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::traffic::{TRAFFIC, count};

const MANAGERS: &[Role] = &[Role::Manager];
const WORKERS: &[Role] = &[Role::Worker];
/// Drivers are clients', or are started by workers.
const DRIVERS: &[Role] = &[Role::Client, Role::Worker];
/// An operator asks from whatever host is at hand.
const ALL: &[Role] = &[Role::Manager, Role::Worker, Role::Client];

/// The roles that may make a call; `None` when there is no such call.
fn callers(path: &str) -> Option<&'static [Role]> {
    Some(match path {
        "/firesteel.v1.Manager/WorkerSession" => WORKERS,
        "/firesteel.v1.Manager/DriverSession" => DRIVERS,
        "/firesteel.v1.Manager/Submit"
        | "/firesteel.v1.Manager/ListJobs"
        | "/firesteel.v1.Manager/ShowJob"
        | "/firesteel.v1.Manager/WaitJob"
        | "/firesteel.v1.Manager/CancelJob"
        | "/firesteel.v1.Manager/ListNodes"
        | "/firesteel.v1.Manager/DrainNode"
        | "/firesteel.v1.Manager/UndrainNode" => ALL,
        "/firesteel.v1.Members/Show" => ALL,
        "/firesteel.v1.Members/Append"
        | "/firesteel.v1.Members/Vote"
        | "/firesteel.v1.Members/InstallSnapshot" => MANAGERS,
        "/firesteel.v1.Worker/FetchResult" => ALL,
        "/firesteel.v1.Executor/Attach" | "/firesteel.v1.Executor/Status" => DRIVERS,
        _ => return None,
    })
}

/// Who is at the other end of a connection, as its certificate says.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Not known: the connection is plain.
    Anybody,
    /// Known, and of which cluster the server is.
    Known {
        /// Who it is.
        identity: Arc<Identity>,
        /// The cluster that the server is of.
        cluster: Arc<str>,
    },
    /// It has a certificate of the authority, which gives no role.
    Nobody,
}

impl Peer {
    /// Who it is, if that is known.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Known { identity, .. } => Some(identity),
            Self::Anybody | Self::Nobody => None,
        }
    }

    /// Refuses whoever has none of these roles in the server's cluster.
    ///
    /// # Errors
    /// When it has none, with what is wanted and what it has.
    pub fn check(&self, roles: &[Role]) -> Result<(), Status> {
        let wanted = || roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or ");
        match self {
            Self::Anybody => Ok(()),
            Self::Known { identity, cluster }
                if identity.cluster == **cluster && roles.contains(&identity.role) =>
            {
                Ok(())
            }
            Self::Known { identity, cluster } => Err(Status::permission_denied(format!(
                "this call is for a {} of the cluster '{cluster}', and the certificate is of a {identity}",
                wanted()
            ))),
            Self::Nobody => Err(Status::permission_denied(format!(
                "this call is for a {}, and the certificate gives no role: one of its names must be a URI such as \
                 firesteel://CLUSTER/worker",
                wanted()
            ))),
        }
    }
}

/// Who makes a call.
#[must_use]
pub fn caller<T>(request: &tonic::Request<T>) -> Peer {
    // A call that came over no connection of ours was made in this process.
    request.extensions().get::<Peer>().cloned().unwrap_or(Peer::Anybody)
}

/// Lets only those calls through to a service that their callers may make.
#[derive(Debug, Clone, Copy)]
pub struct AccessLayer;

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, service: S) -> Access<S> {
        Access { service }
    }
}

/// A service behind an [`AccessLayer`].
#[derive(Debug, Clone)]
pub struct Access<S> {
    service: S,
}

impl<S> Service<Request<Body>> for Access<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = futures::future::Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match admit(&request) {
            Ok(()) => futures::future::Either::Left(self.service.call(request)),
            Err(status) => {
                count(&TRAFFIC.role);
                tracing::warn!(call = request.uri().path(), reason = status.message(), "refused a call");
                futures::future::Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}

fn admit(request: &Request<Body>) -> Result<(), Status> {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(Status::internal("the connection of a call is not known"));
    };
    match (peer, callers(request.uri().path())) {
        (Peer::Anybody, _) => Ok(()),
        (peer, Some(roles)) => peer.check(roles),
        (_, None) => Err(Status::unimplemented("there is no such call")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(role: Role, cluster: &str) -> Peer {
        Peer::Known { identity: Arc::new(Identity::of(cluster, role, None)), cluster: "prod".into() }
    }

    /// The paths of all calls that the descriptions of the wire name.
    fn calls() -> Vec<String> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let mut calls = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let mut service = String::new();
            for line in text.lines().map(str::trim_start) {
                if let Some(name) = line.strip_prefix("service ") {
                    service = name.trim_end_matches(" {").to_owned();
                } else if let Some(call) = line.strip_prefix("rpc ") {
                    calls.push(format!("/firesteel.v1.{service}/{}", call.split('(').next().unwrap()));
                }
            }
        }
        calls
    }

    #[test]
    fn every_call_has_its_callers() {
        let calls = calls();
        assert!(calls.len() > 15, "{calls:?}");
        for call in calls {
            assert!(callers(&call).is_some(), "nobody may make the call {call}");
        }
        assert!(callers("/firesteel.v1.Manager/NoSuchCall").is_none());
    }

    #[test]
    fn a_role_is_not_another_and_a_cluster_is_not_another() {
        let refused = |peer: Peer, call| peer.check(callers(call).unwrap()).unwrap_err().message().to_owned();
        let (session, append) = ("/firesteel.v1.Manager/WorkerSession", "/firesteel.v1.Members/Append");
        assert!(known(Role::Worker, "prod").check(callers(session).unwrap()).is_ok());
        let told = refused(known(Role::Client, "prod"), session);
        assert!(
            told.contains("for a worker of the cluster 'prod'") && told.contains("of a client"),
            "{told}"
        );
        assert!(refused(known(Role::Worker, "prod"), append).contains("for a manager"));
        let told = refused(known(Role::Worker, "test"), session);
        assert!(told.contains("of a worker of the cluster 'test'"), "{told}");
        assert!(refused(Peer::Nobody, session).contains("gives no role"));
    }
}
