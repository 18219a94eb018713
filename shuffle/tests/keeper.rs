//! Blocks of a process that is killed, served by another.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use common::process::{Other, role, say, wait_to_be_killed};
use common::{attempt, line_item_schema, line_items, sorted_rows};
use firesteel_base::{ByteSize, Epoch, ExecutorId, JobId, MemoryBudget};
use firesteel_shuffle::keep::{Keeper, KeeperConfig, KeeperUsage, Reporter};
use firesteel_shuffle::store::StoreConfig;
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, Compression, FetchCause, FetchConfig, FetchError, Fetcher,
    FileConfig, Holder, ServeConfig, Transport,
};
use futures::TryStreamExt;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);
const EPOCH: Epoch = Epoch(3);

/// How an executor keeps frames: so many bytes in memory, the others in files, packed or not.
type Kept = (u64, Compression);

const IN_MEMORY: Kept = (1 << 30, Compression::Auto);

/// An executor that has written its blocks.
struct Executor {
    process: Other,
    address: String,
}

impl Executor {
    /// The argument of its role: the keeper's name, its memory for frames, how files are packed, and its scratch folder.
    fn start(test: &str, keeper: &Keeper, (memory_max, files): Kept, scratch: &Path) -> Self {
        let role = format!("{} {memory_max} {files} {}", keeper.name(), scratch.display());
        let mut process = Other::start(test, &role);
        let address = process.hear("serves at");
        Self { process, address }
    }

    fn holder(&self, keeper: &Keeper) -> Holder {
        let keeper = keeper.local_addr().to_string();
        Holder { executor: executor(), epoch: EPOCH, address: self.address.clone(), keeper }
    }
}

fn executor() -> ExecutorId {
    "host3/e0".parse().unwrap()
}

fn key(job: u64, partition: u32) -> BlockKey {
    BlockKey { producer: attempt(job, 14), lane: 0, partition }
}

fn batches(job: u64) -> Vec<RecordBatch> {
    (1..=4).map(|seed| line_items(10 * job + seed, 20_000)).collect()
}

/// Jobs 1 and 2, all rows in partition 1 of 3; job 3 is written and not committed, job 4 freed.
fn write(store: &Arc<BlockStore>) {
    for job in 1..=4 {
        let mut writer = store.writer(key(job, 0).producer, 0, line_item_schema(), 3);
        batches(job).iter().for_each(|batch| writer.write(batch, &Assignment::Whole(1)).unwrap());
        writer.finish().unwrap();
        if job != 3 {
            store.commit(&key(job, 0).producer).unwrap();
        }
    }
    store.free_job(JobId(4));
}

/// Plays the executor, when this process was started as one; true then.
async fn is_executor(transport: Transport) -> bool {
    let Some(role) = role() else { return false };
    let [keeper, memory_max, files, scratch] = role.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{role}")
    };
    let config = StoreConfig {
        budget: MemoryBudget::new(ByteSize(1 << 30)),
        memory_max: memory_max.parse().unwrap(),
        scratch: vec![scratch.into()],
    };
    let files = FileConfig { compression: files.parse().unwrap(), ..FileConfig::default() };
    let store = BlockStore::with_files(config, files).unwrap();
    store.report_to(Reporter::connect(keeper).unwrap());
    let identity = Some((executor(), EPOCH));
    let config = ServeConfig { identity, transport, ..ServeConfig::default() };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = BlockServer::start(listener, Arc::clone(&store), config).unwrap();
    store.begin_life(&executor(), EPOCH);
    write(&store);
    say(&format!("serves at {}", server.local_addr()));
    tokio::task::spawn_blocking(wait_to_be_killed).await.unwrap();
    true
}

fn keeper() -> Keeper {
    Keeper::start(TcpListener::bind("127.0.0.1:0").unwrap(), KeeperConfig::default()).unwrap()
}

fn fetcher(transport: Transport) -> Arc<Fetcher> {
    Fetcher::new(FetchConfig { transport, keeper_wait: Duration::from_secs(2), ..FetchConfig::default() })
}

async fn fetch(
    fetcher: &Arc<Fetcher>,
    holder: Holder,
    key: BlockKey,
) -> Result<Vec<RecordBatch>, FetchError> {
    let work = fetcher.fetch(holder, key, line_item_schema()).try_collect();
    timeout(LONG, work).await.expect("a fetch ends within its deadlines")
}

