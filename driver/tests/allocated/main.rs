//! What an executor's grants say, held against what the allocator counts. A binary of its own, because all memory of the process counts.

#![allow(clippy::unwrap_used)] // What a test sets up is there, or the test fails.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firesteel_base::{ByteSize, ExecutorId};
use firesteel_certs::Security;
use firesteel_driver::{ConnectOptions, InProcessWorker, Session};
use firesteel_executor::{BlockSettings, Executor, ExecutorConfig, Limits};
use firesteel_hw::core_loop::LoopKind;
use firesteel_manager::{Manager, ManagerConfig};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const LIMIT: u64 = 128 << 20;
/// The most that may be held above the limit, in bytes. A grouping that hands on all its groups at once counts them no more from then on.
const ABOVE_MAX: u64 = LIMIT / 2;
/// The most that may be allocated and not granted, in bytes.
const BEYOND_MAX: u64 = LIMIT * 3 / 4;

/// Each needs more than the limit, in another operator.
const QUERIES: [(&str, &str); 5] = [
    (
        "a sort",
        "select sum(v * (n % 7)) from (select v, row_number() over (order by t, v) as n from (select value as v, \
         concat('a word and the number ', value * 7919 % 3000017) as t from generate_series(1, 3000000)))",
    ),
    (
        "a grouping",
        "select count(*), sum(c) from (select value * 7919 % 3000017 as k, concat('key ', value % 3000000) as t, \
         count(*) as c from generate_series(1, 3000000) group by 1, 2)",
    ),
    (
        "a join",
        "select count(*), sum(a.v) from (select value as v, concat('some text of row ', value) as t \
         from generate_series(1, 2000000)) a join (select concat('some text of row ', value * 2) as t \
         from generate_series(1, 2000000)) b on a.t = b.t",
    ),
    (
        "distinct values",
        "select count(distinct concat('text ', value * 7919 % 3000017)) from generate_series(1, 3000000)",
    ),
    (
        "an exchange",
        "select sum(n), max(t) from (select row_number() over (partition by g order by v) as n, t from \
         (select value % 1000 as g, value as v, repeat(concat('x', value), 8) as t from generate_series(1, 2000000)))",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_stand_for_what_is_allocated() {
    let scratch = tempfile::tempdir().unwrap();
    let executor = start(scratch.path());
    let manager = Manager::start(ManagerConfig::default());
    let worker = executor.id().worker.clone();
    let member = InProcessWorker::join(&manager, &worker, vec![Arc::clone(&executor)], None).await.unwrap();
    let options = ConnectOptions::default();
    let session = Session::in_process(manager, vec![Arc::clone(&executor)], options).await.unwrap();
    session.await_executors(1, Duration::from_secs(10)).await.unwrap();
    session.sql("select 1").await.unwrap().collect().await.unwrap();

    let before = ALLOCATED.current_usage() as u64;
    for (name, sql) in QUERIES {
        let watch = Watch::begin(&executor, before);
        session.sql(sql).await.unwrap().collect().await.unwrap();
        let seen = watch.end();
        println!("{name}: {seen:?}");
        assert!(seen.granted > LIMIT * 2 / 3, "{name} did not need the memory that there is: {seen:?}");
        assert!(seen.held < LIMIT + ABOVE_MAX, "{name}: {seen:?}");
        assert!(seen.beyond < BEYOND_MAX, "{name}: {seen:?}");
    }
    session.close().await;
    member.leave("the test is over");
    executor.shutdown(Duration::from_secs(10)).await;
}

fn start(scratch: &Path) -> Arc<Executor> {
    Executor::start(ExecutorConfig {
        id: ExecutorId { worker: "w0".parse().unwrap(), index: 0 },
        cores: vec![None; 2],
        numa_node: None,
        memory: ByteSize(LIMIT),
        scratch: vec![scratch.to_owned()],
        loop_kind: LoopKind::Tokio,
        block_listener: Some(TcpListener::bind("127.0.0.1:0").unwrap()),
        advertise_host: "127.0.0.1".to_owned(),
        control_address: String::new(),
        keeper: None,
        blocks: BlockSettings { memory_fraction: 0.5, ..BlockSettings::default() },
        security: Security::default(),
        limits: Limits::default(),
    })
    .unwrap()
}

/// The most of each that was seen, in bytes.
#[derive(Debug, Default)]
struct Seen {
    /// Granted to operators, blocks and buffers.
    granted: u64,
    /// Allocated, and mapped for blocks.
    held: u64,
    /// Allocated and not granted.
    beyond: u64,
}

/// Compares the two counts a thousand times a second.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Seen>,
}

impl Watch {
    /// Counts what is allocated from `before` bytes on.
    fn begin(executor: &Arc<Executor>, before: u64) -> Self {
        let (executor, stop) = (Arc::clone(executor), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                seen.look(&executor, before);
            }
            seen
        });
        Self { stop, thread }
    }

    fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Seen {
    fn look(&mut self, executor: &Executor, before: u64) {
        let status = executor.status();
        let allocated = (ALLOCATED.current_usage() as u64).saturating_sub(before);
        // Pages of blocks are mapped, and no business of the allocator's.
        let mapped = status.blocks.memory_bytes;
        let beyond = allocated.saturating_sub(status.memory_used.saturating_sub(mapped));
        self.granted = self.granted.max(status.memory_used);
        self.held = self.held.max(allocated + mapped);
        self.beyond = self.beyond.max(beyond);
    }
}
