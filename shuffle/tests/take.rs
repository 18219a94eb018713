//! Map outputs that are taken over by another store, and readers that follow them.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use common::{attempt, line_item_schema, line_items, store};
use firesteel_base::{AttemptKey, Epoch, ExecutorId, JobId, MemoryBudget};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, FetchCause, FetchConfig, FetchError, Fetcher, Holder,
    LaneSizes, MapOutput, ServeConfig, TakeError, Transport, take_over,
};
use futures::{StreamExt, TryStreamExt};

const PARTITIONS: u32 = 3;
const LANES: u32 = 2;

/// An executor: a store and its server.
struct Peer {
    store: Arc<BlockStore>,
    budget: MemoryBudget,
    server: BlockServer,
    holder: Holder,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start(name: &str, memory_max: u64, transport: Transport) -> Self {
        let (store, budget, folder) = store(1 << 30, memory_max);
        let (executor, epoch): (ExecutorId, _) = (name.parse().unwrap(), Epoch(3));
        let identity = Some((executor.clone(), epoch));
        let config = ServeConfig { identity, transport, ..ServeConfig::default() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = BlockServer::start(listener, Arc::clone(&store), config).unwrap();
        let address = server.local_addr().to_string();
        let holder = Holder { executor, epoch, address, keeper: String::new() };
        Self { store, budget, server, holder, _folder: folder }
    }

    /// Has two lanes write one of their three partitions each, in several frames, and commits that.
    fn write(&self, producer: AttemptKey) -> MapOutput {
        let lane = |lane: u32| {
            let mut writer = self.store.writer(producer, lane, line_item_schema(), PARTITIONS);
            for batch in rows_of(lane) {
                writer.write(&batch, &Assignment::Whole(lane)).unwrap();
            }
            LaneSizes::of(&writer.finish().unwrap())
        };
        let lanes = (0..LANES).map(lane).collect();
        self.store.commit(&producer).unwrap();
        MapOutput { producer, holder: self.holder.clone(), lanes }
    }

    fn fetcher(&self, transport: Transport) -> Arc<Fetcher> {
        let fetcher = fetcher(transport);
        fetcher.set_local(self.holder.executor.clone(), self.holder.epoch, Arc::clone(&self.store));
        fetcher
    }
}

fn fetcher(transport: Transport) -> Arc<Fetcher> {
    let io_timeout = Duration::from_secs(5);
    Fetcher::new(FetchConfig { transport, io_timeout, ..FetchConfig::default() })
}

fn rows_of(lane: u32) -> Vec<RecordBatch> {
    (1..=4).map(|seed| line_items(seed + 10 * u64::from(lane), 20_000)).collect()
}

async fn read(
    fetcher: &Arc<Fetcher>,
    holder: &Holder,
    key: BlockKey,
) -> Result<Vec<RecordBatch>, FetchError> {
    fetcher.fetch(holder.clone(), key, line_item_schema()).try_collect().await
}

fn rows(batches: &[RecordBatch]) -> RecordBatch {
    arrow_select::concat::concat_batches(&line_item_schema(), batches).unwrap()
}

async fn holds_all(peer: &Peer, producer: AttemptKey) {
    let fetcher = fetcher(Transport::Tcp);
    for lane in 0..LANES {
        for partition in 0..PARTITIONS {
            let found = read(&fetcher, &peer.holder, BlockKey { producer, lane, partition }).await.unwrap();
            let expected = if lane == partition { rows_of(lane) } else { Vec::new() };
            assert_eq!(rows(&found), rows(&expected), "lane {lane}, partition {partition}");
        }
    }
}

async fn is_taken_over(memory_max: u64, transport: Transport) {
    let (old, new) = (Peer::start("a/e0", memory_max, transport), Peer::start("b/e0", memory_max, transport));
    let producer = attempt(7, 14);
    let output = old.write(producer);
    take_over(&new.fetcher(transport), &new.store, &output).await.unwrap();
    let key = BlockKey { producer, lane: 0, partition: 0 };
    let early = read(&fetcher(Transport::Tcp), &new.holder, key).await.unwrap_err();
    assert_eq!(early.cause, FetchCause::NotCommitted);
    new.store.commit(&producer).unwrap();
    holds_all(&new, producer).await;
    holds_all(&old, producer).await;
    assert_eq!(new.store.usage().blocks, old.store.usage().blocks);
    // Once more changes nothing.
    take_over(&new.fetcher(transport), &new.store, &output).await.unwrap();
    old.server.shutdown().await;
    holds_all(&new, producer).await;
    new.store.free_job(JobId(7));
    assert_eq!((new.store.usage().blocks, new.store.usage().memory_bytes), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_in_memory_is_taken_over_by_tcp() {
    is_taken_over(1 << 30, Transport::Tcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_in_shared_memory_is_taken_over() {
    is_taken_over(1 << 30, Transport::Auto).await;
}

/// Neither of the two has memory for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_output_in_files_is_taken_over_into_files() {
    is_taken_over(1 << 20, Transport::Tcp).await;
    is_taken_over(1 << 20, Transport::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_output_that_is_not_there_nothing_is_left() {
    let (old, new) =
        (Peer::start("a/e0", 1 << 30, Transport::Tcp), Peer::start("b/e0", 1 << 30, Transport::Tcp));
    let mut output = old.write(attempt(7, 14));
    output.producer = attempt(7, 15);
    let error = take_over(&new.fetcher(Transport::Tcp), &new.store, &output).await.unwrap_err();
    assert!(matches!(&error, TakeError::Fetch(fault) if fault.cause == FetchCause::Missing), "{error}");
    assert_eq!(error.class(), firesteel_base::Class::Fetch);
    new.store.discard(&output.producer);
    assert!(new.store.attempts().is_empty());
    assert_eq!(new.budget.used(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_cut_off_is_taken_over_from_its_beginning() {
    let (old, new) =
        (Peer::start("a/e0", 1 << 30, Transport::Tcp), Peer::start("b/e0", 1 << 30, Transport::Tcp));
    let output = old.write(attempt(7, 14));
    let fetcher = new.fetcher(Transport::Tcp);
    for after in [0, 1, 2, 5] {
        let taking = take_over(&fetcher, &new.store, &output);
        // Dropped in the middle, or done before.
        let _ = tokio::time::timeout(Duration::from_millis(after), taking).await;
    }
    take_over(&fetcher, &new.store, &output).await.unwrap();
    new.store.commit(&output.producer).unwrap();
    holds_all(&new, output.producer).await;
    new.store.discard(&output.producer);
    assert_eq!(new.store.usage().memory_bytes, 0);
}

/// The holder goes away in the middle of a block; the rest comes from where it has moved to.
async fn is_followed(reader: Arc<Fetcher>, transport: Transport) {
    let (old, new) = (Peer::start("a/e0", 1 << 30, transport), Peer::start("b/e0", 1 << 30, transport));
    let output = old.write(attempt(7, 14));
    take_over(&new.fetcher(transport), &new.store, &output).await.unwrap();
    new.store.commit(&output.producer).unwrap();
    let key = BlockKey { producer: output.producer, lane: 1, partition: 1 };
    let mut batches = reader.fetch(old.holder.clone(), key, line_item_schema());
    let mut found = vec![batches.next().await.unwrap().unwrap()];
    old.server.shutdown().await;
    old.store.free_job(JobId(7));
    reader.note_moved(output.producer, new.holder.clone());
    while let Some(batch) = batches.next().await {
        found.push(batch.unwrap());
    }
    assert_eq!(rows(&found), rows(&rows_of(1)));
    // One that begins now does not even look where it was.
    assert_eq!(rows(&read(&reader, &old.holder, key).await.unwrap()), rows(&rows_of(1)));
    reader.forget_job(JobId(7));
    assert!(read(&reader, &old.holder, key).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_an_output_over_tcp() {
    is_followed(fetcher(Transport::Tcp), Transport::Tcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_an_output_through_shared_memory() {
    is_followed(fetcher(Transport::Auto), Transport::Auto).await;
}

/// Who takes an output over reads it by pointer from then on.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_taken_an_output_over_reads_its_own() {
    let (old, new) =
        (Peer::start("a/e0", 1 << 30, Transport::Tcp), Peer::start("b/e0", 1 << 30, Transport::Tcp));
    let output = old.write(attempt(7, 14));
    let fetcher = new.fetcher(Transport::Tcp);
    take_over(&fetcher, &new.store, &output).await.unwrap();
    new.store.commit(&output.producer).unwrap();
    fetcher.note_moved(output.producer, new.holder.clone());
    old.server.shutdown().await;
    let before = fetcher.counters().local_bytes();
    let key = BlockKey { producer: output.producer, lane: 0, partition: 0 };
    assert_eq!(rows(&read(&fetcher, &old.holder, key).await.unwrap()), rows(&rows_of(0)));
    assert!(fetcher.counters().local_bytes() > before);
}
