//! The executor over gRPC.

use std::sync::Arc;

use firesteel_base::{Epoch, UserError};
use firesteel_certs::{Role, Security};
use firesteel_hw::usage::{ProcessUsage, forget_peak};
use firesteel_protocol::channel::{PLAN_BYTES_MAX, caller, incoming, server};
use firesteel_protocol::v1;
use futures::StreamExt;
use futures::future::ready;
use futures::stream::BoxStream;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use v1::executor_server::ExecutorServer;

use crate::executor::Executor;

struct Service(Arc<Executor>);

#[tonic::async_trait]
impl v1::executor_server::Executor for Service {
    type AttachStream = BoxStream<'static, Result<v1::ExecutorToDriver, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::DriverToExecutor>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        // A broken stream ends like one that was closed.
        let inbound = request.into_inner().scan((), |(), message| {
            ready(message.inspect_err(|fault| tracing::info!(%fault, "a driver's stream broke")).ok())
        });
        let reports = self.0.attach(inbound.boxed()).await?;
        Ok(Response::new(ReceiverStream::new(reports).map(Ok).boxed()))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        if request.get_ref().epoch.is_some() {
            caller(&request).check(&[Role::Worker])?;
        }
        let request = request.into_inner();
        if let Some(epoch) = request.epoch {
            self.0.set_epoch(Epoch(epoch)).map_err(|fault| Status::failed_precondition(fault.message))?;
        }
        let (status, usage) = (self.0.status(), ProcessUsage::now());
        let fetched = self.0.fetcher().counters();
        if request.forget_peak {
            forget_peak();
        }
        Ok(Response::new(v1::StatusReply {
            epoch: status.epoch.unwrap_or_default().0,
            running_attempts: u32::try_from(status.running_attempts).unwrap_or(u32::MAX),
            memory_used: status.memory_used,
            memory_limit: status.memory_limit,
            block_bytes: status.blocks.memory_bytes + status.blocks.disk_bytes,
            cpu_micros: u64::try_from(usage.cpu.as_micros()).unwrap_or(u64::MAX),
            resident_bytes: usage.resident_bytes,
            peak_resident_bytes: usage.peak_bytes,
            block_disk_bytes: status.blocks.disk_bytes,
            fetched: Some(v1::FetchedBytes {
                pointer: fetched.local_bytes(),
                shared: fetched.shared_bytes(),
                passed: fetched.passed_bytes(),
                tcp: fetched.tcp_bytes(),
            }),
        }))
    }
}

/// Serves an executor on `listener` until `shutdown`; then waits for open streams to end, which
/// [`Executor::shutdown`] brings about.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    executor: Arc<Executor>,
    listener: TcpListener,
    security: Security,
    shutdown: impl Future<Output = ()>,
) -> Result<(), UserError> {
    let service = ExecutorServer::new(Service(executor))
        .max_decoding_message_size(PLAN_BYTES_MAX)
        .max_encoding_message_size(PLAN_BYTES_MAX);
    server()
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener, &security), shutdown)
        .await
        .map_err(|fault| UserError::new("the executor's gRPC service failed").detail(fault.to_string()))
}
