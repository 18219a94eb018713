//! Blocks in shared memory: whose it is and until when, and peers that break their word about it.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use common::{attempt, line_item_schema, line_items, sorted_rows, store};
use firesteel_base::{AttemptKey, Class, Epoch, ExecutorId, JobId, MemoryBudget};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, FetchCause, FetchConfig, FetchError, Fetcher, Holder,
    SegmentUsage, ServeConfig, Transport,
};
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);
/// What the store of a peer may hold: 64 MiB of it are spare before they are counted.
const MEMORY: u64 = 1 << 30;

struct Peer {
    store: Arc<BlockStore>,
    budget: MemoryBudget,
    server: BlockServer,
    _folder: tempfile::TempDir,
}

fn executor() -> ExecutorId {
    "host3/e0".parse().unwrap()
}

fn key(job: u64) -> BlockKey {
    BlockKey { producer: attempt(job, 14), lane: 0, partition: 0 }
}

fn config() -> ServeConfig {
    ServeConfig {
        identity: Some((executor(), Epoch(3))),
        transport: Transport::Shared,
        ..ServeConfig::default()
    }
}

impl Peer {
    fn start() -> Self {
        Self::with(MEMORY, config())
    }

    fn with(memory_max: u64, config: ServeConfig) -> Self {
        let (store, budget, folder) = store(MEMORY, memory_max);
        let server = BlockServer::start(listener(), Arc::clone(&store), config).unwrap();
        Self { store, budget, server, _folder: folder }
    }

    fn holder(&self) -> Holder {
        holder(self.server.local_addr())
    }

    /// Commits the job's block; returns its rows.
    fn write(&self, job: u64, batches: u64) -> Vec<RecordBatch> {
        write(&self.store, job, batches)
    }
}

fn write(store: &Arc<BlockStore>, job: u64, batches: u64) -> Vec<RecordBatch> {
    write_as(store, key(job).producer, batches)
}

fn write_as(store: &Arc<BlockStore>, producer: AttemptKey, batches: u64) -> Vec<RecordBatch> {
    let first = 100 * producer.job().0 + u64::from(producer.task.task);
    let batches: Vec<_> = (1..=batches).map(|seed| line_items(first + seed, 20_000)).collect();
    let mut writer = store.writer(producer, 0, line_item_schema(), 1);
    batches.iter().for_each(|batch| writer.write(batch, &Assignment::Single).unwrap());
    writer.finish().unwrap();
    store.commit(&producer).unwrap();
    batches
}

fn listener() -> std::net::TcpListener {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap()
}

fn holder(address: std::net::SocketAddr) -> Holder {
    Holder { executor: executor(), epoch: Epoch(3), address: address.to_string(), keeper: String::new() }
}

fn fetcher(transport: Transport) -> Arc<Fetcher> {
    let config = FetchConfig { transport, io_timeout: LONG, tries_max: 2, ..FetchConfig::default() };
    Fetcher::new(config)
}

async fn fetch(fetcher: &Arc<Fetcher>, holder: Holder, job: u64) -> Result<Vec<RecordBatch>, FetchError> {
    let work = fetcher.fetch(holder, key(job), line_item_schema()).try_collect();
    timeout(LONG, work).await.expect("a fetch ends within its deadlines")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("not within {LONG:?}: {what}"));
}

