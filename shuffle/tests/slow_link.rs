//! Blocks over a slow link: a pair of network interfaces that are held to a rate, one of them in a network of its own.
//!
//! With `FIRESTEEL_TEST_LINKS=1` it measures what none, LZ4 and zstd bring at 100 Mbit/s and 1 Gbit/s, and prints that.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::process::{Other, role, say, wait_to_be_killed};
use common::{attempt, line_item_schema, line_items, store};
use firesteel_base::{Epoch, ExecutorId};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, Compression, FetchConfig, Fetcher, Holder, Packing,
    ServeConfig, Transport,
};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use tokio::runtime::Runtime;

const TEST: &str = "a_slow_link_is_packed_by_itself_and_is_faster_for_it";
/// Says that the test was started in a network of its own, in which it may make interfaces.
const ALONE: &str = "FIRESTEEL_TEST_NETWORK";
/// Blocks of the server.
const BLOCKS: u32 = 8;

fn executor() -> ExecutorId {
    "host3/e0".parse().unwrap()
}

fn key(partition: u32) -> BlockKey {
    BlockKey { producer: attempt(7, 14), lane: 0, partition }
}

/// Whether a command could be run, and went well.
fn runs(command: &str) -> bool {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn must_run(command: &str) {
    assert!(runs(command), "{command}");
}

/// Plays the server: waits until its end of the link is there, and serves.
fn serve(compression: &str) {
    must_run("ip link set lo up");
    say("is there");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    must_run("ip addr add 10.77.0.1/24 dev fs1");
    must_run("ip link set fs1 up");
    // Packets of a page or so, as a real card takes them: else the rate is held in lumps of 64 KiB.
    must_run(&format!("tc qdisc add dev fs1 root tbf rate {} burst 256kb latency 20ms", line.trim()));
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    write(&store);
    let identity = Some((executor(), Epoch(3)));
    let config = ServeConfig {
        identity,
        transport: Transport::Tcp,
        compression: compression.parse().unwrap(),
        ..ServeConfig::default()
    };
    let server = BlockServer::start(TcpListener::bind("10.77.0.1:0").unwrap(), store, config).unwrap();
    say(&format!("serves at {}", server.local_addr()));
    drop(entered);
    wait_to_be_killed();
}

fn write(store: &Arc<BlockStore>) {
    let mut writer = store.writer(key(0).producer, 0, line_item_schema(), BLOCKS);
    for partition in 0..BLOCKS {
        let batch = line_items(u64::from(partition) + 1, 60_000);
        writer.write(&batch, &Assignment::Whole(partition)).unwrap();
    }
    writer.finish().unwrap();
    store.commit(&key(0).producer).unwrap();
}

/// A server behind a link of that rate, as `tc` names it.
struct Link {
    _server: Other,
    holder: Holder,
}

impl Link {
    fn make(rate: &str, compression: Compression) -> Self {
        let program = ["unshare", "--net"];
        let mut server = Other::start_by(&program, TEST, &compression.to_string());
        server.hear("is there");
        must_run(&format!("ip link add fs0 type veth peer name fs1 netns {}", server.id()));
        must_run("ip addr add 10.77.0.2/24 dev fs0");
        must_run("ip link set fs0 up");
        server.tell(rate);
        let address = server.hear("serves at");
        let holder = Holder { executor: executor(), epoch: Epoch(3), address, keeper: String::new() };
        Self { _server: server, holder }
    }

    /// Fetches all blocks, so many times over; the time, and what came packed.
    fn fetch(&self, rounds: u32) -> Fetched {
        let runtime = Runtime::new().unwrap();
        let fetcher = Fetcher::new(FetchConfig { transport: Transport::Tcp, ..FetchConfig::default() });
        let block = |number: u32| {
            let (holder, key) = (self.holder.clone(), key(number % BLOCKS));
            fetcher.fetch(holder, key, line_item_schema())
        };
        let begun = Instant::now();
        let rows = stream::iter(0..rounds * BLOCKS).map(block).flatten_unordered(4);
        let rows = rows.try_fold(0, async |rows, batch| Ok(rows + batch.num_rows()));
        let rows = runtime.block_on(rows).unwrap();
        assert_eq!(rows, 60_000 * (rounds * BLOCKS) as usize);
        let counters = fetcher.counters();
        Fetched { time: begun.elapsed(), bytes: counters.tcp_bytes(), packing: counters.packed_over_tcp() }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Its other end goes with it; the next link has the same name.
        runs("ip link del fs0");
    }
}

struct Fetched {
    time: Duration,
    bytes: u64,
    packing: Packing,
}

impl Fetched {
    fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }
}

#[test]
fn a_slow_link_is_packed_by_itself_and_is_faster_for_it() {
    if let Some(compression) = role() {
        return serve(&compression);
    }
    if std::env::var_os(ALONE).is_none() {
        return start_alone();
    }
    must_run("ip link set lo up");
    if std::env::var_os("FIRESTEEL_TEST_LINKS").is_some() {
        return measure();
    }
    let plain = Link::make("100mbit", Compression::None).fetch(1);
    assert_eq!(plain.packing, Packing::default());
    let auto = Link::make("100mbit", Compression::Auto).fetch(1);
    let Packing { frame_bytes, packed_bytes } = auto.packing;
    assert!(frame_bytes * 2 > auto.bytes && packed_bytes * 10 < frame_bytes * 9, "{:?}", auto.packing);
    assert!(auto.time < plain.time * 9 / 10, "{:?}, and {:?} without packing", auto.time, plain.time);
}

/// Runs the test once more, in a network of its own; where that may not be, it says so.
fn start_alone() {
    let program = ["unshare", "--net"];
    if !runs("unshare --net ip link add fs0 type veth peer name fs1") || !runs("tc -V") {
        eprintln!("NOT TESTED: this process may not make networks, or there is no tc");
        return;
    }
    let mut alone = Command::new(program[0]);
    alone.args(&program[1..]).arg(std::env::current_exe().unwrap());
    alone.args(["--exact", TEST, "--nocapture", "--test-threads=1"]).env(ALONE, "1");
    assert!(alone.status().unwrap().success());
}

/// What each setting brings on links that are held to a rate: medians of three.
fn measure() {
    for (rate, rounds) in [("100mbit", 2), ("1gbit", 12)] {
        for compression in Compression::ALL {
            let link = Link::make(rate, compression);
            link.fetch(1);
            let mut fetched: Vec<_> = (0..3).map(|_| link.fetch(rounds)).collect();
            fetched.sort_by_key(|fetched| fetched.time);
            let Packing { frame_bytes, packed_bytes } = fetched[1].packing;
            let (of_all, ratio) = (
                frame_bytes as f64 / fetched[1].bytes as f64,
                packed_bytes as f64 / frame_bytes.max(1) as f64,
            );
            eprintln!(
                "{rate} {compression}: {:.1} MB/s, {:.0}% of the bytes packed to {ratio:.2}",
                fetched[1].rate() / 1e6,
                100.0 * of_all
            );
        }
    }
}
