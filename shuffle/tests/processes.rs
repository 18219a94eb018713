//! Two processes that share blocks, one of which is killed.
//!
//! A test starts its own program once more, for that test alone and with a role in its environment, and is then that
//! role there.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use common::{attempt, line_item_schema, line_items, sorted_rows, store};
use firesteel_base::{Class, Epoch, ExecutorId, JobId};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, FetchCause, FetchConfig, FetchError, Fetcher, Holder,
    SegmentUsage, ServeConfig, Transport,
};
use futures::TryStreamExt;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);
/// What a process that was started as a role finds in its environment: the role's argument.
const ROLE: &str = "FIRESTEEL_TEST_ROLE";

/// Another process, killed when dropped.
struct Other {
    child: Child,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Other {
    fn start(test: &str, argument: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ROLE, argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    /// What follows `word` in the next line that has it.
    fn hear(&mut self, word: &str) -> String {
        let line = self.said.by_ref().map(Result::unwrap).find(|line| line.contains(word));
        line.expect("it says that before it ends").split_once(word).unwrap().1.trim().to_owned()
    }

    /// As `kill -9` does.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
    }
}

fn say(text: &str) {
    println!("\n{text}");
    std::io::stdout().flush().unwrap();
}

/// Waits until the process that started this one ends it, or ends itself.
fn wait_to_be_killed() {
    std::io::stdin().lines().for_each(drop);
}

fn executor() -> ExecutorId {
    "host3/e0".parse().unwrap()
}

fn key() -> BlockKey {
    BlockKey { producer: attempt(1, 14), lane: 0, partition: 0 }
}

fn batches() -> Vec<RecordBatch> {
    (1..=4).map(|seed| line_items(seed, 20_000)).collect()
}

fn write(store: &Arc<BlockStore>) {
    let mut writer = store.writer(key().producer, 0, line_item_schema(), 1);
    batches().iter().for_each(|batch| writer.write(batch, &Assignment::Single).unwrap());
    writer.finish().unwrap();
    store.commit(&key().producer).unwrap();
}

fn serve(store: &Arc<BlockStore>) -> BlockServer {
    let config = ServeConfig {
        identity: Some((executor(), Epoch(3))),
        transport: Transport::Shared,
        ..ServeConfig::default()
    };
    BlockServer::start(TcpListener::bind("127.0.0.1:0").unwrap(), Arc::clone(store), config).unwrap()
}

async fn fetch(fetcher: &Arc<Fetcher>, address: &str) -> Result<Vec<RecordBatch>, FetchError> {
    let holder =
        Holder { executor: executor(), epoch: Epoch(3), address: address.to_owned(), keeper: String::new() };
    let work = fetcher.fetch(holder, key(), line_item_schema()).try_collect();
    timeout(LONG, work).await.expect("a fetch ends within its deadlines")
}

fn fetcher(transport: Transport) -> Arc<Fetcher> {
    Fetcher::new(FetchConfig { transport, tries_max: 2, ..FetchConfig::default() })
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
async fn a_reader_keeps_what_it_looks_at_when_the_server_is_killed() {
    if std::env::var(ROLE).is_ok() {
        let (store, _, _folder) = store(1 << 30, 1 << 30);
        let server = serve(&store);
        write(&store);
        say(&format!("serves at {}", server.local_addr()));
        return tokio::task::spawn_blocking(wait_to_be_killed).await.unwrap();
    }
    let mut other = Other::start("a_reader_keeps_what_it_looks_at_when_the_server_is_killed", "server");
    let address = other.hear("serves at");
    let fetcher = fetcher(Transport::Auto);
    let found = fetch(&fetcher, &address).await.unwrap();
    let counters = fetcher.counters();
    assert!(counters.shared_bytes() > 0 && counters.shared_bytes() == counters.remote_bytes());
    other.kill();
    assert_eq!(sorted_rows(&found), sorted_rows(&batches()));
    let fault = fetch(&fetcher, &address).await.unwrap_err();
    let is_gone = matches!(fault.cause, FetchCause::Unreachable { .. });
    assert!(is_gone && fault.class() == Class::Fetch, "{fault}");
    assert_eq!(sorted_rows(&found), sorted_rows(&batches()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_comes_back_when_a_reader_is_killed() {
    if let Ok(address) = std::env::var(ROLE) {
        let fetcher = fetcher(Transport::Shared);
        let found = fetch(&fetcher, &address).await.unwrap();
        assert_eq!(sorted_rows(&found), sorted_rows(&batches()));
        say(&format!("looks at {} batches", found.len()));
        tokio::task::spawn_blocking(wait_to_be_killed).await.unwrap();
        return drop(found);
    }
    let (store, budget, _folder) = store(1 << 30, 1 << 30);
    let server = serve(&store);
    write(&store);
    let address = server.local_addr().to_string();
    let mut other = tokio::task::spawn_blocking(move || {
        let mut other = Other::start("memory_comes_back_when_a_reader_is_killed", &address);
        let looks_at = other.hear("looks at");
        (other, looks_at)
    })
    .await
    .unwrap();
    assert_eq!(other.1, format!("{} batches", server.leases()));
    store.free_job(JobId(1));
    assert!(budget.used() > 0 && store.segments().used == 1, "somebody looks at it");
    other.0.kill();
    until("its leases end with it", || server.leases() == 0).await;
    assert_eq!((budget.used(), store.segments()), (0, SegmentUsage::default()));
    // And all goes on with others.
    write(&store);
    let found = fetch(&fetcher(Transport::Shared), &server.local_addr().to_string()).await.unwrap();
    assert_eq!(sorted_rows(&found), sorted_rows(&batches()));
}
