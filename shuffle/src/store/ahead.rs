//! Reading ahead of who reads a block, by every way that frames in files take.

use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::{Int64Array, RecordBatch};
use firesteel_base::{ByteSize, Epoch, ExecutorId, JobId, MemoryBudget};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::tests::{LONG, Lab, MIB, ROWS, attempt, batch, until};
use super::*;
use crate::fetch::{FetchCause, FetchConfig, FetchError, Fetcher};
use crate::keep::KeptPlace;
use crate::key::Holder;
use crate::serve::{BlockServer, ServeConfig};
use crate::transport::Transport;

/// Read ahead of one block, at most: so many bytes and a frame.
const AHEAD_BYTES_MAX: u64 = 4 * MIB;
/// A little more than what frames have.
const FRAME_BYTES_MAX: u64 = MIB + 4096;
/// The own store, a neighbour's files, TCP.
const WAYS: [Option<Transport>; 3] = [None, Some(Transport::Shared), Some(Transport::Tcp)];

type Batches = BoxStream<'static, Result<RecordBatch, FetchError>>;

/// Who reads a block of task 0 that is in a file.
struct Reader {
    lab: Lab,
    fetcher: Arc<Fetcher>,
    holder: Holder,
    budget: MemoryBudget,
    _server: Option<BlockServer>,
}

impl Reader {
    fn new(way: Option<Transport>, frames: i64) -> Self {
        let lab = Lab::new(0, 1, LONG);
        lab.write(0, frames).unwrap();
        assert!(lab.store.settle(LONG));
        Self::of(lab, FetchConfig { transport: way.unwrap_or_default(), ..FetchConfig::default() }, way)
    }

    fn of(lab: Lab, config: FetchConfig, way: Option<Transport>) -> Self {
        let executor: ExecutorId = "host/e0".parse().unwrap();
        let budget = MemoryBudget::new(ByteSize(1 << 30));
        let fetcher = Fetcher::new(FetchConfig { budget: Some(budget.clone()), tries_max: 1, ..config });
        let server = way.map(|transport| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let identity = Some((executor.clone(), Epoch(1)));
            let config = ServeConfig { identity, transport, ..ServeConfig::default() };
            BlockServer::start(listener, Arc::clone(&lab.store), config).unwrap()
        });
        if server.is_none() {
            fetcher.set_local(executor.clone(), Epoch(1), Arc::clone(&lab.store));
        }
        let address = server.as_ref().map_or(String::new(), |server| server.local_addr().to_string());
        let holder = Holder { executor, epoch: Epoch(1), address, keeper: String::new() };
        Self { lab, fetcher, holder, budget, _server: server }
    }

    fn batches(&self) -> Batches {
        self.fetcher.fetch(self.holder.clone(), key(), batch(0).schema())
    }

    fn waiting(&self) -> usize {
        self.lab.gate(0).waiting.load(Ordering::SeqCst)
    }
}

fn key() -> BlockKey {
    BlockKey { producer: attempt(0), lane: 0, partition: 0 }
}

fn is_batch(found: &RecordBatch, number: i64) -> bool {
    let column = found.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    column.values().iter().copied().eq(number * ROWS..(number + 1) * ROWS)
}

