//! Many requests over one TCP connection: who gets what and when, and what becomes of peers that break the rules.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

#[allow(dead_code)] // each test program uses its part
mod certs;
mod common;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use common::{Numbers, attempt, line_item_schema, line_items, store};
use firesteel_base::{ByteSize, Class, Epoch, ExecutorId, MemoryBudget};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, FetchCause, FetchConfig, FetchError, Fetcher, Holder,
    ServeConfig, Transport,
};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wire::Said;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);
const MIB: u64 = 1 << 20;
/// Frames are a little less than this.
const FRAME_BYTES_MAX: u64 = 3 * MIB / 2;

/// The way that blocks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
}

impl Way {
    fn serve(self) -> ServeConfig {
        let tls = (self == Self::Tls).then(certs::server);
        ServeConfig { transport: Transport::Tcp, tls, ..ServeConfig::default() }
    }

    fn fetch(self) -> FetchConfig {
        let tls = (self == Self::Tls).then(certs::client);
        FetchConfig { transport: Transport::Tcp, tls, ..FetchConfig::default() }
    }
}

/// Runs each test in the clear and under TLS.
macro_rules! plain_and_under_tls {
    ($($name:ident),+ $(,)?) => {
        plain_and_under_tls! {@ plain Plain: $($name)+}
        plain_and_under_tls! {@ under_tls Tls: $($name)+}
    };
    (@ $module:ident $way:ident: $($name:ident)+) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Way::$way).await;
            })+
        }
    };
}

plain_and_under_tls! {
    all_threads_share_one_connection,
    each_receiver_has_a_connection,
    slow_readers_stop_nobody_else_and_hold_no_more_than_their_windows,
    a_server_sends_no_more_than_it_has_credit_for,
    chunks_take_turns_and_answers_go_before_them,
    a_stream_that_is_dropped_stops_the_server,
    clients_that_break_the_rules_are_dropped_and_others_served,
    whatever_happens_on_the_way_interleaved_blocks_are_right_or_an_error,
    cut_transfers_go_on_where_they_were_cut,
}

struct Peer {
    store: Arc<BlockStore>,
    server: BlockServer,
    _folder: tempfile::TempDir,
}

fn executor() -> ExecutorId {
    "host3/e0".parse().unwrap()
}

fn key(task: u32) -> BlockKey {
    BlockKey { producer: attempt(7, task), lane: 0, partition: 0 }
}

fn holder(address: SocketAddr) -> Holder {
    Holder { executor: executor(), epoch: Epoch(3), address: address.to_string(), keeper: String::new() }
}

impl Peer {
    fn start() -> Self {
        Self::with(1 << 30, ServeConfig::default())
    }

    fn with(memory_max: u64, config: ServeConfig) -> Self {
        let (store, _, folder) = store(1 << 30, memory_max);
        let identity = Some((executor(), Epoch(3)));
        let config = ServeConfig { identity, transport: Transport::Tcp, ..config };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = BlockServer::start(listener, Arc::clone(&store), config).unwrap();
        Self { store, server, _folder: folder }
    }

    /// Commits the block of a task; its rows.
    fn write(&self, task: u32, batches: u64) -> Vec<RecordBatch> {
        let first = 100 * u64::from(task);
        let batches: Vec<_> = (1..=batches).map(|seed| line_items(first + seed, 20_000)).collect();
        self.write_batches(task, &batches);
        batches
    }

    fn write_batches(&self, task: u32, batches: &[RecordBatch]) {
        let mut writer = self.store.writer(key(task).producer, 0, line_item_schema(), 1);
        batches.iter().for_each(|batch| writer.write(batch, &Assignment::Single).unwrap());
        writer.finish().unwrap();
        self.store.commit(&key(task).producer).unwrap();
    }

    fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    fn holder(&self) -> Holder {
        holder(self.address())
    }

