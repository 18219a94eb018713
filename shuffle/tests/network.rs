//! Blocks over real sockets: what peers and networks do, and what then happens.
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
use common::{attempt, line_item_schema, line_items, sorted_rows, store_with};
use firesteel_base::{ByteSize, Class, Epoch, ExecutorId, JobId, MemoryBudget};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, Compression, FetchCause, FetchConfig, FetchError, Fetcher,
    FileConfig, Holder, Packing, ServeConfig, Transport,
};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

/// A way from one executor to another, and whether frames are packed on it and in files.
#[derive(Debug, Clone, Copy)]
struct Over {
    transport: Transport,
    compression: Compression,
    /// It is under TLS.
    tls: bool,
}

const TCP: Over = Over { transport: Transport::Tcp, compression: Compression::Auto, tls: false };
const TLS: Over = Over { tls: true, ..TCP };

impl Over {
    fn is_shared(self) -> bool {
        self.transport == Transport::Shared
    }

    /// What a peer may take for a step where it is meant to fail: shaking hands takes longer than greeting does.
    fn patience(self) -> Duration {
        if self.tls { 5 * SHORT } else { SHORT }
    }

    fn is_forced(self) -> bool {
        self.compression != Compression::Auto
    }

    fn serve(self) -> ServeConfig {
        let tls = self.tls.then(certs::server);
        ServeConfig { compression: self.compression, tls, ..ServeConfig::default() }
    }

    fn fetch(self) -> FetchConfig {
        let Self { transport, compression, tls } = self;
        FetchConfig { transport, compression, tls: tls.then(certs::client), ..FetchConfig::default() }
    }
}

/// The last of an executor: a store with one committed block of several frames, and its server.
struct Peer {
    store: Arc<BlockStore>,
    budget: MemoryBudget,
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

impl Peer {
    fn start() -> Self {
        Self::with(1 << 30, ServeConfig::default())
    }

    fn with(memory_max: u64, config: ServeConfig) -> Self {
        let files = FileConfig { compression: config.compression, ..FileConfig::default() };
        let (store, budget, folder) = store_with(1 << 30, memory_max, files);
        let config = ServeConfig { identity: Some((executor(), Epoch(3))), ..config };
        let server = BlockServer::start(listener(), Arc::clone(&store), config).unwrap();
        let batches: Vec<_> = (1..=4).map(|seed| line_items(seed, 20_000)).collect();
        let mut writer = store.writer(key().producer, 0, line_item_schema(), 1);
        batches.iter().for_each(|batch| writer.write(batch, &Assignment::Single).unwrap());
        writer.finish().unwrap();
        store.commit(&key().producer).unwrap();
        Self { store, budget, server, batches, _folder: folder }
    }

    fn holder(&self) -> Holder {
        holder(self.server.local_addr())
    }
}

fn listener() -> std::net::TcpListener {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap()
}

fn holder(address: SocketAddr) -> Holder {
    Holder { executor: executor(), epoch: Epoch(3), address: address.to_string(), keeper: String::new() }
}

/// Runs each test over every way from one executor to another.
macro_rules! over_every_way {
    ($($name:ident),+ $(,)?) => {
        over_every_way! {@ over_tcp Tcp Auto false: $($name)+}
        over_every_way! {@ over_tcp_with_lz4 Tcp Lz4 false: $($name)+}
        over_every_way! {@ over_tcp_with_zstd Tcp Zstd false: $($name)+}
        over_every_way! {@ over_tls Tcp Auto true: $($name)+}
        over_every_way! {@ over_tls_with_zstd Tcp Zstd true: $($name)+}
        over_every_way! {@ over_shared_memory Shared Auto false: $($name)+}
        over_every_way! {@ over_shared_memory_and_packed_files Shared Zstd false: $($name)+}
        over_every_way! {@ over_shared_memory_told_under_tls Shared Auto true: $($name)+}
    };
    (@ $module:ident $transport:ident $compression:ident $tls:literal: $($name:ident)+) => {
        mod $module {
            use super::{Compression, Over, Transport};

            const OVER: Over = Over {
                transport: Transport::$transport,
                compression: Compression::$compression,
                tls: $tls,
            };

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(OVER).await;
            })+
        }
    };
}

