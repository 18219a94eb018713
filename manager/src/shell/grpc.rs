//! The gRPC service: a thin adaptor over [`Manager`].

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use firesteel_base::UserError;
use firesteel_certs::Security;
use firesteel_protocol::channel;
use firesteel_protocol::v1;
use firesteel_protocol::v1::manager_server::{Manager as Service, ManagerServer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::{BoxStream, Manager, Member, Messages, Outgoing, replication};
use crate::machine::rights::Rights;

/// How long open connections may take to end once the manager stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// How long sessions, the journal and the consensus may take to end.
const STOP_MAX: Duration = Duration::from_secs(12);

/// Whose service it is.
#[derive(Clone)]
pub(super) enum Serving {
    /// A manager that is the only one.
    Alone(Arc<Manager>),
    /// One of several, which serves while it leads.
    Member(Arc<Member>),
}

impl Serving {
    pub(super) fn manager(&self) -> Result<Arc<Manager>, Status> {
        match self {
            Self::Alone(manager) => Ok(Arc::clone(manager)),
            Self::Member(member) => member.manager(),
        }
    }

    async fn stop(&self) {
        match self {
            Self::Alone(manager) => manager.stop().await,
            Self::Member(member) => member.stop().await,
        }
    }

    async fn failed(&self) -> UserError {
        match self {
            Self::Alone(manager) => manager.failed().await,
            Self::Member(member) => member.failed().await,
        }
    }
}

/// Serves the manager until `shutdown` is done; then sessions are ended, and connections get a grace time to close.
///
/// # Errors
/// When the listener fails, or the manager ends by itself.
pub async fn serve(
    manager: Arc<Manager>,
    listener: TcpListener,
    security: Security,
    shutdown: impl Future<Output = ()>,
) -> Result<(), UserError> {
    serve_as(Serving::Alone(manager), listener, security, shutdown).await
}

/// As [`serve`], for one of several managers: it serves workers, drivers and clients while it leads, and the others always.
///
/// # Errors
/// When the listener fails, or the member cannot go on.
pub async fn serve_member(
    member: Arc<Member>,
    listener: TcpListener,
    security: Security,
    shutdown: impl Future<Output = ()>,
) -> Result<(), UserError> {
    serve_as(Serving::Member(member), listener, security, shutdown).await
}

async fn serve_as(
    serving: Serving,
    listener: TcpListener,
    security: Security,
    shutdown: impl Future<Output = ()>,
) -> Result<(), UserError> {
    let service =
        ManagerServer::new(Rpc(serving.clone())).max_decoding_message_size(channel::STEERING_BYTES_MAX);
    let members = replication::service(serving.clone());
    let (stopping, stop) = oneshot::channel();
    let failing = serving.clone();
    let signal = async move {
        shutdown.await;
        // What a disk holds up must not hold up the end: what it has not written was told to nobody.
        if tokio::time::timeout(STOP_MAX, serving.stop()).await.is_err() {
            tracing::warn!("the manager did not stop within {} s and is left to itself", STOP_MAX.as_secs());
        }
        // Nobody listens when the server has failed.
        let _ = stopping.send(());
    };
    let overdue = async move {
        match stop.await {
            Ok(()) => tokio::time::sleep(SHUTDOWN_GRACE).await,
            Err(_) => std::future::pending().await,
        }
    };
    let serving = channel::server()
        .add_service(service)
        .add_service(members)
        .serve_with_incoming_shutdown(channel::incoming(listener, &security), signal);
    tokio::select! {
        ended = serving => ended.map_err(|fault| {
            UserError::new("the manager's gRPC service failed").detail(fault.to_string())
        }),
        error = failing.failed() => Err(error),
        () = overdue => {
            tracing::warn!("connections were still open when the grace time was over");
            Ok(())
        }
    }
}

/// The service of one manager.
struct Rpc(Serving);

#[tonic::async_trait]
impl Service for Rpc {
    type WorkerSessionStream = Told<v1::ManagerToWorker>;
    type DriverSessionStream = Told<v1::ManagerToDriver>;

    async fn worker_session(
        &self,
        request: Request<Streaming<v1::WorkerToManager>>,
    ) -> Result<Response<Self::WorkerSessionStream>, Status> {
        self.0.manager()?.open_worker(said(request)).await.map(|out| Response::new(out.into()))
    }

    async fn driver_session(
        &self,
        request: Request<Streaming<v1::DriverToManager>>,
    ) -> Result<Response<Self::DriverSessionStream>, Status> {
        let manager = self.0.manager()?;
        let rights = manager.rights(request.metadata()).await?;
        manager.open_driver(rights, said(request)).await.map(|out| Response::new(out.into()))
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitReply>, Status> {
        let (manager, rights) = self.called(&request).await?;
        manager.submit_as(rights, request.into_inner()).await.map(Response::new)
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsReply>, Status> {
        let (manager, rights) = self.called(&request).await?;
        let v1::ListJobsReply { jobs } = manager.list_jobs(request.into_inner()).await?;
        let jobs = jobs.into_iter().map(|job| Manager::seen(&rights, job)).collect();
        Ok(Response::new(v1::ListJobsReply { jobs }))
    }

    async fn show_job(&self, request: Request<v1::ShowJobRequest>) -> Result<Response<v1::JobInfo>, Status> {
        let (manager, rights) = self.called(&request).await?;
        let job = manager.show_job(request.into_inner()).await?;
        Ok(Response::new(Manager::seen(&rights, job)))
    }

    async fn wait_job(&self, request: Request<v1::WaitJobRequest>) -> Result<Response<v1::JobInfo>, Status> {
        let (manager, rights) = self.called(&request).await?;
        let job = manager.wait_job(request.into_inner()).await?;
        Ok(Response::new(Manager::seen(&rights, job)))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::JobInfo>, Status> {
        let (manager, rights) = self.called(&request).await?;
        manager.cancel_job_as(rights, request.into_inner()).await.map(Response::new)
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesReply>, Status> {
        let (manager, _) = self.called(&request).await?;
        manager.list_nodes(request.into_inner()).await.map(Response::new)
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::NodeInfo>, Status> {
        let (manager, rights) = self.called(&request).await?;
        manager.drain_node(rights, request.into_inner()).await.map(Response::new)
    }

    async fn undrain_node(
        &self,
        request: Request<v1::UndrainNodeRequest>,
    ) -> Result<Response<v1::NodeInfo>, Status> {
        let (manager, rights) = self.called(&request).await?;
        manager.undrain_node(rights, request.into_inner()).await.map(Response::new)
    }
}

impl Rpc {
    /// The manager, and what the client may do who calls. A driver has nothing to say here.
    async fn called<T>(&self, request: &Request<T>) -> Result<(Arc<Manager>, Rights), Status> {
        let manager = self.0.manager()?;
        match manager.rights(request.metadata()).await? {
            Rights::Launched(_) => Err(Status::permission_denied("a driver has no business with other jobs")),
            rights @ (Rights::All | Rights::User(_)) => Ok((manager, rights)),
        }
    }
}

/// What a peer says, until its stream ends or breaks.
fn said<M: Send + 'static>(request: Request<Streaming<M>>) -> BoxStream<M> {
    Box::pin(request.into_inner().map_while(|message| {
        message.inspect_err(|status| tracing::debug!(%status, "a session's stream broke")).ok()
    }))
}

/// What a session is told, and in the end why it ended.
struct Told<M> {
    messages: Messages<M>,
    why: Option<Arc<OnceLock<Status>>>,
}

impl<M> From<Outgoing<M>> for Told<M> {
    fn from(out: Outgoing<M>) -> Self {
        Self { messages: out.messages, why: Some(out.why) }
    }
}

impl<M> Stream for Told<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.messages).poll_next(cx).map(|message| match message {
            Some(message) => Some(Ok(message)),
            None => self.why.take().and_then(|why| why.get().cloned()).map(Err),
        })
    }
}
