//! What a server is told by a client that does not keep to the protocol, and a client by such a server, over real sockets.
//!
//! An input is a byte of flags and what the other side says, byte by byte; where a message ends in it follows from
//! `PROTOCOL.md`, and not from the code that is tested.

mod answers;
mod conversation;
pub mod fetch;
pub mod serve;
#[path = "../../../tests/wire/mod.rs"]
mod wire;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use firesteel_base::{Epoch, ExecutorId};
use firesteel_shuffle::BlockKey;
use tokio::runtime::{Builder, Runtime};

use super::change::number;
use super::common::{self, Numbers};

/// How long a conversation may take. One that takes longer hangs: all that it waits for is on this host.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// The largest input.
const INPUT_BYTES_MAX: usize = 8192;
/// Bytes of a greeting.
const HELLO_BYTES: usize = 8;

/// What servers and clients run on, beside the thread that plays the other side.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a thread and a poller can be had")
});

/// The executor that serves, as the requests of `wire` name it.
fn executor() -> (ExecutorId, Epoch) {
    ("host3/e0".parse().expect("a name"), Epoch(3))
}

/// The blocks that are asked for, by number.
fn key(task: u32) -> BlockKey {
    BlockKey { producer: common::attempt(7, task), lane: 0, partition: 0 }
}

/// Waits until it is so.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < ENDS_WITHIN, "{what}");
        std::thread::sleep(Duration::from_micros(20));
    }
}

/// Runs `change` some times on the parts of an input, the same way for the same seed; from time to time it begins anew.
fn change_parts(
    input: &mut Vec<u8>,
    seed: u64,
    anew: fn(u64) -> Vec<u8>,
    split: fn(u8, &[u8]) -> Vec<Vec<u8>>,
) {
    let n = &mut Numbers::new(seed);
    if input.is_empty() || input.len() > INPUT_BYTES_MAX || n.below(64) == 0 {
        *input = anew(n.next());
        return;
    }
    let flags = if n.below(16) == 0 { input[0] ^ 1 << n.below(8) } else { input[0] };
    let mut parts = split(flags, &input[1..]);
    let other = anew(n.next());
    for _ in 0..=n.below(3) {
        conversation::change(&mut parts, &split(other[0], &other[1..]), n);
    }
    *input = [vec![flags], parts.concat()].concat();
}