over_every_way! {
    a_block_is_fetched_whole_and_in_order,
    an_empty_block_is_no_batch,
    a_block_is_fetched_from_a_frame_on,
    blocks_in_files_are_served_too,
    a_hundred_fetches_at_once_all_get_their_block,
    connections_are_used_again,
    an_idle_connection_that_the_peer_closed_does_not_count_as_a_try,
    what_the_holder_does_not_have_is_said_and_is_a_fetch_failure,
    another_life_or_another_executor_is_stale,
    nobody_there_is_a_fetch_failure_after_the_tries_allowed,
    a_dropped_stream_stops_its_transfer,
    a_server_that_is_full_says_so_and_serves_again_later,
    shutting_down_ends_all_connections,
    a_server_that_ends_between_frames_is_a_fetch_failure,
}

/// What a network does to bytes, plain and under TLS.
mod harm {
    use super::{TCP, TLS};

    macro_rules! over_tcp_and_tls {
        ($($name:ident),+ $(,)?) => {
            mod plain { $(#[tokio::test] async fn $name() { super::super::$name(super::TCP).await; })+ }
            mod under_tls { $(#[tokio::test] async fn $name() { super::super::$name(super::TLS).await; })+ }
        };
    }

    over_tcp_and_tls! {
        a_server_that_is_killed_mid_frame_is_a_fetch_failure,
        a_cut_transfer_goes_on_where_it_was_cut,
        a_corrupt_frame_is_asked_for_again_and_then_given_up,
        a_silent_peer_is_given_up_at_the_deadline,
        nobody_waits_for_a_peer_that_is_gone_for_good,
        frames_in_flight_are_counted_and_given_back,
        rubbish_and_slow_clients_are_dropped_and_others_served,
    }
}

fn fetcher(over: Over) -> Arc<Fetcher> {
    Fetcher::new(over.fetch())
}

fn impatient(over: Over) -> Arc<Fetcher> {
    let limit = over.patience();
    Fetcher::new(FetchConfig { io_timeout: limit, connect_timeout: limit, tries_max: 2, ..over.fetch() })
}

async fn fetch(fetcher: &Arc<Fetcher>, holder: Holder) -> Result<Vec<RecordBatch>, FetchError> {
    let work = fetcher.fetch(holder, key(), line_item_schema()).try_collect();
    timeout(LONG, work).await.expect("a fetch ends within its deadlines")
}

/// Waits for what must come true soon.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("not within {LONG:?}: {what}"));
}

/// A relay in front of a peer, which treats the bytes of the `n`th connection on their way to the client.
async fn relay<F>(to: SocketAddr, treat: F) -> SocketAddr
where
    F: Fn(usize, usize, &mut [u8]) -> Relayed + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let treat = Arc::new(treat);
    tokio::spawn(async move {
        for number in 0.. {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(to).await.unwrap();
            let treat = Arc::clone(&treat);
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let (mut at, mut bytes) = (0, vec![0; 4096]);
                while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                    match treat(number, at, &mut bytes[..count]) {
                        Relayed::On => to_client.write_all(&bytes[..count]).await.unwrap_or_default(),
                        Relayed::Cut => return,
                        Relayed::Stall => futures::future::pending().await,
                    }
                    at += count;
                }
            });
        }
    });
    address
}

enum Relayed {
    On,
    Cut,
    Stall,
}

async fn a_block_is_fetched_whole_and_in_order(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let fetcher = fetcher(over);
    let found = fetch(&fetcher, peer.holder()).await.unwrap();
    let rows: Vec<_> = found.iter().map(RecordBatch::num_rows).collect();
    let all = arrow_select::concat::concat_batches(&line_item_schema(), &found).unwrap();
    let expected = arrow_select::concat::concat_batches(&line_item_schema(), &peer.batches).unwrap();
    assert_eq!(all, expected, "{rows:?}");
    let counters = fetcher.counters();
    assert_eq!((counters.rows(), counters.frames(), counters.local_bytes()), (80_000, found.len() as u64, 0));
    let (whole, none) = (counters.remote_bytes(), 0);
    let (shared, sent) = if over.is_shared() { (whole, none) } else { (none, whole) };
    assert_eq!((counters.shared_bytes(), counters.tcp_bytes()), (shared, sent));
    let packing = peer.server.packing();
    assert_eq!(packing, counters.packed_over_tcp());
    if over.is_forced() && !over.is_shared() {
        assert!(packing.frame_bytes == whole && packing.packed_bytes < whole * 9 / 10, "{packing:?}");
    } else {
        assert_eq!(packing, Packing::default(), "nothing is gained on one host");
    }
    let saved = packing.frame_bytes - packing.packed_bytes;
    assert_eq!((peer.server.placed_bytes(), peer.server.sent_bytes()), (shared, sent - saved));
    peer.server.shutdown().await;
}