async fn check(test: &str, kept: Kept, transports: &[Transport]) {
    let memory_max = kept.0;
    let scratch = tempfile::tempdir().unwrap();
    let keeper = Arc::new(keeper());
    let (starts, folder, name) = (Arc::clone(&keeper), scratch.path().to_owned(), test.to_owned());
    let start = move || Executor::start(&name, &starts, kept, &folder);
    let mut executor = tokio::task::spawn_blocking(start).await.unwrap();
    let holder = executor.holder(&keeper);
    for &transport in transports {
        let found = fetch(&fetcher(transport), holder.clone(), key(1, 1)).await.unwrap();
        assert_eq!(sorted_rows(&found), sorted_rows(&batches(1)), "while it lives");
    }
    assert_eq!(keeper.usage(), KeeperUsage::default(), "who lives serves its blocks itself");
    executor.process.kill();
    timeout(LONG, keeper.taken_over(&self::executor())).await.unwrap();
    // What its worker does next: the names of its files go.
    std::fs::remove_dir_all(scratch.path()).unwrap();
    let usage = keeper.usage();
    assert_eq!((usage.lives, usage.blocks), (1, 2), "{usage:?}");
    assert_eq!(usage.disk_bytes > 0, memory_max < 1 << 30, "{usage:?}");
    for &transport in transports {
        for job in [1, 2] {
            let found = fetch(&fetcher(transport), holder.clone(), key(job, 1)).await.unwrap();
            assert_eq!(sorted_rows(&found), sorted_rows(&batches(job)), "job {job} over {transport:?}");
        }
        let fetcher = fetcher(transport);
        assert!(fetch(&fetcher, holder.clone(), key(1, 2)).await.unwrap().is_empty(), "it was empty");
        for (what, key) in [("not committed", key(3, 1)), ("freed", key(4, 1))] {
            let fault = fetch(&fetcher, holder.clone(), key).await.unwrap_err();
            assert_eq!(fault.cause, FetchCause::Missing, "{what}");
        }
        let other_life = Holder { epoch: Epoch(4), ..holder.clone() };
        assert_eq!(fetch(&fetcher, other_life, key(1, 1)).await.unwrap_err().cause, FetchCause::StaleEpoch);
    }
    // The executor's next life is among the readers.
    let own = BlockStore::new(StoreConfig {
        budget: MemoryBudget::new(ByteSize(1 << 30)),
        memory_max: 1 << 30,
        scratch: Vec::new(),
    });
    let next_life = fetcher(transports[0]);
    next_life.set_local(self::executor(), Epoch(4), own.unwrap());
    let found = fetch(&next_life, holder.clone(), key(2, 1)).await.unwrap();
    assert_eq!(sorted_rows(&found), sorted_rows(&batches(2)), "by its next life");
    keeper.free_job(JobId(1));
    assert_eq!(keeper.usage().blocks, 1);
    let fault = fetch(&fetcher(transports[0]), holder, key(1, 1)).await.unwrap_err();
    assert_eq!(fault.cause, FetchCause::Missing);
    keeper.free_job(JobId(2));
    assert_eq!(keeper.usage(), KeeperUsage::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_in_shared_memory_outlive_their_process() {
    if !is_executor(Transport::Auto).await {
        let transports = [Transport::Shared, Transport::Tcp];
        check("blocks_in_shared_memory_outlive_their_process", IN_MEMORY, &transports).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_in_files_outlive_their_process() {
    if !is_executor(Transport::Auto).await {
        let transports = [Transport::Auto, Transport::Tcp];
        check("blocks_in_files_outlive_their_process", (3 << 20, Compression::None), &transports).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_blocks_in_files_outlive_their_process() {
    if !is_executor(Transport::Auto).await {
        let transports = [Transport::Auto, Transport::Tcp];
        check("packed_blocks_in_files_outlive_their_process", (3 << 20, Compression::Lz4), &transports).await;
    }
}

/// Without shared memory frames end with their process: what is told of them must not be taken for empty blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_in_private_memory_are_missing_and_not_empty() {
    if is_executor(Transport::Tcp).await {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let keeper = Arc::new(keeper());
    let (starts, folder) = (Arc::clone(&keeper), scratch.path().to_owned());
    let test = "blocks_in_private_memory_are_missing_and_not_empty";
    let start = move || Executor::start(test, &starts, IN_MEMORY, &folder);
    let mut executor = tokio::task::spawn_blocking(start).await.unwrap();
    let holder = executor.holder(&keeper);
    executor.process.kill();
    timeout(LONG, keeper.taken_over(&self::executor())).await.unwrap();
    let fault = fetch(&fetcher(Transport::Tcp), holder, key(1, 1)).await.unwrap_err();
    assert!(matches!(fault.cause, FetchCause::Missing | FetchCause::StaleEpoch), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_hears_nonsense_or_nothing_goes_on() {
    use std::os::linux::net::SocketAddrExt;
    let keeper = keeper();
    let address = std::os::unix::net::SocketAddr::from_abstract_name(keeper.name()).unwrap();
    for nonsense in [&b""[..], b"\x05\0\0\0hello", b"\xff\xff\xff\xff", b"\x02\0\0\0{}", b"\x40\0\0\0half"] {
        let mut stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
        stream.write_all(nonsense).unwrap();
    }
    // One that lives on after it has told of blocks is in charge of them itself.
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        budget: MemoryBudget::new(ByteSize(1 << 30)),
        memory_max: 1 << 30,
        scratch: vec![folder.path().to_owned()],
    };
    let store = BlockStore::new(config).unwrap();
    store.report_to(Reporter::connect(keeper.name()).unwrap());
    store.share();
    store.begin_life(&executor(), EPOCH);
    write(&store);
    drop(store);
    timeout(LONG, keeper.taken_over(&executor())).await.unwrap();
    assert_eq!(keeper.usage(), KeeperUsage::default());
}
