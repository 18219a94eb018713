//! What a shuffle costs by the way that its blocks take: one producer writes, one consumer fetches all partitions, by pointer
//! inside an executor, in shared memory and over TCP on this host. And what it costs to write where others of this host can
//! read: into segments that are used again, and into new ones. Throughput is in bytes of frames.
//!
//! `over_tcp` has what one connection carries, by fetches at one time, threads that fetch and threads that receive, beside as
//! many bytes from one thread's memory through a socket into another's (`plain`): what this host's TCP can do. `over_tcp_per_core` is the
//! same by processor time of all threads, at both ends: bytes per second of one core, whoever else uses the cores. `over_tls_per_core` is
//! that under TLS, beside as many bytes through streams of tokio-rustls (`tokio_rustls`).

#[path = "../tests/certs/mod.rs"]
#[allow(dead_code, clippy::unwrap_used)] // it is of the tests, which use all of it
mod certs;
mod clock;
mod data;
mod plain;

use std::net::TcpListener;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use clock::measure;
use data::{digest_rows, line_item_schema, line_items, store, write};
use firesteel_base::{AttemptKey, Epoch, ExecutorId, JobId, MemoryBudget, StageId};
use firesteel_micro::{Bench, Digest, Throughput, run};
use firesteel_shuffle::{
    BlockKey, BlockServer, BlockStat, BlockStore, FetchConfig, Fetcher, Holder, ServeConfig, Transport,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use plain::tls::PlainTls;
use plain::{MEMORY_BYTES, Plain};
use tokio::runtime::{Builder, Runtime};

/// The allocator of the command: frames are memory that it has just given.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EPOCH: Epoch = Epoch(1);
const PARTITIONS: u32 = 16;
/// Blocks that the consumer fetches at the same time, as an operator does.
const FETCHES_MAX: usize = 4;

/// The way that blocks take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Pointer,
    Shared,
    Tcp,
    /// TCP, under TLS.
    Tls,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Pointer => "pointer",
            Self::Shared => "shared",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// What the producer's server offers. An executor that is alone has its frames in memory of its own.
    fn offered(self) -> Transport {
        if matches!(self, Self::Pointer | Self::Tls) { Transport::Tcp } else { Transport::Shared }
    }

    fn taken(self) -> Transport {
        if matches!(self, Self::Tcp | Self::Tls) { Transport::Tcp } else { Transport::Shared }
    }
}

/// An executor that holds blocks and serves them on a thread of its own.
struct Producer {
    id: ExecutorId,
    store: Arc<BlockStore>,
    budget: MemoryBudget,
    server: BlockServer,
    batches: Vec<RecordBatch>,
    _serving: Runtime,
}

impl Producer {
    fn start(bench: &Bench, transport: Transport) -> Self {
        Self::with(bench, ServeConfig { transport, ..ServeConfig::default() })
    }

    fn start_for(bench: &Bench, way: Way) -> Self {
        let tls = (way == Way::Tls).then(certs::server);
        Self::with(bench, ServeConfig { transport: way.offered(), tls, ..ServeConfig::default() })
    }

    fn with(bench: &Bench, config: ServeConfig) -> Self {
        let (store, budget) = store();
        let id: ExecutorId = "bench/e0".parse().expect("an executor's name");
        let serving = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let identity = Some((id.clone(), EPOCH));
        let config = ServeConfig { identity, ..config };
        let entered = serving.enter();
        let server = BlockServer::start(listener, Arc::clone(&store), config).expect("a server");
        drop(entered);
        let rows = bench.size(8192, 100);
        let batches = (1..=bench.size(32, 3)).map(|seed| line_items(seed, rows)).collect();
        Self { id, store, budget, server, batches, _serving: serving }
    }

    /// Writes and commits all batches; rows and bytes of their frames.
    fn write(&self, attempt: AttemptKey) -> BlockStat {
        let writer = self.store.writer(attempt, 0, line_item_schema(), PARTITIONS);
        let output = write(writer, &self.batches, PARTITIONS);
        self.store.commit(&attempt).expect("it is finished");
        output.total()
    }

    fn holder(&self) -> Holder {
        let address = self.server.local_addr().to_string();
        Holder { executor: self.id.clone(), epoch: EPOCH, address, keeper: String::new() }
    }
}

/// Fetches on the thread that measures.
struct Consumer {
    fetcher: Arc<Fetcher>,
    runtime: Runtime,
    holder: Holder,
}

impl Consumer {
    fn new(producer: &Producer, way: Way) -> Self {
        Self::with(producer, way, 1)
    }

    fn with(producer: &Producer, way: Way, receivers: usize) -> Self {
        let local = (way == Way::Pointer).then(|| (producer.id.clone(), EPOCH, Arc::clone(&producer.store)));
        let budget = Some(producer.budget.clone());
        let (transport, tls) = (way.taken(), (way == Way::Tls).then(certs::client));
        let config = FetchConfig { local, budget, transport, receivers, tls, ..FetchConfig::default() };
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { fetcher: Fetcher::new(config), runtime, holder: producer.holder() }
    }

    fn fetch(&self, attempt: AttemptKey) -> Vec<RecordBatch> {
        self.fetch_some(attempt, 0..PARTITIONS, FETCHES_MAX)
    }

    fn fetch_some(&self, attempt: AttemptKey, partitions: Range<u32>, at_a_time: usize) -> Vec<RecordBatch> {
        let block = |partition| {
            let key = BlockKey { producer: attempt, lane: 0, partition };
            self.fetcher.fetch(self.holder.clone(), key, line_item_schema())
        };
        let batches = stream::iter(partitions).map(block).flatten_unordered(at_a_time);
        self.runtime.block_on(batches.try_collect()).expect("the blocks are there")
    }

