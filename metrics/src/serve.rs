//! The HTTP service: GET /metrics and GET /healthz, for whoever comes, within bounds.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use firesteel_base::UserError;
use firesteel_base::config::HostPort;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::page::{self, Page};
use crate::process::begins;

/// The longest that a connection lasts, whatever its client does.
pub const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// For so long a page that was made is told again.
pub const FRESH: Duration = Duration::from_millis(250);

/// How long a client may take to send its request.
const REQUEST_MAX: Duration = Duration::from_secs(3);
/// How long the daemon may take to look at itself.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Connections at a time. One more ends the oldest: who waits and says nothing keeps nobody else out.
const CONNECTIONS: usize = 64;
/// Bytes and lines of a request's head.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_LINES: usize = 64;
/// How soon a listener is tried again that could take no connection, as when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "GET /metrics: how it is, for Prometheus\nGET /healthz: whether it serves\n";

/// Whether a daemon serves, and what it says of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Serves(String),
    /// It does not, for this reason.
    Ails(String),
}

/// A daemon that tells how it is.
pub trait Source: Send + Sync + 'static {
    /// Its metrics now.
    fn page(&self) -> impl Future<Output = Page> + Send;
    /// Whether it serves now.
    fn health(&self) -> impl Future<Output = Health> + Send;
}

/// Listens where the metrics are to be served; `key` is the setting that says so.
///
/// # Errors
/// When nobody can listen there.
pub async fn open(
    role: &str,
    key: &str,
    address: Option<&HostPort>,
) -> Result<Option<TcpListener>, UserError> {
    let Some(address) = address else { return Ok(None) };
    begins();
    let listener = TcpListener::bind((address.host.as_str(), address.port)).await.map_err(|fault| {
        UserError::new(format!("the {role} cannot serve its metrics at {address} ({key})"))
            .detail(fault.to_string())
            .hint(format!("give {key} an address of this host with a port that is free, or off"))
    })?;
    if let Ok(bound) = listener.local_addr() {
        tracing::info!(address = %bound, "metrics are served");
    }
    Ok(Some(listener))
}

/// The service while it runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Served(JoinHandle<()>);

impl Served {
    /// Serves on the current tokio runtime.
    pub fn start<S: Source>(listener: TcpListener, source: S) -> Self {
        let desk = Arc::new(Desk { source, made: Mutex::default() });
        Self(tokio::spawn(take_connections(listener, desk)))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn take_connections<S: Source>(listener: TcpListener, desk: Arc<Desk<S>>) {
    let mut open = Open::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => open.add(tokio::spawn(converse(stream, Arc::clone(&desk)))),
            Err(fault) => {
                tracing::warn!(%fault, "cannot take a connection for metrics");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The connections that are open, the oldest first. They end when this is dropped.
#[derive(Default)]
struct Open(VecDeque<JoinHandle<()>>);

impl Open {
    fn add(&mut self, connection: JoinHandle<()>) {
        if self.0.len() >= CONNECTIONS {
            self.0.retain(|connection| !connection.is_finished());
        }
        if self.0.len() >= CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(connection);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// One request and its answer. A connection is not kept for another: so a client holds none that it does not use.
async fn converse<S: Source>(stream: TcpStream, desk: Arc<Desk<S>>) {
    let service = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_MAX)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_LINES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_MAX, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => tracing::debug!(%fault, "a client of the metrics went, or made no sense"),
        Err(_) => tracing::debug!("a client of the metrics took too long"),
    }
}

/// Where requests are answered.
struct Desk<S> {
    source: S,
    /// The page that was made last, and when.
    made: Mutex<Option<(Instant, Bytes)>>,
}

impl<S: Source> Desk<S> {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response =
                respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are answered\n".into());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => match timeout(ANSWER_MAX, self.page()).await {
                Ok(text) => respond(StatusCode::OK, page::CONTENT_TYPE, text),
                Err(_) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, overdue().into()),
            },
            "/healthz" => match timeout(ANSWER_MAX, self.source.health()).await {
                Ok(Health::Serves(text)) => respond(StatusCode::OK, TEXT, format!("{text}\n").into()),
                Ok(Health::Ails(why)) => {
                    respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n").into())
                }
                Err(_) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, overdue().into()),
            },
            "/" => respond(StatusCode::OK, TEXT, PATHS.into()),
            _ => respond(StatusCode::NOT_FOUND, TEXT, PATHS.into()),
        }
    }

    /// The page, made anew when the last one is not fresh. Who comes meanwhile waits for that one.
    async fn page(&self) -> Bytes {
        let mut made = self.made.lock().await;
        if let Some((at, text)) = &*made
            && at.elapsed() < FRESH
        {
            return text.clone();
        }
        let text = Bytes::from(self.source.page().await.text());
        *made = Some((Instant::now(), text.clone()));
        text
    }
}

fn overdue() -> String {
    format!("the daemon has not answered within {} s\n", ANSWER_MAX.as_secs())
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
