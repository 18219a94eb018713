//! Packed frames on their ways: what is packed where, who unpacks it, and peers that lie about it.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use common::{Numbers, array, attempt, line_item_schema, line_items, one_column, sorted_rows, store_with};
use firesteel_base::{ByteSize, Class, Epoch, ExecutorId, JobId, MemoryBudget};
use firesteel_shuffle::format::encode;
use firesteel_shuffle::pack::{Codec, pack};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, Compression, FetchCause, FetchConfig, FetchError, Fetcher,
    FileConfig, Holder, Packing, ServeConfig, Transport,
};
use futures::TryStreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);
const NOTHING: Packing = Packing { frame_bytes: 0, packed_bytes: 0 };

fn executor() -> ExecutorId {
    "host3/e0".parse().unwrap()
}

fn key() -> BlockKey {
    BlockKey { producer: attempt(7, 14), lane: 0, partition: 0 }
}

fn holder(address: SocketAddr) -> Holder {
    Holder { executor: executor(), epoch: Epoch(3), address: address.to_string(), keeper: String::new() }
}

/// An executor whose block lies in a file, but for what fits into `memory_max`.
struct Peer {
    store: Arc<BlockStore>,
    budget: MemoryBudget,
    server: BlockServer,
    batches: Vec<RecordBatch>,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start(memory_max: u64, in_files: Compression, on_links: Compression) -> Self {
        Self::with(memory_max, in_files, on_links, (1..=4).map(|seed| line_items(seed, 20_000)).collect())
    }