async fn a_block_is_fetched_from_a_frame_on(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let whole = fetch(&fetcher(over), peer.holder()).await.unwrap();
    let own = fetcher(over);
    own.set_local(executor(), Epoch(3), Arc::clone(&peer.store));
    for fetcher in [fetcher(over), own] {
        let from = |first_frame: usize| {
            let (holder, first_frame) = (peer.holder(), u32::try_from(first_frame).unwrap());
            let frames = fetcher.fetch_from(holder, key(), first_frame, line_item_schema(), Arc::default());
            timeout(LONG, frames.try_collect::<Vec<_>>())
        };
        for first in 0..=whole.len() {
            let before = fetcher.counters().frames();
            assert_eq!(from(first).await.unwrap().unwrap(), whole[first..], "from frame {first} on");
            assert_eq!(fetcher.counters().frames() - before, (whole.len() - first) as u64);
        }
        let beyond = from(whole.len() + 1).await.unwrap().unwrap_err();
        assert_eq!(beyond.cause, FetchCause::Missing);
    }
    peer.server.shutdown().await;
}

async fn an_empty_block_is_no_batch(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    peer.store.writer(attempt(7, 15), 0, line_item_schema(), 1).finish().unwrap();
    peer.store.commit(&attempt(7, 15)).unwrap();
    let empty = BlockKey { producer: attempt(7, 15), ..key() };
    let fetcher = fetcher(over);
    for _ in 0..3 {
        let found: Vec<_> =
            fetcher.fetch(peer.holder(), empty, line_item_schema()).try_collect().await.unwrap();
        assert!(found.is_empty());
    }
    assert_eq!(fetcher.idle_connections(), 1);
    until("one connection is left", || peer.server.connections() == 1).await;
}

async fn blocks_in_files_are_served_too(over: Over) {
    let peer = Peer::with(0, over.serve());
    assert_eq!(peer.store.usage().memory_bytes, 0);
    let fetcher = fetcher(over);
    let found = fetch(&fetcher, peer.holder()).await.unwrap();
    assert_eq!(sorted_rows(&found), sorted_rows(&peer.batches));
    if over.is_forced() {
        let counters = fetcher.counters();
        let (passed, sent) = (counters.packed_in_files(), counters.packed_over_tcp());
        let (read, none) = if over.is_shared() { (passed, sent) } else { (sent, passed) };
        assert_eq!((read, none), (peer.store.packing(), Packing::default()), "as it lies in its file");
        assert_eq!(read.frame_bytes, counters.remote_bytes());
    }
}

#[tokio::test]
async fn a_block_of_the_own_executor_is_read_by_pointer() {
    let peer = Peer::start();
    let fetcher = fetcher(TCP);
    fetcher.set_local(executor(), Epoch(3), Arc::clone(&peer.store));
    let used = peer.budget.used();
    let found = fetch(&fetcher, peer.holder()).await.unwrap();
    assert_eq!(sorted_rows(&found), sorted_rows(&peer.batches));
    assert_eq!((fetcher.counters().remote_bytes(), peer.server.sent_bytes()), (0, 0));
    assert_eq!((fetcher.counters().local_bytes(), peer.budget.used()), (used, used));
    fetcher.set_local(executor(), Epoch(4), Arc::clone(&peer.store));
    assert_eq!(fetch(&fetcher, peer.holder()).await.unwrap_err().cause, FetchCause::StaleEpoch);
}