    async fn client(&self, way: Way) -> Client {
        let mut stream = connect(self.address(), way).await;
        stream.write_all(wire::HELLO).await.unwrap();
        let mut hello = [0; 8];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, wire::HELLO);
        Client { stream }
    }
}

/// A client that says what it is told to.
struct Client {
    stream: Box<dyn Duplex>,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Connects, under TLS of another make than the one in use.
async fn connect(address: SocketAddr, way: Way) -> Box<dyn Duplex> {
    let socket = TcpStream::connect(address).await.unwrap();
    let Some(tls) = way.fetch().tls else { return Box::new(socket) };
    let mut tls = (*tls).clone();
    tls.alpn_protocols = vec![b"firesteel-blocks".to_vec()];
    Box::new(TlsConnector::from(Arc::new(tls)).connect(address.ip().into(), socket).await.unwrap())
}

impl Client {
    async fn say(&mut self, message: &[u8]) {
        self.stream.write_all(message).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next message; the bytes of a chunk are thrown away. `None` at the end.
    async fn hear(&mut self) -> Option<Said> {
        let mut head = [0; wire::HEAD];
        timeout(LONG, self.stream.read_exact(&mut head)).await.expect("the server says something").ok()?;
        let said = Said::read(&head);
        let mut bytes = vec![0; said.length];
        timeout(LONG, self.stream.read_exact(&mut bytes)).await.expect("a message is whole").ok()?;
        Some(said)
    }

    async fn hears_nothing(&mut self) {
        let more = timeout(SHORT, self.stream.read_u8()).await;
        assert!(more.is_err(), "the server goes on: {more:?}");
    }

    /// Hears a whole frame, nothing but which comes.
    async fn hear_frame(&mut self, id: u64) -> u64 {
        let (mut bytes, mut total) = (0, u64::MAX);
        while bytes < total {
            let said = self.hear().await.unwrap();
            assert_eq!((said.kind, said.id, said.is_first), (5, id, bytes == 0));
            (bytes, total) = (bytes + said.length as u64, said.number);
        }
        assert_eq!(bytes, total);
        total
    }

    async fn hears_the_end(&mut self) {
        while self.hear().await.is_some() {}
    }
}

fn config() -> FetchConfig {
    FetchConfig { transport: Transport::Tcp, ..FetchConfig::default() }
}

async fn fetch(fetcher: &Arc<Fetcher>, holder: Holder, task: u32) -> Result<Vec<RecordBatch>, FetchError> {
    let work = fetcher.fetch(holder, key(task), line_item_schema()).try_collect();
    timeout(LONG, work).await.expect("a fetch ends within its deadlines")
}

/// Whether these are the rows, in order.
fn is_whole(found: &[RecordBatch], written: &[RecordBatch]) {
    let whole = |batches| arrow_select::concat::concat_batches(&line_item_schema(), batches).unwrap();
    assert!(whole(found) == whole(written), "no row is lost or doubled");
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("not within {LONG:?}: {what}"));
}

async fn all_threads_share_one_connection(way: Way) {
    let peer = Peer::with(1 << 30, way.serve());
    let written: Vec<_> = (0..4).map(|task| peer.write(task, 2)).collect();
    let fetcher = Fetcher::new(way.fetch());
    let threads: Vec<_> = (0..4)
        .map(|task| {
            let (fetcher, holder) = (Arc::clone(&fetcher), peer.holder());
            std::thread::spawn(move || {
                let core = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                core.block_on(join_all((0..8).map(|_| fetch(&fetcher, holder.clone(), task))))
            })
        })
        .collect();
    let connections = tokio::task::spawn_blocking(|| {
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for (found, written) in connections.await.unwrap().into_iter().zip(written) {
        assert_eq!(found.len(), 8);
        found.into_iter().for_each(|found| is_whole(&found.unwrap(), &written));
    }
    assert_eq!((peer.server.connections(), fetcher.idle_connections()), (1, 1));
    assert_eq!(fetcher.counters().retries(), 0);
}

async fn each_receiver_has_a_connection(way: Way) {
    let peer = Peer::with(1 << 30, way.serve());
    peer.write(1, 1);
    let fetcher = Fetcher::new(FetchConfig { receivers: 2, ..way.fetch() });
    for _ in 0..4 {
        fetch(&fetcher, peer.holder(), 1).await.unwrap();
    }
    assert_eq!((peer.server.connections(), fetcher.idle_connections()), (2, 2));
}

async fn slow_readers_stop_nobody_else_and_hold_no_more_than_their_windows(way: Way) {
    let peer = Peer::with(1 << 30, way.serve());
    let written = peer.write(1, 24);
    let bytes = peer.store.usage().memory_bytes;
    let budget = MemoryBudget::new(ByteSize(1 << 30));
    let (request_window, connection_window) = (MIB, 2 * MIB);
    let config =
        FetchConfig { budget: Some(budget.clone()), request_window, connection_window, ..way.fetch() };
    let fetcher = Fetcher::new(config);
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut stream = fetcher.fetch(peer.holder(), key(1), line_item_schema());
        let first = stream.next().await.unwrap().unwrap();
        slow.push((stream, vec![first]));
    }
    // The others get all, many times what the connection may hold.
    for _ in 0..2 {
        is_whole(&fetch(&fetcher, peer.holder(), 1).await.unwrap(), &written);
    }
    assert_eq!(peer.server.connections(), 1);
    // Six blocks were under way at most: each reader looks at a frame, each window may be passed by one.
    let bound = connection_window + 6 * 2 * FRAME_BYTES_MAX;
    assert!(budget.peak() <= bound && bound < bytes, "{} of {bound}, {bytes}", budget.peak());
    let most_sent = 2 * bytes + bound;
    assert!(peer.server.sent_bytes() <= most_sent, "{} of {most_sent}", peer.server.sent_bytes());
    // And slow ones get all when they go on.
    for (stream, mut found) in slow {
        found.extend(timeout(LONG, stream.try_collect::<Vec<_>>()).await.unwrap().unwrap());
        is_whole(&found, &written);
    }
    assert_eq!((budget.used(), fetcher.counters().retries()), (0, 0));
}

async fn a_server_sends_no_more_than_it_has_credit_for(way: Way) {
    let peer = Peer::with(1 << 30, way.serve());
    peer.write(1, 4);
    let mut client = peer.client(way).await;
    client.say(&wire::request(1, 1, &key(1))).await;
    let reply = client.hear().await.unwrap();
    assert_eq!((reply.kind, reply.status, reply.id), (4, 0, 1));
    assert!(reply.number >= 4, "{reply:?}");
    // One byte begins one frame, which comes whole.
    let bytes = client.hear_frame(1).await;
    client.hears_nothing().await;
    // What it was too large by must be made up for.
    client.say(&wire::credit(1, bytes - 1)).await;
    client.hears_nothing().await;
    client.say(&wire::credit(1, 1)).await;
    client.hear_frame(1).await;
    client.hears_nothing().await;
    client.say(&wire::cancel(1)).await;
    let end = client.hear().await.unwrap();
    assert_eq!((end.kind, end.id, end.status), (6, 1, 0));
    // Words that crossed the end.
    client.say(&[wire::credit(1, 1 << 30), wire::cancel(1)].concat()).await;
    client.hears_nothing().await;
    assert_eq!(peer.server.connections(), 1);
}

async fn chunks_take_turns_and_answers_go_before_them(way: Way) {
    let peer = Peer::with(1 << 30, ServeConfig { chunk_bytes: 64 << 10, ..way.serve() });
    for task in 1..=3 {
        peer.write(task, 8);
    }
    let mut client = peer.client(way).await;
    client
        .say(&(1..=3).map(|id| wire::request(id.into(), 1 << 40, &key(id))).collect::<Vec<_>>().concat())
        .await;
    let (mut order, mut asked, mut answered_after) = (Vec::new(), false, None);
    let (mut frames_left, mut replies) = (0, 0);
    while replies < 4 || frames_left > 0 {
        let said = client.hear().await.unwrap();
        match said.kind {
            4 if said.id == 4 => {
                assert_eq!(said.status, 1);
                answered_after = Some(order.len());
                replies += 1;
            }
            4 => {
                frames_left += said.number;
                replies += 1;
            }
            _ => {
                frames_left -= u64::from(said.is_first);
                order.push(said.id);
            }
        }
        if order.len() == 12 && !asked {
            asked = true;
            client.say(&wire::request(4, 1, &key(9))).await;
        }
    }
    let turns = order.len() * 2 / 3;
    for turn in order[3..turns].windows(3) {
        assert!(turn[0] != turn[1] && turn[1] != turn[2] && turn[0] != turn[2], "{order:?}");
    }
    // Before it came what was in the sockets already: not all of some 16 MiB.
    assert!(
        answered_after.is_some_and(|after| after < order.len() - 20),
        "{answered_after:?} of {}",
        order.len()
    );
}

async fn a_stream_that_is_dropped_stops_the_server(way: Way) {
    let peer = Peer::with(1 << 30, way.serve());
    peer.write(1, 40);
    let bytes = peer.store.usage().memory_bytes;
    let fetcher = Fetcher::new(FetchConfig { request_window: MIB, ..way.fetch() });
    for _ in 0..10 {
        let mut stream = fetcher.fetch(peer.holder(), key(1), line_item_schema());
        stream.next().await.unwrap().unwrap();
    }
    until("nothing is under way", || fetcher.idle_connections() == 1).await;
    let bound = 10 * (MIB + 2 * FRAME_BYTES_MAX);
    assert!(peer.server.sent_bytes() < bound && bound < 10 * bytes / 2, "{}", peer.server.sent_bytes());
    assert_eq!((fetcher.counters().retries(), peer.server.connections()), (0, 1));
}

async fn clients_that_break_the_rules_are_dropped_and_others_served(way: Way) {
    let peer = Peer::with(1 << 30, way.serve());
    peer.write(1, 4);
    let other = Fetcher::new(way.fetch());
    let ask = |id| wire::request(id, 1 << 30, &key(1));
    let wrong_name = {
        let mut request = ask(1);
        request[28..32].copy_from_slice(&9_u32.to_le_bytes());
        request
    };
    let wrong_id = {
        let mut request = ask(1);
        request[72] = 2;
        request
    };
    let many: Vec<_> = (1..=5000).map(|id| wire::request(id, 1, &key(1))).collect();
    let cases: [(&str, Vec<u8>); 14] = [
        ("a kind that is none", wire::head(77, 0, 0, 0, 1, 0)),
        ("a server's message", wire::reply(1, 0, 1)),
        ("credit for what was not asked", wire::credit(1, 1)),
        ("an end to what was not asked", wire::cancel(1)),
        ("credit for nothing", wire::credit(0, 1)),
        ("no credit", [ask(1), wire::credit(1, 0)].concat()),
        ("more credit than there may be", [ask(1), wire::credit(1, u64::MAX)].concat()),
        ("more credit, bit by bit", [wire::request(1, 1 << 40, &key(1)), wire::credit(1, 1 << 40)].concat()),
        ("a window that is too large", wire::request(1, u64::MAX, &key(1))),
        ("an id again", [ask(1), ask(1)].concat()),
        ("an id that went before", [ask(5), ask(4)].concat()),
        ("a name that is longer than the message", wrong_name),
        ("two ids", wrong_id),
        ("more requests than there may be", many.concat()),
    ];
    for (what, message) in cases {
        let mut client = peer.client(way).await;
        // It may be dropped while it says it.
        let _ = client.stream.write_all(&message).await;
        let dropped = timeout(LONG, client.hears_the_end()).await;
        assert!(dropped.is_ok(), "{what}");
        fetch(&other, peer.holder(), 1).await.unwrap();
    }
    assert_eq!(other.counters().retries(), 0);
    until("only the other is left", || peer.server.connections() == 1).await;
}

/// A server that greets, and answers each request by what `answer` makes of its number.
async fn liar(answer: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, open) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&open);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (answer, open) = (Arc::clone(&answer), Arc::clone(&count));
            open.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                stream.write_all(wire::HELLO).await.unwrap();
                stream.read_exact(&mut [0; 8]).await.unwrap();
                let mut head = [0; wire::HEAD];
                while stream.read_exact(&mut head).await.is_ok() {
                    let said = Said::read(&head);
                    if stream.read_exact(&mut vec![0; said.length]).await.is_err() {
                        break;
                    }
                    if said.kind == 1 && stream.write_all(&answer(said.id)).await.is_err() {
                        break;
                    }
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    (address, open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_break_the_rules_lose_the_connection_and_others_go_on() {
    type Answer = fn(u64) -> Vec<u8>;
    let cases: [(&str, Answer); 15] = [
        ("is not under way", |id| wire::reply(id + 7, 0, 1)),
        ("is not under way", |_| wire::chunk(77, true, 64, 64)),
        ("is not under way", |id| wire::end(id + 1, 0)),
        ("two answers", |id| wire::reply(id, 0, 2).repeat(2)),
        ("not to come", |id| wire::chunk(id, true, 64, 64)),
        ("not to come", |id| [wire::reply(id, 0, 2), wire::chunk(id, true, 64, 128).repeat(2)].concat()),
        ("of no frame", |id| [wire::reply(id, 0, 1), wire::chunk(id, false, 64, 128)].concat()),
        ("of no frame", |id| [wire::reply(id, 0, 1), wire::chunk(id, true, 128, 64)].concat()),
        ("of no frame", |id| {
            let parts = [wire::chunk(id, true, 64, 128), wire::chunk(id, false, 65, 128)];
            [wire::reply(id, 0, 1), parts.concat()].concat()
        }),
        ("of no frame", |id| {
            let parts = [wire::chunk(id, true, 64, 128), wire::chunk(id, false, 64, 129)];
            [wire::reply(id, 0, 1), parts.concat()].concat()
        }),
        ("1125899906842624", |id| [wire::reply(id, 0, 1), wire::chunk(id, true, 64, 1 << 50)].concat()),
        ("length of a message", |id| {
            [wire::reply(id, 0, 1), wire::head(5, 1, 0, u32::MAX, id, 1 << 20)].concat()
        }),
        ("the kind of message", |id| wire::head(1, 0, 0, 0, id, 0)),
        ("the status", |id| wire::reply(id, 99, 1)),
        ("ended with", |id| wire::end(id, 0)),
    ];
    let peer = Peer::start();
    let written = peer.write(1, 1);
    let fetcher = Fetcher::new(config());
    for (word, answer) in cases {
        let (address, open) = liar(answer).await;
        let fault = fetch(&fetcher, holder(address), 1).await.unwrap_err();
        assert!(matches!(&fault.cause, FetchCause::Protocol(text) if text.contains(word)), "{word}: {fault}");
        assert_eq!(fault.class(), Class::Fetch);
        until("the liar is left", || open.load(Ordering::Relaxed) == 0).await;
        is_whole(&fetch(&fetcher, peer.holder(), 1).await.unwrap(), &written);
    }
    assert_eq!(fetcher.counters().retries(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_floods_is_cut_off() {
    let frames: u32 = 1000;
    let (address, open) = liar(move |id| {
        let frame = wire::chunk(id, true, 1 << 20, 1 << 20);
        [wire::reply(id, 0, frames.into()), frame.repeat(200)].concat()
    })
    .await;
    let budget = MemoryBudget::new(ByteSize(1 << 30));
    let fetcher = Fetcher::new(FetchConfig { budget: Some(budget.clone()), ..config() });
    // It is not a frame, but nobody looks at it before the flood is noticed.
    let fault = fetch(&fetcher, holder(address), 1).await.unwrap_err();
    assert!(matches!(fault.cause, FetchCause::Corrupt(_) | FetchCause::Protocol(_)), "{fault}");
    until("it is cut off", || open.load(Ordering::Relaxed) == 0).await;
    assert!(budget.peak() <= FetchConfig::default().request_window + 2 * MIB, "{}", budget.peak());
    until("all is given back", || budget.used() == 0).await;
}

/// What a relay does to what a server sends.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Cut,
    Stall,
    Flip,
    Delay,
    Kill,
}

/// A relay in front of a server that does harm to its first connections, each at that byte.
async fn relay(to: SocketAddr, harm: Harm, at: usize, harmed: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (client, _) = listener.accept().await.unwrap();
            let at = if number < harmed { at } else { usize::MAX };
            tokio::spawn(pass_on(client, TcpStream::connect(to).await.unwrap(), harm, at));
            if matches!(harm, Harm::Kill) {
                return;
            }
        }
    });
    address
}

async fn pass_on(client: TcpStream, server: TcpStream, harm: Harm, harm_at: usize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let (mut at, mut bytes) = (0, vec![0; 16 << 10]);
    while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
        let bytes = &mut bytes[..count];
        if (at..at + count).contains(&harm_at) {
            match harm {
                Harm::Flip => bytes[harm_at - at] ^= 1,
                Harm::Delay => tokio::time::sleep(SHORT).await,
                Harm::Stall => futures::future::pending().await,
                Harm::Cut | Harm::Kill => {
                    let _ = to_client.write_all(&bytes[..harm_at - at]).await;
                    up.abort();
                    return;
                }
            }
        }
        if to_client.write_all(bytes).await.is_err() {
            break;
        }
        at += count;
    }
    up.abort();
}

async fn whatever_happens_on_the_way_interleaved_blocks_are_right_or_an_error(way: Way) {
    let config_ = ServeConfig { chunk_bytes: 50_000, ..way.serve() };
    let peer = Peer::with(4 * MIB, config_);
    let written: Vec<_> = (0..4).map(|task| peer.write(task, 1)).collect();
    // Within the greeting, an answer, a head, the first chunk, and far into the data; under TLS, within the handshake, a record's head,
    // and far into the data.
    let places = [0, 5, 20, 40, 110, 50_100, 1_000_000];
    for harm in [Harm::Cut, Harm::Stall, Harm::Flip, Harm::Delay, Harm::Kill] {
        for at in places {
            let address = relay(peer.address(), harm, at, 1).await;
            let fetcher = Fetcher::new(FetchConfig {
                io_timeout: 5 * SHORT,
                connect_timeout: 5 * SHORT,
                // On a busy machine others than the one that is harmed are late, too.
                tries_max: 8,
                ..way.fetch()
            });
            let fetches = (0..4).map(|task| fetch(&fetcher, holder(address), task));
            let mut faults = 0;
            for (found, written) in join_all(fetches).await.into_iter().zip(&written) {
                match found {
                    Ok(found) => is_whole(&found, written),
                    Err(fault) => {
                        assert_eq!(fault.class(), Class::Fetch, "{harm:?} at {at}: {fault}");
                        faults += 1;
                    }
                }
            }
            match harm {
                Harm::Cut | Harm::Stall | Harm::Delay => assert_eq!(faults, 0, "{harm:?} at {at}"),
                Harm::Flip | Harm::Kill => {}
            }
        }
    }
}

async fn cut_transfers_go_on_where_they_were_cut(way: Way) {
    let peer = Peer::with(1 << 30, way.serve());
    let written: Vec<_> = (0..4).map(|task| peer.write(task, 6)).collect();
    let bytes = peer.store.usage().memory_bytes;
    // Two connections carry most of the frames: a block whose request came late each time has some on the second, or it would
    // have been tried in vain too often.
    let address = relay(peer.address(), Harm::Cut, bytes as usize / 2, usize::MAX).await;
    let fetcher = Fetcher::new(way.fetch());
    let fetches = (0..4).map(|task| fetch(&fetcher, holder(address), task));
    for (found, written) in join_all(fetches).await.into_iter().zip(&written) {
        is_whole(&found.unwrap(), written);
    }
    assert!(fetcher.counters().retries() > 0);
    assert_eq!(fetcher.counters().tcp_bytes(), bytes, "each frame once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_block_whose_file_is_gone_fails_alone() {
    let (store, _, folder) = store(1 << 30, 0);
    let identity = Some((executor(), Epoch(3)));
    let config_ = ServeConfig { identity, transport: Transport::Tcp, ..ServeConfig::default() };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = BlockServer::start(listener, Arc::clone(&store), config_).unwrap();
    let peer = Peer { store, server, _folder: folder };
    peer.write(1, 4);
    fn files(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }
    let mut gone = Vec::new();
    files(peer._folder.path(), &mut gone);
    assert!(!gone.is_empty());
    gone.iter().for_each(|path| std::fs::write(path, b"short").unwrap());
    let written = peer.write(2, 4);
    let fetcher = Fetcher::new(config());
    let (bad, good) = tokio::join!(fetch(&fetcher, peer.holder(), 1), fetch(&fetcher, peer.holder(), 2));
    let fault = bad.unwrap_err();
    // What is written to the file later puts zeros into what is missing.
    assert!(matches!(fault.cause, FetchCause::Unreadable(_) | FetchCause::Corrupt(_)), "{fault}");
    is_whole(&good.unwrap(), &written);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What comes out is what went in, whatever the sizes of blocks, chunks and windows, and wherever a connection is cut.
    #[test]
    fn many_blocks_at_once_come_as_they_were_written(
        blocks in prop::collection::vec(prop::collection::vec(1_usize..9000, 0..5), 1..7),
        chunk_bytes in prop::sample::select(vec![1_000, 4096, 50_001, 300_000, 1 << 20, usize::MAX]),
        request_window in prop::sample::select(vec![0, 1, 10_000, 1 << 20, 1 << 24]),
        connection_window in prop::sample::select(vec![0, 1 << 16, 1 << 22, 1 << 26]),
        memory_max in prop::sample::select(vec![0, 300_000, 1 << 30]),
        receivers in 0_usize..3,
        cut_at in prop::option::of(0_usize..4_000_000),
        way in prop::sample::select(vec![Way::Plain, Way::Tls]),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let peer = Peer::with(memory_max, ServeConfig { chunk_bytes, ..way.serve() });
            let written: Vec<Vec<_>> = blocks
                .iter()
                .map(|sizes| sizes.iter().map(|rows| line_items(*rows as u64, *rows)).collect())
                .collect();
            for (task, batches) in written.iter().enumerate() {
                peer.write_batches(task as u32, batches);
            }
            let address = match cut_at {
                Some(at) => relay(peer.address(), Harm::Cut, at, 2).await,
                None => peer.address(),
            };
            let config =
                FetchConfig { request_window, connection_window, receivers, tries_max: 5, ..way.fetch() };
            let fetcher = Fetcher::new(config);
            let mut numbers = Numbers::new(seed);
            let fetches = (0..3 * written.len()).map(|index| {
                let (task, pause) = (index % written.len(), numbers.below(4));
                let (fetcher, holder) = (&fetcher, holder(address));
                async move {
                    let mut stream = fetcher.fetch(holder, key(task as u32), line_item_schema());
                    let mut found = Vec::new();
                    while let Some(batch) = timeout(LONG, stream.next()).await.expect("it ends") {
                        found.push(batch.unwrap());
                        for _ in 0..pause {
                            tokio::task::yield_now().await;
                        }
                    }
                    (task, found)
                }
            });
            for (task, found) in join_all(fetches).await {
                is_whole(&found, &written[task]);
            }
            until("nothing is under way", || fetcher.idle_connections() == peer.server.connections()).await;
        });
    }
}