#[tokio::test]
async fn what_a_reader_looks_at_stays_and_is_counted_until_it_lets_go() {
    let peer = Peer::start();
    let written = peer.write(1, 4);
    let fetcher = fetcher(Transport::Shared);
    let mut found = fetch(&fetcher, peer.holder(), 1).await.unwrap();
    assert_eq!(fetcher.counters().shared_bytes(), peer.store.usage().memory_bytes);
    assert_eq!((peer.server.leases(), peer.budget.used()), (found.len(), peer.store.usage().memory_bytes));
    peer.store.free_job(JobId(1));
    // The memory is not used again as long as somebody looks at it, even by its own stage.
    for task in 20..24 {
        write_as(&peer.store, attempt(1, task), 4);
        peer.store.free_job(JobId(1));
    }
    assert_eq!(sorted_rows(&found), sorted_rows(&written));
    let whole = peer.budget.used();
    let last = found.pop().unwrap();
    drop(found);
    until("what was let go of has come back", || peer.server.leases() == 1 && peer.budget.used() < whole)
        .await;
    assert!(peer.budget.used() > 0);
    drop(last);
    until("all has come back", || peer.budget.used() == 0).await;
    assert_eq!((peer.server.leases(), peer.store.segments().used), (0, 0));
}

#[tokio::test]
async fn segments_are_used_again_once_all_have_let_go() {
    let peer = Peer::start();
    let fetcher = fetcher(Transport::Shared);
    for job in 1..=20 {
        let written = peer.write(job, 3);
        let found = fetch(&fetcher, peer.holder(), job).await.unwrap();
        assert_eq!(sorted_rows(&found), sorted_rows(&written));
        drop(found);
        peer.store.free_job(JobId(job));
        until("all has come back", || peer.budget.used() == 0).await;
        let SegmentUsage { used, idle, spare_bytes } = peer.store.segments();
        assert_eq!((used, idle), (0, 1), "one segment is enough for all");
        assert!(spare_bytes < 16 << 20, "{spare_bytes}");
    }
    assert_eq!(fetcher.counters().retries(), 0);
}

#[tokio::test]
async fn a_stream_that_is_dropped_lets_go_of_all() {
    let peer = Peer::start();
    peer.write(1, 4);
    let fetcher = fetcher(Transport::Shared);
    let mut stream = fetcher.fetch(peer.holder(), key(1), line_item_schema());
    let first = stream.next().await.unwrap().unwrap();
    drop(stream);
    drop(first);
    until("nobody looks at anything", || peer.server.leases() == 0 && peer.server.connections() == 0).await;
    peer.store.free_job(JobId(1));
    assert_eq!((peer.budget.used(), peer.store.segments().idle), (0, 1), "the segment can be used again");
}

/// The mapping of a segment, from where to where, that a batch's first value lies in.
fn mapping_of(batch: &RecordBatch) -> Option<std::ops::Range<usize>> {
    mapping_at(batch.column(0).to_data().buffers()[0].as_ptr() as usize)
}

fn mapping_at(place: usize) -> Option<std::ops::Range<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ranges = maps.lines().filter(|line| line.contains("memfd:firesteel-blocks")).map(|line| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap()
    });
    ranges.into_iter().find(|range| range.contains(&place))
}

/// A fetcher that lets go after so long of what it has mapped and does not look at.
fn mapping_for(mapped_idle: Duration) -> Arc<Fetcher> {
    Fetcher::new(FetchConfig { mapped_idle, transport: Transport::Shared, ..FetchConfig::default() })
}

#[tokio::test]
async fn a_segment_is_mapped_once_for_all_replies() {
    let peer = Peer::start();
    let (fetcher, mut places) = (mapping_for(LONG), Vec::new());
    for job in 1..=4 {
        let written = peer.write(job, 3);
        // Two at a time, over two connections.
        let both = tokio::join!(fetch(&fetcher, peer.holder(), job), fetch(&fetcher, peer.holder(), job));
        for found in [both.0.unwrap(), both.1.unwrap()] {
            assert_eq!(sorted_rows(&found), sorted_rows(&written), "what is written there later is seen");
            places.extend(found.iter().map(|batch| mapping_of(batch).unwrap()));
        }
        peer.store.free_job(JobId(job));
        until("all has come back", || peer.budget.used() == 0).await;
    }
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    assert_eq!(fetcher.idle_connections(), 2);
}