async fn a_hundred_fetches_at_once_all_get_their_block(over: Over) {
    let peer = Peer::with(200_000, over.serve());
    let fetcher = fetcher(over);
    let expected = sorted_rows(&peer.batches);
    let fetches = (0..100).map(|_| {
        let (fetcher, holder) = (Arc::clone(&fetcher), peer.holder());
        tokio::spawn(async move { fetch(&fetcher, holder).await.unwrap() })
    });
    for found in try_join_all(fetches).await.unwrap() {
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), expected.len());
    }
    assert!(fetcher.idle_connections() <= FetchConfig::default().idle_per_peer_max);
    until("the other connections are closed", || peer.server.connections() == fetcher.idle_connections())
        .await;
    peer.store.free_job(JobId(7));
    until("all memory has come back", || peer.budget.used() == 0).await;
}

async fn connections_are_used_again(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let fetcher = fetcher(over);
    for _ in 0..5 {
        fetch(&fetcher, peer.holder()).await.unwrap();
        assert_eq!(fetcher.idle_connections(), 1);
        until("one connection is left", || peer.server.connections() == 1).await;
    }
}

async fn an_idle_connection_that_the_peer_closed_does_not_count_as_a_try(over: Over) {
    let peer = Peer::with(1 << 30, ServeConfig { idle_timeout: over.patience(), ..over.serve() });
    let fetcher = Fetcher::new(FetchConfig { tries_max: 1, ..over.fetch() });
    fetch(&fetcher, peer.holder()).await.unwrap();
    until("the server closes the idle connection", || peer.server.connections() == 0).await;
    if over.is_shared() {
        // Nobody reads from it; over TCP its end is noticed at once or a moment later.
        assert_eq!(fetcher.idle_connections(), 1);
    }
    fetch(&fetcher, peer.holder()).await.unwrap();
}

async fn what_the_holder_does_not_have_is_said_and_is_a_fetch_failure(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let mut writer = peer.store.writer(attempt(7, 15), 0, line_item_schema(), 1);
    writer.write(&line_items(1, 10), &Assignment::Single).unwrap();
    let not_committed = BlockKey { producer: attempt(7, 15), ..key() };
    let cases = [
        (BlockKey { producer: attempt(8, 0), ..key() }, FetchCause::Missing),
        (BlockKey { partition: 1, ..key() }, FetchCause::Missing),
        (BlockKey { lane: 1, ..key() }, FetchCause::Missing),
        (not_committed, FetchCause::NotCommitted),
    ];
    let fetcher = fetcher(over);
    for (key, cause) in cases {
        let mut stream = fetcher.fetch(peer.holder(), key, line_item_schema());
        let fault = stream.next().await.unwrap().unwrap_err();
        assert_eq!(fault, FetchError { key, holder: peer.holder(), cause });
        assert_eq!(fault.class(), Class::Fetch);
        assert!(stream.next().await.is_none(), "an error is the last item");
    }
    assert_eq!((fetcher.idle_connections(), fetcher.counters().retries()), (1, 0));
}

async fn another_life_or_another_executor_is_stale(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let stale = [
        Holder { epoch: Epoch(2), ..peer.holder() },
        Holder { epoch: Epoch(4), ..peer.holder() },
        Holder { executor: "host4/e0".parse().unwrap(), ..peer.holder() },
    ];
    for holder in stale {
        let fault = fetch(&fetcher(over), holder).await.unwrap_err();
        assert_eq!((fault.cause.clone(), fault.class()), (FetchCause::StaleEpoch, Class::Fetch));
    }
    let unnamed = BlockServer::start(listener(), Arc::clone(&peer.store), over.serve()).unwrap();
    let at = holder(unnamed.local_addr());
    assert_eq!(fetch(&fetcher(over), at.clone()).await.unwrap_err().cause, FetchCause::StaleEpoch);
    unnamed.set_identity(executor(), Epoch(3));
    fetch(&fetcher(over), at).await.unwrap();
}

async fn nobody_there_is_a_fetch_failure_after_the_tries_allowed(over: Over) {
    let address = listener().local_addr().unwrap();
    let fetcher = impatient(over);
    let fault = fetch(&fetcher, holder(address)).await.unwrap_err();
    assert!(matches!(fault.cause, FetchCause::Unreachable { tries: 2, .. }), "{fault}");
    assert_eq!((fault.class(), fetcher.counters().retries()), (Class::Fetch, 1));
    let text = fault.to_string();
    assert!(text.contains("job7/s2/p14/a0/l0/b0") && text.contains(&address.to_string()), "{text}");
}