    fn with(
        memory_max: u64,
        in_files: Compression,
        on_links: Compression,
        batches: Vec<RecordBatch>,
    ) -> Self {
        let files = FileConfig { compression: in_files, ..FileConfig::default() };
        let (store, budget, folder) = store_with(1 << 30, memory_max, files);
        let identity = Some((executor(), Epoch(3)));
        let config = ServeConfig { identity, compression: on_links, ..ServeConfig::default() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = BlockServer::start(listener, Arc::clone(&store), config).unwrap();
        let mut writer = store.writer(key().producer, 0, batches[0].schema(), 1);
        batches.iter().for_each(|batch| writer.write(batch, &Assignment::Single).unwrap());
        writer.finish().unwrap();
        store.commit(&key().producer).unwrap();
        Self { store, budget, server, batches, _folder: folder }
    }

    async fn check(&self, fetcher: &Arc<Fetcher>) {
        let work = fetcher.fetch(holder(self.server.local_addr()), key(), self.batches[0].schema());
        let found: Vec<_> = timeout(LONG, work.try_collect()).await.unwrap().unwrap();
        assert_eq!(sorted_rows(&found), sorted_rows(&self.batches));
    }
}

fn fetcher(transport: Transport, compression: Compression) -> Arc<Fetcher> {
    Fetcher::new(FetchConfig { transport, compression, tries_max: 2, ..FetchConfig::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_packed_in_files_are_read_by_all_who_may() {
    for in_files in [Compression::Lz4, Compression::Zstd] {
        let peer = Peer::start(0, in_files, Compression::None);
        let packing = peer.store.packing();
        let whole = peer.store.usage().disk_bytes;
        assert!(packing.frame_bytes == whole && packing.packed_bytes * 10 < whole * 9, "{packing:?}");
        assert_eq!(peer.store.spilled_bytes(), whole, "frames are counted as they are");
        // The own executor.
        let own = fetcher(Transport::Tcp, Compression::None);
        own.set_local(executor(), Epoch(3), Arc::clone(&peer.store));
        peer.check(&own).await;
        let counters = own.counters();
        assert_eq!((counters.local_bytes(), counters.packed_in_files()), (whole, packing));
        assert_eq!(counters.copied_bytes(), packing.packed_bytes + whole, "read, and unpacked");
        // Another one of this host, by descriptor, whatever it says of links.
        let passed = fetcher(Transport::Shared, Compression::None);
        peer.check(&passed).await;
        assert_eq!(passed.counters().packed_in_files(), packing);
        // Another one over TCP: the bytes go out as they lie there.
        let far = fetcher(Transport::Tcp, Compression::Auto);
        peer.check(&far).await;
        assert_eq!((peer.server.packing(), far.counters().packed_over_tcp()), (packing, packing));
        assert_eq!(peer.server.sent_bytes(), packing.packed_bytes);
        // One that does not take them so.
        let other = if in_files == Compression::Lz4 { Compression::Zstd } else { Compression::Lz4 };
        for refuses in [Compression::None, other] {
            let far = fetcher(Transport::Tcp, refuses);
            peer.check(&far).await;
            assert_eq!((peer.server.packing(), far.counters().packed_over_tcp()), (packing, NOTHING));
        }
        assert_eq!(peer.server.sent_bytes(), packing.packed_bytes + 2 * whole);
        peer.store.free_job(JobId(7));
        assert_eq!(peer.budget.used(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_in_files_are_packed_for_links() {
    let peer = Peer::start(0, Compression::None, Compression::Zstd);
    let fetcher = fetcher(Transport::Tcp, Compression::Auto);
    peer.check(&fetcher).await;
    assert_eq!(peer.store.packing(), NOTHING);
    assert_eq!(peer.server.packing().frame_bytes, peer.store.usage().disk_bytes);
    let read_and_sent = peer.store.usage().disk_bytes + peer.server.packing().packed_bytes;
    assert_eq!(peer.server.copied_bytes(), read_and_sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_end_does_not_take_is_not_sent() {
    let settings = [Compression::None, Compression::Lz4, Compression::Zstd];
    for serves in settings {
        let peer = Peer::start(1 << 30, Compression::None, serves);
        for takes in settings {
            let fetcher = fetcher(Transport::Tcp, takes);
            peer.check(&fetcher).await;
            let is_packed = fetcher.counters().packed_over_tcp() != NOTHING;
            assert_eq!(is_packed, serves == takes && serves != Compression::None, "{serves}, {takes}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_never_packed_by_itself() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { panic!("this host has no /dev/shm") };
    let budget = MemoryBudget::new(ByteSize(1 << 30));
    let config =
        firesteel_shuffle::StoreConfig { budget, memory_max: 0, scratch: vec![folder.path().to_owned()] };
    let store =
        BlockStore::with_files(config, FileConfig { direct: false, ..FileConfig::default() }).unwrap();
    let mut writer = store.writer(key().producer, 0, line_item_schema(), 1);
    (1..=20).for_each(|seed| writer.write(&line_items(seed, 20_000), &Assignment::Single).unwrap());
    writer.finish().unwrap();
    assert!(store.spilled_bytes() > 10 << 20);
    assert_eq!(store.packing(), NOTHING, "files in memory");
    let peer = Peer::start(1 << 30, Compression::Auto, Compression::Auto);
    for _ in 0..10 {
        peer.check(&fetcher(Transport::Tcp, Compression::Auto)).await;
    }
    assert_eq!(peer.server.packing(), NOTHING, "loopback");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_shrink_goes_as_it_is() {
    let noise = |seed| {
        let random = arrow_schema::DataType::Decimal256(60, 0);
        one_column(array(&mut Numbers::new(seed), &random, 20_000))
    };
    for compression in [Compression::Lz4, Compression::Zstd] {
        let peer = Peer::with(0, compression, compression, (1..=8).map(noise).collect());
        let fetcher = fetcher(Transport::Tcp, Compression::Auto);
        peer.check(&fetcher).await;
        let packing = (peer.store.packing(), peer.server.packing());
        assert_eq!(packing, (NOTHING, NOTHING));
    }
}

/// A server that greets, answers the first request with one frame, and says `message`; how the fetch ends.
async fn fetch_from(message: Vec<u8>, takes: Compression) -> Result<Vec<RecordBatch>, FetchError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let message = message.clone();
            tokio::spawn(async move {
                let mut asked = [0; 8 + wire::HEAD + 64];
                stream.read_exact(&mut asked[..8]).await.unwrap();
                stream.write_all(wire::HELLO).await.unwrap();
                stream.read_exact(&mut asked[8..]).await.unwrap();
                stream.write_all(&[wire::reply(1, 0, 1), message].concat()).await.unwrap();
                // It ends with the client's end.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let fetcher = fetcher(Transport::Tcp, takes);
    let work = fetcher.fetch(holder(address), key(), line_item_schema()).try_collect();
    timeout(LONG, work).await.expect("a fetch ends within its deadlines")
}

/// A chunk of a packed frame that is all of it.
fn packed_chunk(frame_bytes: u64, packed_bytes: u64, bytes: &[u8]) -> Vec<u8> {
    let head = wire::head(5, 1 | 2, 0, bytes.len() as u32, 1, frame_bytes | packed_bytes << 32);
    [&head[..], bytes].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_lie_about_packed_frames_are_found_out() {
    // Right in all but its seal: what is in a packed frame is checked as any other.
    let frame = encode(&line_items(1, 2000)).unwrap();
    let good = pack(Codec::Lz4, &frame).unwrap();
    let (frame_bytes, packed_bytes) = (frame.len() as u64, good.len() as u64);
    let chunk = |frame_bytes, bytes: &[u8]| packed_chunk(frame_bytes, bytes.len() as u64, bytes);
    let mut damaged = good.to_vec();
    damaged[100..200].fill(0xff);
    let mut other_codec = good.to_vec();
    other_codec[6] = 2;
    let bomb = pack(Codec::Zstd, &vec![0; 16 << 20]).unwrap();
    for (what, message) in [
        ("another seal", chunk(frame_bytes, &good)),
        ("damage", chunk(frame_bytes, &damaged)),
        ("another codec", chunk(frame_bytes, &other_codec)),
        ("no packed frame", chunk(frame_bytes, &frame[..1000])),
        ("a frame of another size", chunk(frame_bytes + 1, &good)),
        ("much in little", chunk(frame_bytes, &bomb)),
        ("an envelope alone", chunk(frame_bytes, &good[..24])),
        ("half an envelope", chunk(frame_bytes, &good[..12])),
    ] {
        let fault = fetch_from(message, Compression::Auto).await.unwrap_err();
        assert!(matches!(fault.cause, FetchCause::Corrupt(_)), "{what}: {fault}");
        assert_eq!(fault.class(), Class::Fetch, "{what}");
    }
    for (what, takes, message) in [
        ("not asked for", Compression::None, chunk(frame_bytes, &good)),
        ("packed into more", Compression::Auto, chunk(packed_bytes - 1, &good)),
        ("too large", Compression::Auto, chunk((16 << 20) + 1, &good)),
        ("nothing comes", Compression::Auto, packed_chunk(frame_bytes, 0, &good)),
        ("more comes than was said", Compression::Auto, packed_chunk(frame_bytes, 10, &good)),
    ] {
        let fault = fetch_from(message, takes).await.unwrap_err();
        assert!(matches!(fault.cause, FetchCause::Protocol(_)), "{what}: {fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_frames_are_counted_in_the_budget_and_given_back() {
    let peer = Peer::start(0, Compression::Lz4, Compression::Lz4);
    for transport in [Transport::Tcp, Transport::Shared] {
        let budget = MemoryBudget::new(ByteSize(1 << 20));
        let config = FetchConfig { budget: Some(budget.clone()), transport, ..FetchConfig::default() };
        let mut stream =
            Fetcher::new(config).fetch(holder(peer.server.local_addr()), key(), line_item_schema());
        let batch = stream.try_next().await.unwrap().unwrap();
        let frame_bytes = encode(&batch).unwrap().len() as u64;
        assert!(budget.used() >= frame_bytes, "{} of {frame_bytes}", budget.used());
        drop((stream, batch));
        let given_back = async {
            while budget.used() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, given_back).await.expect("what was on its way is given back");
    }
}