#[tokio::test]
async fn what_nobody_looks_at_does_not_stay_mapped() {
    let peer = Peer::start();
    let fetcher = mapping_for(SHORT);
    for job in 1..=2 {
        let written = peer.write(job, 3);
        let found = fetch(&fetcher, peer.holder(), job).await.unwrap();
        assert_eq!(sorted_rows(&found), sorted_rows(&written));
        let place = mapping_of(&found[0]).unwrap().start;
        until("the connection is closed", || fetcher.idle_connections() == 0).await;
        assert!(mapping_at(place).is_some(), "somebody looks at it");
        assert_eq!(sorted_rows(&found), sorted_rows(&written));
        drop(found);
        until("it is unmapped", || mapping_at(place).is_none()).await;
    }
    until("the server knows", || (peer.server.leases(), peer.server.connections()) == (0, 0)).await;
    assert_eq!(fetcher.counters().retries(), 0);
}

#[tokio::test]
async fn what_a_reader_has_mapped_of_a_runtime_ends_with_it() {
    let peer = Peer::start();
    peer.write(1, 3);
    let (fetcher, holder) = (fetcher(Transport::Shared), peer.holder());
    let reader = Arc::clone(&fetcher);
    let on_its_own = std::thread::spawn(move || {
        let core = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = core.block_on(fetch(&reader, holder, 1)).unwrap();
        mapping_of(&found[0]).unwrap().start
    });
    let place = tokio::task::spawn_blocking(|| on_its_own.join().unwrap()).await.unwrap();
    assert_eq!((mapping_at(place), fetcher.idle_connections()), (None, 0));
}

#[tokio::test]
async fn readers_do_not_need_the_runtime_that_fetched() {
    let peer = Peer::start();
    let written = peer.write(1, 4);
    let fetcher = fetcher(Transport::Shared);
    let holder = peer.holder();
    let on_its_own = std::thread::spawn(move || {
        let core = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        core.block_on(fetch(&fetcher, holder, 1)).unwrap()
    });
    let found = tokio::task::spawn_blocking(|| on_its_own.join().unwrap()).await.unwrap();
    until("its connection ended with the runtime", || peer.server.leases() == 0).await;
    peer.store.free_job(JobId(1));
    assert_eq!(peer.budget.used(), 0);
    peer.write(2, 4);
    assert_eq!(sorted_rows(&found), sorted_rows(&written), "nothing was written over it");
}

#[tokio::test]
async fn who_looks_too_long_loses_the_connection_but_not_what_is_looked_at() {
    let peer = Peer::with(MEMORY, ServeConfig { lease_timeout: SHORT, ..config() });
    let written = peer.write(1, 4);
    let fetcher = fetcher(Transport::Shared);
    let found = fetch(&fetcher, peer.holder(), 1).await.unwrap();
    until("the deadline has passed", || peer.server.leases() == 0 && peer.server.connections() == 0).await;
    peer.store.free_job(JobId(1));
    assert_eq!(
        (peer.budget.used(), peer.store.segments()),
        (0, SegmentUsage::default()),
        "no segment is kept"
    );
    peer.write(2, 4);
    assert_eq!(sorted_rows(&found), sorted_rows(&written));
    fetch(&fetcher, peer.holder(), 2).await.unwrap();
}

#[tokio::test]
async fn blocks_in_memory_and_in_files_come_in_one_reply() {
    let peer = Peer::with(2 << 20, config());
    let written = peer.write(1, 8);
    let usage = peer.store.usage();
    assert!(usage.memory_bytes > 0 && usage.disk_bytes > 0, "{usage:?}");
    let fetcher = fetcher(Transport::Shared);
    let found = fetch(&fetcher, peer.holder(), 1).await.unwrap();
    assert_eq!(sorted_rows(&found), sorted_rows(&written));
    let counters = fetcher.counters();
    assert_eq!(counters.shared_bytes(), usage.memory_bytes);
    assert_eq!(counters.remote_bytes(), usage.memory_bytes + usage.disk_bytes);
    assert_eq!((counters.tcp_bytes(), counters.retries()), (0, 0));
}