async fn a_server_that_is_killed_mid_frame_is_a_fetch_failure(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let first_frames = AtomicUsize::new(0);
    // The first connection ends within the second frame; then nobody is there any more.
    let address = relay(peer.server.local_addr(), move |number, at, _| {
        first_frames.fetch_max(at, Ordering::Relaxed);
        if number > 0 || at > 1_500_000 { Relayed::Cut } else { Relayed::On }
    })
    .await;
    let fetcher = impatient(over);
    let mut stream = fetcher.fetch(holder(address), key(), line_item_schema());
    let whole = stream.next().await.unwrap().unwrap();
    assert!(whole.num_rows() > 0);
    let rest: Vec<_> = timeout(LONG, stream.collect()).await.unwrap();
    let fault = rest.into_iter().find_map(Result::err).expect("the block is not whole");
    assert!(
        matches!(fault.cause, FetchCause::Unreachable { .. }) && fault.class() == Class::Fetch,
        "{fault}"
    );
}

async fn a_cut_transfer_goes_on_where_it_was_cut(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    // Every connection carries a little more than a frame.
    let address =
        relay(peer.server.local_addr(), |_, at, _| if at > 1_500_000 { Relayed::Cut } else { Relayed::On })
            .await;
    let fetcher = fetcher(over);
    let found = fetch(&fetcher, holder(address)).await.unwrap();
    let all = arrow_select::concat::concat_batches(&line_item_schema(), &found).unwrap();
    let expected = arrow_select::concat::concat_batches(&line_item_schema(), &peer.batches).unwrap();
    assert!(all == expected, "no row is lost or doubled");
    assert!(fetcher.counters().retries() > 1);
}

async fn a_corrupt_frame_is_asked_for_again_and_then_given_up(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let flip = |at: usize, bytes: &mut [u8]| {
        let target = 100_000;
        if (at..at + bytes.len()).contains(&target) {
            bytes[target - at] ^= 1;
        }
    };
    let once = relay(peer.server.local_addr(), move |number, at, bytes| {
        if number == 0 {
            flip(at, bytes);
        }
        Relayed::On
    })
    .await;
    let fetcher = fetcher(over);
    assert_eq!(sorted_rows(&fetch(&fetcher, holder(once)).await.unwrap()), sorted_rows(&peer.batches));
    assert_eq!(fetcher.counters().retries(), 1);

    let always = relay(peer.server.local_addr(), move |_, at, bytes| {
        flip(at, bytes);
        Relayed::On
    })
    .await;
    let fault = fetch(&fetcher, holder(always)).await.unwrap_err();
    // Under TLS it is not known what was damaged: it ends the connection.
    let is_given_up = match &fault.cause {
        FetchCause::Corrupt(_) => !over.tls,
        FetchCause::Unreachable { tries: 3, reason } => over.tls && reason.contains("TLS failed"),
        _ => false,
    };
    assert!(is_given_up && fault.class() == Class::Fetch, "{fault}");
}

async fn a_server_that_ends_between_frames_is_a_fetch_failure(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let fetcher = impatient(over);
    let mut stream = fetcher.fetch(peer.holder(), key(), line_item_schema());
    let first = stream.next().await.unwrap().unwrap();
    peer.store.free_job(JobId(7));
    timeout(LONG, peer.server.shutdown()).await.unwrap();
    // What has come before may still be read; then nobody is there, or the rest has come too.
    let rest: Vec<_> = timeout(LONG, stream.collect()).await.unwrap();
    let rows: usize = rest.iter().flatten().map(RecordBatch::num_rows).sum::<usize>() + first.num_rows();
    match rest.into_iter().find_map(Result::err) {
        Some(fault) => assert_eq!(fault.class(), Class::Fetch, "{fault}"),
        None => assert_eq!(rows, 80_000),
    }
    let expected = arrow_select::concat::concat_batches(&line_item_schema(), &peer.batches).unwrap();
    assert!(first == expected.slice(0, first.num_rows()), "what was read before stays as it was");
}

