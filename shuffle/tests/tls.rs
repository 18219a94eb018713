//! Blocks under TLS: whom each end trusts, what it says to others, and what is seen on the way.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

#[allow(dead_code)] // each test program uses its part
mod certs;
mod common;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use certs::{Authority, TRUSTED};
use common::{attempt, line_item_schema, line_items, sorted_rows, store};
use firesteel_base::{Class, Epoch, ExecutorId};
use firesteel_shuffle::keep::{Keeper, KeeperConfig};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, FetchCause, FetchConfig, FetchError, Fetcher, Holder,
    ServeConfig, Transport,
};
use futures::TryStreamExt;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

/// An executor with one committed block.
struct Peer {
    _store: Arc<BlockStore>,
    server: BlockServer,
    batches: Vec<RecordBatch>,
    _folder: tempfile::TempDir,
}

fn executor() -> ExecutorId {
    "host3/e0".parse().unwrap()
}

fn key() -> BlockKey {
    BlockKey { producer: attempt(7, 14), lane: 0, partition: 0 }
}

fn listener() -> std::net::TcpListener {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap()
}

fn holder(address: SocketAddr) -> Holder {
    Holder { executor: executor(), epoch: Epoch(3), address: address.to_string(), keeper: String::new() }
}

impl Peer {
    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        Self::with(ServeConfig { tls, ..ServeConfig::default() })
    }

    fn with(config: ServeConfig) -> Self {
        let (store, _, folder) = store(1 << 30, 1 << 30);
        let config = ServeConfig { identity: Some((executor(), Epoch(3))), ..config };
        let server = BlockServer::start(listener(), Arc::clone(&store), config).unwrap();
        let batches: Vec<_> = (1..=2).map(|seed| line_items(seed, 20_000)).collect();
        let mut writer = store.writer(key().producer, 0, line_item_schema(), 1);
        batches.iter().for_each(|batch| writer.write(batch, &Assignment::Single).unwrap());
        writer.finish().unwrap();
        store.commit(&key().producer).unwrap();
        Self { _store: store, server, batches, _folder: folder }
    }

    fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }
}

fn fetcher(tls: Option<Arc<ClientConfig>>) -> Arc<Fetcher> {
    Fetcher::new(FetchConfig { transport: Transport::Tcp, tls, ..FetchConfig::default() })
}

async fn fetch(fetcher: &Arc<Fetcher>, address: SocketAddr) -> Result<Vec<RecordBatch>, FetchError> {
    let work = fetcher.fetch(holder(address), key(), line_item_schema()).try_collect();
    timeout(LONG, work).await.expect("a fetch ends within its deadlines")
}