#[tokio::test]
async fn either_end_can_do_without() {
    let peer = Peer::with(MEMORY, ServeConfig { transport: Transport::Tcp, ..config() });
    let written = peer.write(1, 2);
    assert!(!peer.server.shares_memory());
    let auto = fetcher(Transport::Auto);
    assert_eq!(sorted_rows(&fetch(&auto, peer.holder(), 1).await.unwrap()), sorted_rows(&written));
    assert_eq!((auto.counters().shared_bytes(), auto.counters().retries()), (0, 0));
    let fault = fetch(&fetcher(Transport::Shared), peer.holder(), 1).await.unwrap_err();
    assert!(matches!(&fault.cause, FetchCause::NotShared(why) if why.contains("offers none")), "{fault}");
    assert_eq!((fault.class(), peer.store.segments()), (Class::Fetch, SegmentUsage::default()));

    let peer = Peer::start();
    let written = peer.write(1, 2);
    let tcp = fetcher(Transport::Tcp);
    assert_eq!(sorted_rows(&fetch(&tcp, peer.holder(), 1).await.unwrap()), sorted_rows(&written));
    assert_eq!((tcp.counters().shared_bytes(), peer.server.placed_bytes()), (0, 0));
    let auto = fetcher(Transport::Auto);
    fetch(&auto, peer.holder(), 1).await.unwrap();
    assert_eq!(auto.counters().tcp_bytes(), 0, "the best way that both have");
}