#[tokio::test]
async fn frames_come_in_order_and_no_more_is_taken_than_may_be() {
    for way in WAYS {
        let reader = Reader::new(way, 40);
        let mut batches = reader.batches();
        for number in 0..40 {
            assert!(is_batch(&batches.next().await.unwrap().unwrap(), number), "{way:?}: {number}");
        }
        assert!(batches.next().await.is_none());
        let (used, peak) = (reader.budget.used(), reader.budget.peak());
        assert_eq!(used, 0, "{way:?}");
        assert!(peak >= 2 * MIB, "{way:?}: nothing was read ahead");
        // Beside what is read ahead there is the frame that is looked at, and over TCP one that comes.
        assert!(peak <= AHEAD_BYTES_MAX + 3 * FRAME_BYTES_MAX, "{way:?}: {peak}");
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_leaves_nothing_behind() {
    for way in WAYS {
        let reader = Reader::new(way, 40);
        let mut batches = reader.batches();
        for _ in 0..3 {
            batches.next().await.unwrap().unwrap();
        }
        drop(batches);
        let is_given_back = async {
            while reader.budget.used() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, is_given_back).await.unwrap_or_else(|_| panic!("{way:?}"));
        let counters = reader.fetcher.counters();
        assert_eq!(
            (counters.frames(), counters.rows()),
            (3, 3 * ROWS as u64),
            "what nobody took does not count"
        );
        reader.lab.store.free_job(JobId(1));
        // A server hears a little later that nobody wants the rest.
        let is_let_go = async {
            while reader.lab.store.usage() != StoreUsage::default() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, is_let_go).await.unwrap_or_else(|_| panic!("{way:?}"));
        reader.lab.assert_empty();
    }
}

#[tokio::test]
async fn a_frame_that_cannot_be_read_is_an_error_in_its_turn() {
    for way in WAYS {
        let reader = Reader::new(way, 12);
        let cells = reader.lab.store.frames(&key()).unwrap();
        let KeptPlace::File { path, .. } = cells[0].left_memory().unwrap().kept() else {
            panic!("it is in a file")
        };
        let fifth = cells[5].left_memory().unwrap().start();
        assert!(cells[6..].iter().all(|cell| cell.left_memory().unwrap().start() > fifth));
        OpenOptions::new().write(true).open(path).unwrap().set_len(fifth + 4096).unwrap();
        let mut batches = reader.batches();
        for number in 0..5 {
            assert!(is_batch(&batches.next().await.unwrap().unwrap(), number), "{way:?}: {number}");
        }
        let fault = batches.next().await.unwrap().unwrap_err();
        let is_named = match way {
            Some(Transport::Shared) => matches!(fault.cause, FetchCause::NotShared(_)),
            _ => matches!(fault.cause, FetchCause::Unreadable(_)),
        };
        assert!(is_named && fault.key == key(), "{way:?}: {fault}");
        assert!(batches.next().await.is_none());
    }
}

#[tokio::test]
async fn frames_are_read_while_the_first_is_waited_for() {
    let reader = Reader::new(None, 40);
    reader.lab.gate(0).shut(true);
    let mut batches = reader.batches();
    assert!(futures::poll!(batches.next()).is_pending());
    assert_eq!(reader.waiting(), 4, "frames of a MiB and a little");
    assert!(reader.budget.used() < AHEAD_BYTES_MAX + FRAME_BYTES_MAX);
    drop(batches);
    assert_eq!(reader.budget.used(), 0);
    reader.lab.gate(0).shut(false);
}

/// A client that gives little credit has only that read which it will be sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_reads_ahead_what_it_has_credit_for() {
    // Of a frame of a MiB and a little there are three chunks.
    for (request_window, chunks) in [(1, 3), (2 * MIB, 6), (64 * MIB, 8)] {
        let lab = Lab::new(0, 1, LONG);
        lab.write(0, 40).unwrap();
        assert!(lab.store.settle(LONG));
        lab.gate(0).shut(true);
        let config = FetchConfig { request_window, transport: Transport::Tcp, ..FetchConfig::default() };
        let reader = Reader::of(lab, config, Some(Transport::Tcp));
        let found = tokio::spawn(reader.batches().collect::<Vec<_>>());
        until("chunks are being read", || reader.waiting() == chunks);
        reader.lab.gate(0).shut(false);
        let found = found.await.unwrap();
        assert_eq!(found.len(), 40);
        assert!((0..).zip(found).all(|(number, found)| is_batch(&found.unwrap(), number)));
    }
}

#[tokio::test]
async fn frames_in_memory_are_not_held_there_before_their_turn() {
    let lab = Lab::new(16 * MIB, 1, LONG);
    let bytes = lab.write(0, 14).unwrap();
    assert!(lab.store.settle(LONG));
    let reader = Reader::of(lab, FetchConfig::default(), None);
    let mut batches = reader.batches();
    let first = batches.next().await.unwrap().unwrap();
    assert!(is_batch(&first, 0));
    let freed = reader.lab.store.make_room(bytes).unwrap();
    assert!(freed > bytes / 2 && reader.lab.budget.used() <= bytes - freed + FRAME_BYTES_MAX, "{freed}");
    drop(first);
    for number in 1..14 {
        assert!(is_batch(&batches.next().await.unwrap().unwrap(), number));
    }
    assert!(reader.fetcher.counters().copied_bytes() >= freed - FRAME_BYTES_MAX);
    reader.lab.store.free_job(JobId(1));
    drop(batches);
    reader.lab.assert_empty();
}