async fn a_silent_peer_is_given_up_at_the_deadline(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    // Silent before its greeting, before its answer, and within a frame.
    for after in [0, 8, 50_000] {
        let address = relay(peer.server.local_addr(), move |_, at, bytes| {
            if at + bytes.len() > after { Relayed::Stall } else { Relayed::On }
        })
        .await;
        let fault = fetch(&impatient(over), holder(address)).await.unwrap_err();
        assert!(matches!(fault.cause, FetchCause::Unreachable { tries: 2, .. }), "{after}: {fault}");
        assert!(fault.to_string().contains(&format!("within {:?}", over.patience())), "{fault}");
    }
}

async fn nobody_waits_for_a_peer_that_is_gone_for_good(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    // Silent before its greeting, before its answer, and within a frame: patience is of 30 s, and of 5 s for the greeting.
    for after in [0, 8, 50_000] {
        let (stalled, at_stall) = tokio::sync::mpsc::channel(1);
        let address = relay(peer.server.local_addr(), move |_, at, bytes| {
            let stalls = at + bytes.len() > after;
            let _ = stalls.then(|| stalled.try_send(()));
            if stalls { Relayed::Stall } else { Relayed::On }
        })
        .await;
        let fetcher = fetcher(over);
        let (mut at_stall, other) = (at_stall, Arc::clone(&fetcher));
        let tell = async move {
            at_stall.recv().await;
            other.note_gone(executor(), Epoch(4));
            other.note_gone(executor(), Epoch(3));
        };
        let (fault, ()) =
            timeout(LONG, async { tokio::join!(fetch(&fetcher, holder(address)), tell) }).await.unwrap();
        let fault = fault.unwrap_err();
        assert_eq!(
            (&fault.cause, fault.class(), fetcher.counters().retries()),
            (&FetchCause::Gone, Class::Fetch, 0),
            "{after}"
        );
        // Nor is it asked again.
        let fault = timeout(LONG, fetch(&fetcher, holder(address))).await.unwrap().unwrap_err();
        assert_eq!(fault.cause, FetchCause::Gone);
    }
}

#[tokio::test]
async fn a_peer_of_another_version_or_kind_is_told_apart() {
    for (greeting, word) in [(*b"FSS1\x09\0\0\0", "version 9"), (*b"HTTP/1.1", "greeting")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&greeting).await.unwrap();
            futures::future::pending::<()>().await;
        });
        let fault = fetch(&fetcher(TCP), holder(address)).await.unwrap_err();
        assert!(matches!(&fault.cause, FetchCause::Protocol(text) if text.contains(word)), "{fault}");
    }
}

async fn a_dropped_stream_stops_its_transfer(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let fetcher = fetcher(over);
    let mut stream = fetcher.fetch(peer.holder(), key(), line_item_schema());
    stream.next().await.unwrap().unwrap();
    until("one connection is left", || peer.server.connections() == 1).await;
    drop(stream);
    if over.is_shared() {
        until("the server drops the connection", || peer.server.connections() == 0).await;
        assert_eq!(fetcher.idle_connections(), 0, "half a block is still on its way over it");
    } else {
        until("nothing is under way", || fetcher.idle_connections() == 1).await;
        assert_eq!(peer.server.connections(), 1);
    }
    assert_eq!(sorted_rows(&fetch(&fetcher, peer.holder()).await.unwrap()), sorted_rows(&peer.batches));
    assert_eq!((fetcher.counters().retries(), peer.server.connections()), (0, 1));
}

async fn frames_in_flight_are_counted_and_given_back(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let budget = MemoryBudget::new(ByteSize(1 << 20));
    let fetcher = Fetcher::new(FetchConfig { budget: Some(budget.clone()), ..over.fetch() });
    let mut stream = fetcher.fetch(peer.holder(), key(), line_item_schema());
    assert_eq!(budget.used(), 0, "nothing happens before the first poll");
    stream.next().await.unwrap().unwrap();
    assert!(budget.used() > 100_000);
    while stream.next().await.is_some() {}
    assert_eq!(budget.used(), 0);
    drop(fetcher.fetch(peer.holder(), key(), line_item_schema()).next().await);
    until("what was on its way is given back", || budget.used() == 0).await;
}