/// The places of that block, as a client that takes leases and keeps them is told them: statuses.
async fn look_at(address: SocketAddr, requests: usize, frames: usize) -> (UnixStream, Vec<u32>) {
    let look = move || {
        let mut client = UnixStream::connect_addr(&address).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        client.write_all(&[b"FSS1\x04\0\0\0", request().repeat(requests).as_slice()].concat()).unwrap();
        client.read_exact(&mut [0; 8]).unwrap();
        let mut statuses = Vec::new();
        for _ in 0..requests {
            client.read_exact(&mut [0; 32]).unwrap();
            for _ in 0..frames {
                let mut place = [0; 40];
                client.read_exact(&mut place).unwrap();
                statuses.push(u32::from_le_bytes(*place.first_chunk().unwrap()));
                if statuses.last() != Some(&0) {
                    break;
                }
            }
        }
        (client, statuses)
    };
    tokio::task::spawn_blocking(look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_more_than_a_client_may_look_at_goes_over_tcp() {
    let peer = Peer::with(MEMORY, ServeConfig { leases_max: 3, ..config() });
    let written = peer.write(1, 4);
    let frames = peer.store.usage().memory_bytes;
    let auto = fetcher(Transport::Auto);
    let found = fetch(&auto, peer.holder(), 1).await.unwrap();
    assert!(found.len() > 3 && peer.server.leases() == 3, "{} frames", found.len());
    assert_eq!(sorted_rows(&found), sorted_rows(&written));
    let counters = auto.counters();
    assert!(counters.shared_bytes() > 0 && counters.tcp_bytes() > 0);
    assert_eq!((counters.remote_bytes(), counters.retries()), (frames, 1));
    let forced = fetch(&fetcher(Transport::Shared), peer.holder(), 1).await.unwrap_err();
    assert!(matches!(forced.cause, FetchCause::NotShared(_)), "{forced}");
    // What was let go of can be looked at again, by the same peer too: it was not given up for other blocks.
    let frames = found.len();
    drop(found);
    until("nobody looks at anything", || peer.server.leases() == 0).await;
    let one = peer.write(2, 1);
    let before = auto.counters().shared_bytes();
    assert_eq!(sorted_rows(&fetch(&auto, peer.holder(), 2).await.unwrap()), sorted_rows(&one));
    assert!(auto.counters().shared_bytes() > before);
    // Each reply of a client that keeps all tells where its limit is.
    until("nobody looks at anything", || peer.server.leases() == 0).await;
    let address = socket_address(&offer(peer.server.local_addr())[24..]);
    let (_client, statuses) = look_at(address, 2, frames).await;
    assert_eq!(statuses, [0, 0, 0, 5, 5]);
}

#[tokio::test]
async fn frames_written_before_memory_was_shared_go_over_tcp() {
    let (store, _, _folder) = store(MEMORY, MEMORY);
    let written = write(&store, 1, 2);
    let server = BlockServer::start(listener(), store, config()).unwrap();
    let auto = fetcher(Transport::Auto);
    let found = fetch(&auto, holder(server.local_addr()), 1).await.unwrap();
    assert_eq!(sorted_rows(&found), sorted_rows(&written));
    assert_eq!(auto.counters().shared_bytes(), 0);
    let fault = fetch(&fetcher(Transport::Shared), holder(server.local_addr()), 1).await.unwrap_err();
    assert!(matches!(fault.cause, FetchCause::NotShared(_)), "{fault}");
}

/// Copies per byte that the table in PROTOCOL.md names, made by writing a block and by reading it.
#[tokio::test]
async fn each_way_copies_as_often_as_is_written_down() {
    for (memory_max, way, written, read) in [
        (MEMORY, Some(Transport::Shared), 1, 0),
        (MEMORY, Some(Transport::Tcp), 1, 2),
        (MEMORY, None, 1, 0),
        (0, Some(Transport::Shared), 2, 1),
        (0, Some(Transport::Tcp), 2, 3),
        (0, None, 2, 1),
    ] {
        let peer = Peer::with(memory_max, config());
        peer.write(1, 4);
        let bytes = peer.store.usage().memory_bytes + peer.store.usage().disk_bytes;
        assert_eq!(peer.store.encoded_bytes() + peer.store.spilled_bytes(), written * bytes);
        let fetcher = fetcher(way.unwrap_or_default());
        if way.is_none() {
            fetcher.set_local(executor(), Epoch(3), Arc::clone(&peer.store));
        }
        fetch(&fetcher, peer.holder(), 1).await.unwrap();
        let copied = fetcher.counters().copied_bytes() + peer.server.copied_bytes();
        assert_eq!(copied, read * bytes, "{way:?} with {memory_max} bytes of memory");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What comes out is what went in, over every way and wherever it lies.
    #[test]
    fn every_way_gives_what_was_written(
        sizes in prop::collection::vec(1_usize..6000, 1..6),
        partitions in 1_u32..5,
        memory_max in prop::sample::select(vec![0, 100_000, MEMORY]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let peer = Peer::with(memory_max, config());
            let mut writer = peer.store.writer(key(1).producer, 0, line_item_schema(), partitions);
            let batches: Vec<_> = sizes.iter().map(|rows| line_items(*rows as u64, *rows)).collect();
            for batch in &batches {
                let rows: Vec<_> = (0..batch.num_rows() as u32).map(|row| row % partitions).collect();
                writer.write(batch, &Assignment::Rows(&rows)).unwrap();
            }
            writer.finish().unwrap();
            peer.store.commit(&key(1).producer).unwrap();
            for transport in [Transport::Shared, Transport::Tcp] {
                let fetcher = fetcher(transport);
                let mut found = Vec::new();
                for partition in 0..partitions {
                    let block = BlockKey { partition, ..key(1) };
                    let blocks = fetcher.fetch(peer.holder(), block, line_item_schema());
                    found.extend(blocks.try_collect::<Vec<_>>().await.unwrap());
                }
                assert_eq!(sorted_rows(&found), sorted_rows(&batches), "{transport:?}");
            }
            peer.store.free_job(JobId(1));
            until("all has come back", || peer.budget.used() == 0).await;
        });
    }
}

/// Where a server is reached by its neighbours, as its greeting tells.
fn offer(server: std::net::SocketAddr) -> [u8; 40] {
    let mut stream = std::net::TcpStream::connect(server).unwrap();
    stream.write_all(b"FSS1\x04\0\x02\0").unwrap();
    let mut greeting = [0; 48];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting[..8], b"FSS1\x04\0\x02\0");
    *greeting[8..].first_chunk().unwrap()
}

fn socket_address(name: &[u8]) -> SocketAddr {
    let digits: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    SocketAddr::from_abstract_name(format!("firesteel-blocks-{digits}")).unwrap()
}

/// A request for the first job's block.
fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [1_u32, 8] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [3_u64, 1] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [2_u32, 14, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(99_u64.to_le_bytes());
    bytes.extend(b"host3/e0");
    bytes
}

fn release(leases: &[u64], count: u32) -> Vec<u8> {
    let head = [2_u32.to_le_bytes(), count.to_le_bytes()].concat();
    let numbers: Vec<u8> = leases.iter().flat_map(|lease| lease.to_le_bytes()).collect();
    [head, numbers].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_break_their_word_are_dropped_and_their_memory_is_not_used_again() {
    let timeouts = ServeConfig { request_timeout: SHORT, idle_timeout: SHORT, ..config() };
    let peer = Peer::with(MEMORY, timeouts);
    const HELLO: &[u8] = b"FSS1\x04\0\0\0";
    let messages: [Vec<u8>; 8] = [
        vec![],                                                             // never greets
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),                                 // another protocol
        HELLO.to_vec(),                                                     // never asks
        [HELLO, &[0xff; 64]].concat(),                                      // asks for what there is not
        [HELLO, &release(&[7], 1)].concat(),                                // gives up what it does not have
        [HELLO, &release(&[], u32::MAX)].concat(),                          // announces 32 GiB of leases
        [HELLO, &release(&[1, 2], 3)].concat(),                             // stops within a message
        [HELLO, &request(), &release(&[0], 1), &release(&[0], 1)].concat(), // gives up twice
    ];
    for message in messages {
        peer.write(1, 4);
        let address = socket_address(&offer(peer.server.local_addr())[24..]);
        tokio::task::spawn_blocking(move || {
            let mut client = UnixStream::connect_addr(&address).unwrap();
            client.set_read_timeout(Some(LONG)).unwrap();
            client.write_all(&message).unwrap();
            // A reset is as good as an end.
            let ended = client.read_to_end(&mut Vec::new());
            assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it was kept");
        })
        .await
        .unwrap();
        until("it was dropped", || peer.server.connections() == 0).await;
        assert_eq!(peer.server.leases(), 0);
        peer.store.free_job(JobId(1));
        assert_eq!(peer.budget.used(), 0);
    }
    assert_eq!(peer.store.segments().used, 0);
    let written = peer.write(1, 1);
    let found = fetch(&fetcher(Transport::Shared), peer.holder(), 1).await.unwrap();
    assert_eq!(sorted_rows(&found), sorted_rows(&written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_dies_leaves_memory_that_is_not_used_again() {
    let peer = Peer::start();
    peer.write(1, 4);
    let address = socket_address(&offer(peer.server.local_addr())[24..]);
    let mut client = UnixStream::connect_addr(&address).unwrap();
    client.write_all(&[b"FSS1\x04\0\0\0", request().as_slice()].concat()).unwrap();
    let mut reply = [0; 8 + 32 + 40];
    client.read_exact(&mut reply).unwrap();
    until("it looks at the block", || peer.server.leases() > 1).await;
    peer.store.free_job(JobId(1));
    assert!(peer.budget.used() > 0 && peer.store.segments().used == 1);
    drop(client);
    until("its leases end with it", || peer.server.leases() == 0).await;
    assert_eq!((peer.budget.used(), peer.store.segments()), (0, SegmentUsage::default()));
}

/// Memory of so many bytes, with these seals.
fn memory(bytes: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("test", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, bytes).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

/// A place: status, kind, flags, bytes, id, offset.
fn place(status: u32, kind: u16, flags: u16, numbers: [u64; 3]) -> Vec<u8> {
    let mut bytes = status.to_le_bytes().to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    numbers.into_iter().chain([0]).for_each(|number| bytes.extend(number.to_le_bytes()));
    bytes
}

/// What a neighbour answers that does not keep its word: a place, and descriptors with it.
struct Lie {
    what: &'static str,
    place: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

fn lies() -> Vec<Lie> {
    const SEGMENT: u16 = 1;
    const FILE: u16 = 2;
    let lie = |what, place, descriptors| Lie { what, place, descriptors };
    let sealed = || memory(1 << 20, SealFlags::SHRINK);
    let file = || tempfile::tempfile().unwrap().into();
    let socket = || UnixStream::pair().unwrap().0.into();
    vec![
        lie("no descriptor", place(0, SEGMENT, 1, [4096, 0, 0]), vec![]),
        lie("not passed before", place(0, SEGMENT, 0, [4096, 0, 0]), vec![]),
        lie("may shrink", place(0, SEGMENT, 1, [4096, 0, 0]), vec![memory(1 << 20, SealFlags::GROW)]),
        lie("no seals", place(0, SEGMENT, 1, [4096, 0, 0]), vec![file()]),
        lie("a socket", place(0, SEGMENT, 1, [4096, 0, 0]), vec![socket()]),
        lie("too large", place(0, SEGMENT, 1, [4096, 0, 0]), vec![memory(1 << 40, SealFlags::SHRINK)]),
        lie("past the end", place(0, SEGMENT, 1, [4096, 0, 1 << 20]), vec![sealed()]),
        lie("around the end", place(0, SEGMENT, 1, [4096, 0, u64::MAX - 63]), vec![sealed()]),
        lie("not aligned", place(0, SEGMENT, 1, [4096, 0, 8]), vec![sealed()]),
        lie("a frame too large", place(0, SEGMENT, 1, [1 << 40, 0, 0]), vec![sealed()]),
        lie("a kind that is none", place(0, 9, 0, [4096, 0, 0]), vec![]),
        lie("a status that is none", place(77, SEGMENT, 0, [4096, 0, 0]), vec![]),
        lie("a file too short", place(0, FILE, 1, [4096, 0, 0]), vec![file()]),
        lie("a socket for a file", place(0, FILE, 1, [4096, 0, 0]), vec![socket()]),
        lie("too many descriptors", place(0, SEGMENT, 1, [4096, 0, 0]), (0..40).map(|_| sealed()).collect()),
    ]
}

/// A neighbour that greets as the peer does, but answers every request over its Unix socket with that lie.
fn liar(to: std::net::SocketAddr, lie: Lie) -> std::net::SocketAddr {
    let name: [u8; 16] = *uuid().first_chunk().unwrap();
    let host = offer(to)[..24].to_vec();
    assert_eq!(host[16..], std::fs::metadata("/proc/self/ns/net").unwrap().ino().to_le_bytes());
    let sockets = UnixListener::bind_addr(&socket_address(&name)).unwrap();
    std::thread::spawn(move || {
        for client in sockets.incoming() {
            let mut client = client.unwrap();
            let mut bytes = [0; 8 + 56 + 8];
            client.read_exact(&mut bytes[..8]).unwrap();
            client.write_all(b"FSS1\x04\0\0\0").unwrap();
            client.read_exact(&mut bytes[8..]).unwrap();
            let mut reply = [0; 32];
            reply[..8].copy_from_slice(&bytes[56..64]);
            reply[12] = 1;
            send(&client, &[&reply[..], &lie.place].concat(), &lie.descriptors);
            // The client ends the connection, whatever is still in it.
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    relay(to, [b"FSS1\x04\0\x02\0", host.as_slice(), &name].concat())
}

fn send(client: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let sent = sendmsg(client, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
    assert_eq!(sent, bytes.len());
}

/// Passes all on to a peer over TCP, but a client that asks for an offer gets that greeting.
fn relay(to: std::net::SocketAddr, greeting: Vec<u8>) -> std::net::SocketAddr {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, greeting) = (client.unwrap(), greeting.clone());
            std::thread::spawn(move || {
                let mut hello = [0; 8];
                client.read_exact(&mut hello).unwrap();
                if hello[6] & 2 != 0 {
                    client.write_all(&greeting).unwrap();
                    return;
                }
                let mut server = std::net::TcpStream::connect(to).unwrap();
                server.write_all(&hello).unwrap();
                let (mut from, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let copying = std::thread::spawn(move || std::io::copy(&mut from, &mut back));
                let _ended_somehow = (std::io::copy(&mut server, &mut client), drop(copying));
            });
        }
    });
    address
}

fn uuid() -> Vec<u8> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let digits = text.trim().replace('-', "");
    (0..16).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_break_their_word_are_asked_over_tcp_or_given_up() {
    let peer = Peer::start();
    let written = sorted_rows(&peer.write(1, 2));
    for (lie, again) in lies().into_iter().zip(lies()) {
        let what = lie.what;
        let auto = fetcher(Transport::Auto);
        let holder_of = |lie: Lie| holder(liar(peer.server.local_addr(), lie));
        let found = fetch(&auto, holder_of(lie), 1).await.unwrap_or_else(|fault| panic!("{what}: {fault}"));
        assert_eq!(sorted_rows(&found), written, "{what}");
        let counters = auto.counters();
        assert_eq!((counters.shared_bytes(), counters.retries()), (0, 1), "{what}");
        let fault = fetch(&fetcher(Transport::Shared), holder_of(again), 1).await.unwrap_err();
        let is_told = matches!(
            fault.cause,
            FetchCause::NotShared(_) | FetchCause::Protocol(_) | FetchCause::Unreachable { .. }
        );
        assert!(is_told && fault.class() == Class::Fetch, "{what}: {fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_in_shared_memory_that_are_no_frame_are_corrupt() {
    let peer = Peer::start();
    peer.write(1, 2);
    let nothing = Lie {
        what: "zeros",
        place: place(0, 1, 1, [4096, 0, 64]),
        descriptors: vec![memory(1 << 20, SealFlags::SHRINK)],
    };
    let holder = holder(liar(peer.server.local_addr(), nothing));
    let fault = fetch(&fetcher(Transport::Auto), holder, 1).await.unwrap_err();
    assert!(matches!(fault.cause, FetchCause::Corrupt(_)) && fault.class() == Class::Fetch, "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_of_another_host_or_of_nobody_is_not_taken_up() {
    let peer = Peer::start();
    let written = sorted_rows(&peer.write(1, 2));
    let real = offer(peer.server.local_addr());
    let elsewhere = [&[9; 24][..], &real[24..]].concat();
    let nobody = [&real[..24], &uuid()].concat();
    for offered in [elsewhere, nobody] {
        let at = holder(relay(peer.server.local_addr(), [b"FSS1\x04\0\x02\0", offered.as_slice()].concat()));
        let auto = fetcher(Transport::Auto);
        let first = fetch(&auto, at.clone(), 1).await;
        // The relay ends the connection that was greeted; over another one all comes.
        assert_eq!(sorted_rows(&first.unwrap()), written);
        assert_eq!((auto.counters().shared_bytes(), peer.server.placed_bytes()), (0, 0));
        let fault = fetch(&fetcher(Transport::Shared), at, 1).await.unwrap_err();
        assert!(matches!(fault.cause, FetchCause::NotShared(_)), "{fault}");
    }
}