    /// All went the way that is measured.
    fn check(&self, way: Way) {
        let counters = self.fetcher.counters();
        let (local, shared, tcp) =
            (counters.local_bytes() > 0, counters.shared_bytes() > 0, counters.tcp_bytes() > 0);
        let expected = (way == Way::Pointer, way == Way::Shared, matches!(way, Way::Tcp | Way::Tls));
        assert_eq!((local, shared, tcp), expected, "{way:?}");
    }
}

fn attempt(task: u32) -> AttemptKey {
    AttemptKey::new(JobId(1), StageId(0), task, 0)
}

fn hash(batches: &Vec<RecordBatch>, digest: &mut Digest) {
    digest_rows(batches, digest);
}

fn shuffle(bench: &mut Bench) {
    for way in [Way::Pointer, Way::Shared, Way::Tcp, Way::Tls] {
        let producer = Producer::start_for(bench, way);
        let bytes = producer.write(attempt(0)).bytes;
        let consumer = Consumer::new(&producer, way);
        let mut group = bench.group("fetch", Throughput::Bytes(bytes));
        group.samples(20);
        group.bench(
            way.name(),
            || consumer.fetch(attempt(0)),
            |batches, digest| {
                consumer.check(way);
                hash(batches, digest);
            },
        );
        drop(group);

        let mut group = bench.group("write_and_fetch", Throughput::Bytes(bytes));
        group.samples(20);
        let whole = || {
            producer.write(attempt(1));
            let batches = consumer.fetch(attempt(1));
            producer.store.discard(&attempt(1));
            batches
        };
        group.bench(way.name(), whole, hash);
    }
}

fn over_tls(bench: &mut Bench) {
    let producer = Producer::start_for(bench, Way::Tls);
    let bytes = producer.write(attempt(0)).bytes;
    let mut memory = vec![0; MEMORY_BYTES];
    let mut group = bench.group("over_tls_per_core", Throughput::Bytes(bytes));
    group.samples(20);
    let mut plain = PlainTls::start(bytes);
    let number = |bytes: &u64, digest: &mut Digest| digest.number(*bytes);
    measure(&mut group, "tokio_rustls", || plain.receive(&mut memory), number);
    by_one_connection(&producer, Way::Tls, |name, work| measure(&mut group, name, work, hash));
}

fn over_tcp(bench: &mut Bench) {
    let producer = Producer::start(bench, Transport::Tcp);
    let bytes = producer.write(attempt(0)).bytes;
    let (mut plain, mut memory) = (Plain::start(bytes), vec![0; MEMORY_BYTES]);
    let mut receive = || plain.receive(&mut memory);
    let number = |bytes: &u64, digest: &mut Digest| digest.number(*bytes);

    let mut group = bench.group("over_tcp", Throughput::Bytes(bytes));
    group.samples(20);
    group.bench("plain", &mut receive, number);
    by_one_connection(&producer, Way::Tcp, |name, work| group.bench(name, work, hash));
    drop(group);

    let mut group = bench.group("over_tcp_per_core", Throughput::Bytes(bytes));
    group.samples(20);
    measure(&mut group, "plain", receive, number);
    by_one_connection(&producer, Way::Tcp, |name, work| measure(&mut group, name, work, hash));
}

/// What one connection carries, by how it is used; each as it is measured.
fn by_one_connection(
    producer: &Producer,
    way: Way,
    mut measured: impl FnMut(&str, &mut dyn FnMut() -> Vec<RecordBatch>),
) {
    for (name, at_a_time, receivers) in
        [("fetches_1", 1, 1), ("fetches_4", 4, 1), ("fetches_16", 16, 1), ("fetches_16_receivers_2", 16, 2)]
    {
        let consumer = Consumer::with(producer, way, receivers);
        measured(name, &mut || consumer.fetch_some(attempt(0), 0..PARTITIONS, at_a_time));
    }
    // Two core threads that share the connection.
    let runtimes = [0, 1].map(|_| Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let shared = Consumer::new(producer, way);
    let cores = runtimes.map(|runtime| Consumer {
        fetcher: Arc::clone(&shared.fetcher),
        runtime,
        holder: producer.holder(),
    });
    measured("threads_2", &mut || fetch_by_two(&cores));
}

/// Fetches all by two threads, half of the partitions each.
fn fetch_by_two(cores: &[Consumer; 2]) -> Vec<RecordBatch> {
    std::thread::scope(|scope| {
        let half = PARTITIONS / 2;
        let parts = [0..half, half..PARTITIONS];
        let threads: Vec<_> = cores
            .iter()
            .zip(parts)
            .map(|(core, part)| scope.spawn(|| core.fetch_some(attempt(0), part, FETCHES_MAX)))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it fetches")).collect()
    })
}

/// Writing, and freeing what was written: in memory of the own process, in segments that lie ready, in new ones.
fn write_only(bench: &mut Bench) {
    let places = [
        ("own", Transport::Tcp, false),
        ("segments", Transport::Shared, false),
        ("new_segments", Transport::Shared, true),
    ];
    for (name, transport, is_new) in places {
        let producer = Producer::start(bench, transport);
        let bytes = producer.write(attempt(0)).bytes;
        let mut group = bench.group("write", Throughput::Bytes(bytes));
        group.samples(20);
        let write = || {
            producer.store.discard(&attempt(0));
            if is_new {
                producer.store.make_room(0).expect("nothing is written to files");
            }
            producer.write(attempt(0))
        };
        group.bench(name, write, |written, digest| digest.number(written.rows));
    }
}

fn main() {
    run(include_str!("fetch.hashes"), &[shuffle, over_tcp, over_tls, write_only]);
}
