//! Through Arrow Flight over loopback: a server has the gathered batches in memory, and each partition is a ticket.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightClient, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// Batches by partition.
type Parts = Arc<Mutex<Vec<Vec<RecordBatch>>>>;

/// A server on a thread of its own, and a client on the thread that measures.
pub struct Flight {
    parts: Parts,
    channel: Channel,
    runtime: Runtime,
    _serving: Runtime,
}

impl Flight {
    /// A server that has nothing.
    pub fn start() -> Self {
        let serving = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = serving.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let parts = Parts::default();
        let service =
            FlightServiceServer::new(Held(Arc::clone(&parts))).max_encoding_message_size(usize::MAX);
        let incoming = TcpListenerStream::new(listener).map_ok(|stream| {
            stream.set_nodelay(true).expect("a socket takes that");
            stream
        });
        serving.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        // As much is under way as by our own transport.
        let endpoint = endpoint.initial_stream_window_size(4 << 20).initial_connection_window_size(64 << 20);
        let channel = runtime.block_on(endpoint.connect()).expect("it listens");
        Self { parts, channel, runtime, _serving: serving }
    }

    /// Serves these from now on.
    pub fn serve(&self, parts: Vec<Vec<RecordBatch>>) {
        *self.parts.lock() = parts;
    }

    /// The batches of each partition, so many partitions at a time.
    pub fn read(&self, partitions: u32, at_a_time: usize) -> Vec<Vec<RecordBatch>> {
        let read = |partition: u32| async move {
            let mut client = FlightClient::new(self.channel.clone());
            let service = client.inner_mut();
            *service = service.clone().max_decoding_message_size(usize::MAX);
            let ticket = Ticket::new(partition.to_le_bytes().to_vec());
            client.do_get(ticket).await?.try_collect().await
        };
        let all = stream::iter(0..partitions).map(read).buffered(at_a_time);
        self.runtime.block_on(all.try_collect()).expect("the batches are there")
    }
}

/// The service.
struct Held(Parts);

fn not_served<T>() -> Result<Response<T>, Status> {
    Err(Status::invalid_argument("batches are served, and nothing else"))
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for Held {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_get(&self, ticket: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let number = ticket.get_ref().ticket.first_chunk().map(|number| u32::from_le_bytes(*number));
        let number = number.ok_or_else(|| Status::invalid_argument("a ticket is a partition"))?;
        let batches = self.0.lock().get(number as usize).cloned();
        let batches = batches.ok_or_else(|| Status::not_found("there is no such partition"))?;
        let encoder = FlightDataEncoderBuilder::new().build(stream::iter(batches.into_iter().map(Ok)));
        Ok(Response::new(encoder.map_err(Status::from).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        not_served()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_served()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        not_served()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        not_served()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        not_served()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        not_served()
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        not_served()
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        not_served()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        not_served()
    }
}