async fn a_server_that_is_full_says_so_and_serves_again_later(over: Over) {
    let peer = Peer::with(1 << 30, ServeConfig { connections_max: 1, ..over.serve() });
    let held = fetcher(over);
    let mut stream = held.fetch(peer.holder(), key(), line_item_schema());
    stream.next().await.unwrap().unwrap();
    let fault = fetch(&impatient(over), peer.holder()).await.unwrap_err();
    assert_eq!((fault.cause.clone(), fault.class()), (FetchCause::Busy, Class::Transient));
    drop((stream, held));
    until("the held connection is dropped", || peer.server.connections() == 0).await;
    fetch(&fetcher(over), peer.holder()).await.unwrap();
}

/// Reads until the server closes the connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is as good as an end.
    let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.expect("the server drops the client");
}

const HELLO: &[u8] = b"FSS1\x04\0\0\0";

/// A request for the peer's block.
fn request() -> Vec<u8> {
    wire::request(99, 1 << 40, &key())
}

async fn rubbish_and_slow_clients_are_dropped_and_others_served(over: Over) {
    let config = ServeConfig {
        request_timeout: over.patience(),
        send_timeout: SHORT,
        idle_timeout: SHORT,
        ..over.serve()
    };
    let peer = Peer::with(1 << 30, config);
    let huge_name = {
        let mut request = request();
        request[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
        request
    };
    let messages: [Vec<u8>; 8] = [
        vec![],                             // never greets
        b"GET / HTTP/1.1\r\n\r\n".to_vec(), // another protocol
        b"FSS1\x01\0\0\0".to_vec(),         // another version
        HELLO[..3].to_vec(),                // stops within the greeting
        HELLO.to_vec(),                     // never asks
        [HELLO, &request()[..20]].concat(), // stops within a request
        [HELLO, &[0xff; 64]].concat(),      // asks for what there is not
        [HELLO, &huge_name].concat(),       // announces a name of 4 GiB
    ];
    for message in messages {
        let mut client = TcpStream::connect(peer.server.local_addr()).await.unwrap();
        client.write_all(&message).await.unwrap();
        closed(&mut client).await;
    }
    fetch(&fetcher(over), peer.holder()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let peer = Peer::with(1 << 30, ServeConfig { send_timeout: SHORT, ..ServeConfig::default() });
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(peer.server.local_addr()).await.unwrap();
    // More than the buffers of both ends hold.
    let requests: Vec<_> = (1..=20).map(|id| wire::request(id, 1 << 40, &key())).collect();
    client.write_all(&[HELLO, &requests.concat()].concat()).await.unwrap();
    until("the client is connected", || peer.server.connections() == 1).await;
    until("the client is dropped", || peer.server.connections() == 0).await;
}

async fn shutting_down_ends_all_connections(over: Over) {
    let peer = Peer::with(1 << 30, over.serve());
    let mut client = TcpStream::connect(peer.server.local_addr()).await.unwrap();
    let address = peer.server.local_addr();
    until("the client is connected", || peer.server.connections() == 1).await;
    timeout(LONG, peer.server.shutdown()).await.unwrap();
    closed(&mut client).await;
    let fault = fetch(&impatient(over), holder(address)).await.unwrap_err();
    assert!(matches!(fault.cause, FetchCause::Unreachable { .. }), "{fault}");
}

#[test]
fn connections_outlive_runtimes_or_end_with_them() {
    let serving = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let peer = serving.block_on(async { Peer::start() });
    let over_tls = serving.block_on(async { Peer::with(1 << 30, TLS.serve()) });
    let shared = Over { transport: Transport::Shared, ..TCP };
    for (peer, over) in [(&peer, TCP), (&over_tls, TLS), (&peer, shared)] {
        let fetcher = fetcher(over);
        for round in 1..=3 {
            // Each core thread has a runtime of its own. All share one connection over TCP; one in shared memory is its
            // runtime's own, and that of one that ended must not be used by the next.
            let core = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            core.block_on(async { fetch(&fetcher, peer.holder()).await.unwrap() });
            assert_eq!(fetcher.idle_connections(), 1, "round {round}");
            drop(core);
            assert_eq!(fetcher.idle_connections(), usize::from(!over.is_shared()), "round {round}");
        }
        assert_eq!(fetcher.counters().retries(), 0);
    }
}
