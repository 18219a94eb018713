//! The worker over gRPC: it hands out the results of cluster-mode jobs.

use std::sync::Arc;

use bytes::BytesMut;
use firesteel_base::version::Spoken;
use firesteel_base::{JobId, UserError};
use firesteel_certs::Security;
use firesteel_protocol::channel::{
    QUESTION_BYTES_MAX, RESULT_BYTES_MAX, check_version, incoming, server, with_hint,
};
use firesteel_protocol::v1;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};
use v1::worker_server::WorkerServer;

use crate::worker::ResultStore;

/// Bytes of a chunk.
const CHUNK_BYTES: usize = 1 << 20;

struct Service(Arc<ResultStore>);

#[tonic::async_trait]
impl v1::worker_server::Worker for Service {
    type FetchResultStream = BoxStream<'static, Result<v1::ResultChunk, Status>>;

    async fn fetch_result(
        &self,
        request: Request<v1::FetchResultRequest>,
    ) -> Result<Response<Self::FetchResultStream>, Status> {
        let request = request.into_inner();
        check_version("client", Spoken::said(request.wire_version, request.wire_version), "")?;
        let job = JobId(request.job);
        if !self.0.is_for(job, &request.ticket) {
            return Err(with_hint(
                Status::permission_denied(format!("the result of {job} is another user's")),
                Some("its user or an administrator can fetch it with `firesteel jobs result`"),
            ));
        }
        let missing = || Status::not_found(format!("the result of {job} is not kept here any more"));
        let path = self.0.find(job).ok_or_else(missing)?;
        let file = File::open(path).await.map_err(|_| missing())?;
        Ok(Response::new(chunks(file).boxed()))
    }
}

fn chunks(file: File) -> impl futures::Stream<Item = Result<v1::ResultChunk, Status>> + Send {
    futures::stream::try_unfold(file, |mut file| async move {
        let mut data = BytesMut::with_capacity(CHUNK_BYTES);
        while data.len() < CHUNK_BYTES {
            let read =
                file.read_buf(&mut data).await.map_err(|fault| Status::data_loss(fault.to_string()))?;
            if read == 0 {
                break;
            }
        }
        let chunk = (!data.is_empty()).then(|| v1::ResultChunk { data: data.freeze() });
        Ok(chunk.map(|chunk| (chunk, file)))
    })
}

/// Serves the results in `store` on `listener` until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    store: Arc<ResultStore>,
    listener: TcpListener,
    security: Security,
    shutdown: impl Future<Output = ()>,
) -> Result<(), UserError> {
    let service = WorkerServer::new(Service(store))
        .max_decoding_message_size(QUESTION_BYTES_MAX)
        .max_encoding_message_size(RESULT_BYTES_MAX);
    server()
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener, &security), shutdown)
        .await
        .map_err(|fault| UserError::new("the worker's gRPC service failed").detail(fault.to_string()))
}
