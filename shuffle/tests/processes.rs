//! Two processes that share blocks, one of which is killed.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use common::process::{Other, role, say, wait_to_be_killed};
use common::{attempt, line_item_schema, line_items, sorted_rows, store};
use firesteel_base::{Class, Epoch, ExecutorId, JobId};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, FetchCause, FetchConfig, FetchError, Fetcher, Holder,
    SegmentUsage, ServeConfig, Transport,
};
use futures::TryStreamExt;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);
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
    if role().is_some() {
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
    if let Some(address) = role() {
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