/// Fails soon, once and for all, and says why.
async fn is_refused(fetcher: &Arc<Fetcher>, address: SocketAddr, why: &str) {
    let begun = Instant::now();
    let fault = fetch(fetcher, address).await.unwrap_err();
    assert!(matches!(&fault.cause, FetchCause::Untrusted(reason) if reason.contains(why)), "{why}: {fault}");
    assert_eq!((fault.class(), fetcher.counters().retries()), (Class::Fetch, 0));
    assert!(begun.elapsed() < FetchConfig::default().connect_timeout, "{why}: at a deadline");
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("not within {LONG:?}: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_with_tls_and_one_without_find_out_soon() {
    let plain = Peer::start(None);
    is_refused(&fetcher(Some(certs::client())), plain.address(), "speaks without TLS").await;
    let private = Peer::start(Some(certs::server()));
    is_refused(&fetcher(None), private.address(), "over TLS alone").await;
    // Each goes on with those of its kind.
    for (peer, tls) in [(&plain, None), (&private, Some(certs::client()))] {
        let found = fetch(&fetcher(tls), peer.address()).await.unwrap();
        assert_eq!(sorted_rows(&found), sorted_rows(&peer.batches));
    }
    until("the others are left", || plain.server.connections() + private.server.connections() == 0).await;
}

/// Two that nobody trusts; the second has the name of the one that all do, as when that was made once more.
fn strangers() -> [Authority; 2] {
    ["strangers", "those who are trusted"].map(Authority::new)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_not_trusted_is_served_nothing_and_told_why() {
    let peer = Peer::start(Some(certs::server()));
    let [stranger, namesake] = strangers();
    let clients = [
        (None, "CertificateRequired"),
        (Some(stranger.member("client")), "UnknownCA"),
        (Some(namesake.member("client")), "DecryptError"),
        (Some(TRUSTED.member_until("client", 2002)), "CertificateExpired"),
    ];
    for (member, why) in clients {
        is_refused(&fetcher(Some(TRUSTED.client(member))), peer.address(), why).await;
    }
    assert_eq!(peer.server.sent_bytes(), 0);
    fetch(&fetcher(Some(certs::client())), peer.address()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_trusted_is_asked_nothing() {
    let [stranger, namesake] = strangers();
    let servers = [
        (stranger.server(stranger.member("127.0.0.1")), "UnknownIssuer"),
        (namesake.server(namesake.member("127.0.0.1")), "BadSignature"),
        (TRUSTED.server(TRUSTED.member("127.0.0.2")), "not valid for name"),
        (TRUSTED.server(TRUSTED.member("localhost")), "not valid for name"),
        (TRUSTED.server(TRUSTED.member_until("127.0.0.1", 2002)), "expired"),
    ];
    for (config, why) in servers {
        let peer = Peer::start(Some(config));
        is_refused(&fetcher(Some(certs::client())), peer.address(), why).await;
        assert_eq!(peer.server.sent_bytes(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_in_the_address_is_the_one_that_is_checked() {
    let peer = Peer::start(Some(TRUSTED.server(TRUSTED.member("localhost"))));
    let address = format!("localhost:{}", peer.address().port());
    let by_name = Holder { address, ..holder(peer.address()) };
    let fetcher = fetcher(Some(certs::client()));
    let found: Vec<_> =
        fetcher.fetch(by_name.clone(), key(), line_item_schema()).try_collect().await.unwrap();
    assert_eq!(sorted_rows(&found), sorted_rows(&peer.batches));
    let nobody = Holder { address: "?:1".to_owned(), ..by_name };
    let fault = fetcher.fetch(nobody, key(), line_item_schema()).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(fault.class(), Class::Fetch, "{fault}");
}

/// A relay that keeps a copy of all that passes, in both directions.
async fn listened_to(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let copies = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(to).await.unwrap();
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            for (mut from, mut to) in [(from_client, to_server), (from_server, to_client)] {
                let copies = Arc::clone(&copies);
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(count @ 1..) = from.read(&mut bytes).await {
                        copies.lock().extend_from_slice(&bytes[..count]);
                        if to.write_all(&bytes[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (address, heard)
}

/// What a block and its request cannot do without: the greeting, the holder's name, and some of its rows, as they lie in a frame.
fn words(batches: &[RecordBatch]) -> [Vec<u8>; 3] {
    let keys = batches[0].column(0).to_data();
    [b"FSS1".to_vec(), b"host3/e0".to_vec(), keys.buffers()[0].as_slice()[..64].to_vec()]
}

fn has(heard: &[u8], word: &[u8]) -> bool {
    heard.windows(word.len()).any(|window| window == word)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_in_the_clear() {
    for (server, client) in [(None, None), (Some(certs::server()), Some(certs::client()))] {
        let is_private = server.is_some();
        let peer = Peer::start(server);
        let (address, heard) = listened_to(peer.address()).await;
        let found = fetch(&fetcher(client), address).await.unwrap();
        assert_eq!(sorted_rows(&found), sorted_rows(&peer.batches));
        let heard = heard.lock();
        assert!(heard.len() as u64 > peer.server.sent_bytes());
        for word in words(&peer.batches) {
            assert_eq!(has(&heard, &word), !is_private, "{}", String::from_utf8_lossy(&word));
        }
    }
}

/// Shakes hands as a client, over TLS of another make than the one in use.
async fn connect(
    address: SocketAddr,
    protocol: Option<&[u8]>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut config = (*certs::client()).clone();
    config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

#[tokio::test]
async fn the_offer_of_shared_memory_is_made_under_tls_alone() {
    let peer = Peer::start(Some(certs::server()));
    assert!(peer.server.shares_memory());
    const ASKS: &[u8] = b"FSS1\x04\0\x02\0";
    let mut plain = TcpStream::connect(peer.address()).await.unwrap();
    plain.write_all(ASKS).await.unwrap();
    let mut told = Vec::new();
    timeout(LONG, plain.read_to_end(&mut told)).await.unwrap().unwrap();
    assert_eq!(told, b"FSS1\x04\0\x10\0", "it is told that there is TLS, and no more");
    let mut private = connect(peer.address(), Some(b"firesteel-blocks")).await.unwrap();
    private.write_all(ASKS).await.unwrap();
    let mut told = [0; 48];
    timeout(LONG, private.read_exact(&mut told)).await.unwrap().unwrap();
    assert_eq!(told[..8], *ASKS);
    assert!(told[8..].iter().any(|byte| *byte != 0));
}

#[tokio::test]
async fn another_protocol_over_tls_is_told_apart() {
    let peer = Peer::start(Some(certs::server()));
    let refused = connect(peer.address(), Some(b"h2")).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    // One that names none is let through by TLS, and not by the server.
    let mut unnamed = connect(peer.address(), None).await.unwrap();
    let mut told = Vec::new();
    let _ = unnamed.write_all(wire::HELLO).await;
    let ended = timeout(LONG, unnamed.read_to_end(&mut told)).await.expect("it is dropped");
    assert!(told.is_empty(), "{ended:?}: {told:?}");

    // And a server that speaks something else.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _stream = TlsAcceptor::from(certs::server()).accept(stream).await.unwrap();
        futures::future::pending::<()>().await;
    });
    is_refused(&fetcher(Some(certs::client())), address, "does not speak the block protocol").await;
}

/// A record of the handshake that announces so many bytes.
fn record(length: u16, bytes: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &length.to_be_bytes(), bytes].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_and_silence_in_the_handshake_cost_a_slot_no_longer_than_the_deadline() {
    let connections_max = 8;
    let config = ServeConfig {
        connections_max,
        request_timeout: 5 * SHORT,
        tls: Some(certs::server()),
        ..ServeConfig::default()
    };
    let peer = Peer::with(config);
    let messages: [&[u8]; 8] = [
        b"",
        b"\x16",
        b"GET / HTTP/1.1\r\n\r\n",
        b"FSS",
        &record(5, b"\x01\0\0\x01\0"),
        &record(0xffff, &[0; 600]),
        &record(16_000, &[1; 15_000]),
        &[0xff; 40_000],
    ];
    for round in 0..2 {
        let mut clients = Vec::new();
        for message in messages {
            let mut client = TcpStream::connect(peer.address()).await.unwrap();
            // It may be dropped while it says it.
            let _ = client.write_all(message).await;
            clients.push(client);
        }
        assert_eq!(clients.len(), connections_max);
        let mut rest = Vec::new();
        for client in &mut clients {
            // A reset is as good as an end.
            let _ = timeout(LONG, client.read_to_end(&mut rest)).await.expect("the server drops the client");
        }
        until("all slots are free", || peer.server.connections() == 0).await;
        fetch(&fetcher(Some(certs::client())), peer.address())
            .await
            .unwrap_or_else(|fault| panic!("{round}: {fault}"));
        until("the last one is left", || peer.server.connections() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_silent_or_talks_rubbish_in_the_handshake_is_given_up() {
    let answers: [&[u8]; 5] =
        [b"", b"FS", b"HTTP/1.1 400 Bad Request\r\n\r\n", &record(4, b"\x02\0\0\0"), &[0xff; 20_000]];
    for answer in answers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = answer.to_vec();
        tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(&answer).await;
                open.push(stream);
            }
        });
        let config = FetchConfig {
            transport: Transport::Tcp,
            connect_timeout: SHORT,
            tls: Some(certs::client()),
            ..FetchConfig::default()
        };
        let fault = fetch(&Fetcher::new(config), address).await.unwrap_err();
        assert!(matches!(fault.cause, FetchCause::Unreachable { tries: 3, .. }), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_is_judged_anew() {
    let peer = Peer::start(Some(certs::server()));
    let mut config = (*certs::client()).clone();
    config.alpn_protocols = vec![b"firesteel-blocks".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    for _ in 0..3 {
        let socket = TcpStream::connect(peer.address()).await.unwrap();
        let mut stream = connector.connect(ServerName::from(peer.address().ip()), socket).await.unwrap();
        stream.write_all(wire::HELLO).await.unwrap();
        stream.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_serves_over_tls_too() {
    let serve = ServeConfig { tls: Some(certs::server()), ..ServeConfig::default() };
    let keeper = Keeper::start(listener(), KeeperConfig { serve, ..KeeperConfig::default() }).unwrap();
    let client = fetcher(Some(certs::client()));
    // It speaks with us, and has heard of nobody.
    let fault = fetch(&client, keeper.local_addr()).await.unwrap_err();
    assert_eq!(fault.cause, FetchCause::StaleEpoch);
    is_refused(&fetcher(None), keeper.local_addr(), "over TLS alone").await;
}
