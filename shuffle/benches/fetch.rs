//! What a shuffle costs by the way that its blocks take: one producer writes, one consumer fetches all partitions, by pointer
//! inside an executor, in shared memory and over TCP on this host. And what it costs to write where others of this host can
//! read: into segments that are used again, and into new ones. Throughput is in bytes of frames.

mod data;

use std::net::TcpListener;
use std::sync::Arc;

use arrow_array::RecordBatch;
use data::{digest_rows, line_item_schema, line_items, store, write};
use firesteel_base::{AttemptKey, Epoch, ExecutorId, JobId, MemoryBudget, StageId};
use firesteel_micro::{Bench, Digest, Throughput, run};
use firesteel_shuffle::{
    BlockKey, BlockServer, BlockStat, BlockStore, FetchConfig, Fetcher, Holder, ServeConfig, Transport,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::runtime::{Builder, Runtime};

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
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Pointer => "pointer",
            Self::Shared => "shared",
            Self::Tcp => "tcp",
        }
    }

    /// What the producer's server offers. An executor that is alone has its frames in memory of its own.
    fn offered(self) -> Transport {
        if self == Self::Pointer { Transport::Tcp } else { Transport::Shared }
    }

    fn taken(self) -> Transport {
        if self == Self::Tcp { Transport::Tcp } else { Transport::Shared }
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
        let (store, budget) = store();
        let id: ExecutorId = "bench/e0".parse().expect("an executor's name");
        let serving = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let identity = Some((id.clone(), EPOCH));
        let config = ServeConfig { identity, transport, ..ServeConfig::default() };
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
        Holder { executor: self.id.clone(), epoch: EPOCH, address }
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
        let local = (way == Way::Pointer).then(|| (producer.id.clone(), EPOCH, Arc::clone(&producer.store)));
        let budget = Some(producer.budget.clone());
        let config = FetchConfig { local, budget, transport: way.taken(), ..FetchConfig::default() };
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { fetcher: Fetcher::new(config), runtime, holder: producer.holder() }
    }

    fn fetch(&self, attempt: AttemptKey) -> Vec<RecordBatch> {
        let block = |partition| {
            let key = BlockKey { producer: attempt, lane: 0, partition };
            self.fetcher.fetch(self.holder.clone(), key, line_item_schema())
        };
        let batches = stream::iter(0..PARTITIONS).map(block).flatten_unordered(FETCHES_MAX);
        self.runtime.block_on(batches.try_collect()).expect("the blocks are there")
    }

    /// All went the way that is measured.
    fn check(&self, way: Way) {
        let counters = self.fetcher.counters();
        let (local, shared, tcp) =
            (counters.local_bytes() > 0, counters.shared_bytes() > 0, counters.tcp_bytes() > 0);
        let expected = (way == Way::Pointer, way == Way::Shared, way == Way::Tcp);
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
    for way in [Way::Pointer, Way::Shared, Way::Tcp] {
        let producer = Producer::start(bench, way.offered());
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
    run(include_str!("fetch.hashes"), &[shuffle, write_only]);
}
