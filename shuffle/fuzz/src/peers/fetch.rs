//! A client that fetches two blocks over one connection, and a server that answers anything.
//!
//! The bits of the first byte: 1, the client takes no packed frames; 2, the greeting is the input's own and not the right one; 4,
//! the client asks for shared memory too.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{ByteSize, Class, MemoryBudget};
use firesteel_shuffle::format::encode;
use firesteel_shuffle::pack::{Codec, pack};
use firesteel_shuffle::{BlockKey, Compression, FetchConfig, FetchError, Fetcher, Holder, Transport};
use futures::TryStreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::common::{Numbers, line_item_schema, line_items};
use super::conversation::over_tcp;
use super::wire::{HEAD, HELLO, head, reply};
use super::{ENDS_WITHIN, HELLO_BYTES, RUNTIME, change_parts, executor, key, wait_until};

const PLAIN_BIT: u8 = 1;
const OWN_HELLO_BIT: u8 = 2;
const SHARED_BIT: u8 = 4;

/// The tasks whose blocks are asked for, by requests 1 and 2.
const TASKS: [u32; 2] = [14, 15];
/// Bytes of a request with its head: the name has 8.
const REQUEST_BYTES: usize = HEAD + 56 + 8;
/// How long the second request may come after the first, if it comes over the same connection.
const BOTH_WITHIN: Duration = Duration::from_millis(50);
/// How long the client waits for anything; only one that is to be told nothing more does.
const STEP_WITHIN: Duration = Duration::from_secs(2);

/// Fetches from a server that says what an input has; tells how many of the two blocks came.
///
/// # Panics
/// When the client is at fault.
pub fn run_fetch(input: &[u8]) -> usize {
    let Some((&flags, said)) = input.split_first() else { return 0 };
    let mut said = said.to_vec();
    if flags & OWN_HELLO_BIT == 0 && said.len() >= HELLO_BYTES {
        said[..HELLO_BYTES].copy_from_slice(HELLO);
    }
    let budget = MemoryBudget::new(ByteSize(1 << 30));
    let config = FetchConfig {
        budget: Some(budget.clone()),
        // What is asked for again is answered in the same way.
        tries_max: 1,
        connect_timeout: STEP_WITHIN,
        io_timeout: STEP_WITHIN,
        transport: if flags & SHARED_BIT != 0 { Transport::Auto } else { Transport::Tcp },
        compression: if flags & PLAIN_BIT != 0 { Compression::None } else { Compression::Auto },
        ..FetchConfig::default()
    };
    let fetched = RUNTIME.block_on(async {
        let fetched = timeout(ENDS_WITHIN, converse(said, config)).await;
        fetched.unwrap_or_else(|_| panic!("a fetch did not end within {ENDS_WITHIN:?}"))
    });
    wait_until("frames are counted no more once both fetches have ended", || budget.used() == 0);
    fetched.into_iter().filter(came).count()
}

/// Whether a block came. When it did not that must be nobody's fault but the server's, so that the job goes on.
fn came(fetched: &Result<usize, FetchError>) -> bool {
    if let Err(fault) = fetched {
        assert!(matches!(fault.class(), Class::Fetch | Class::Transient), "{fault}");
    }
    fetched.is_ok()
}

/// Both fetches, while the server says `said`; of each, how many batches came.
async fn converse(said: Vec<u8>, config: FetchConfig) -> [Result<usize, FetchError>; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let fetcher = Fetcher::new(config);
    let fetch = |task| {
        let (executor, epoch) = executor();
        let holder = Holder { executor, epoch, address: address.clone(), keeper: String::new() };
        let batches = fetcher.fetch(holder, key(task), line_item_schema());
        batches.try_fold(0, |count, _| async move { Ok(count + 1) })
    };
    let fetched = async { tokio::join!(fetch(TASKS[0]), fetch(TASKS[1])) };
    tokio::select! {
        (first, second) = fetched => [first, second],
        never = serve(listener, said) => match never {},
    }
}

/// Says `said` over each connection that comes.
async fn serve(listener: TcpListener, said: Vec<u8>) -> Infallible {
    let (said, mut connections) = (Arc::new(said), JoinSet::new());
    loop {
        let (stream, _) = listener.accept().await.expect("a client comes");
        let said = Arc::clone(&said);
        // A client that has heard enough ends the connection.
        connections.spawn(async move { drop(say(stream, &said).await) });
    }
}

async fn say(mut stream: TcpStream, said: &[u8]) -> std::io::Result<()> {
    let (hello, messages) = said.split_at(said.len().min(HELLO_BYTES));
    stream.set_nodelay(true)?;
    stream.read_exact(&mut [0; HELLO_BYTES]).await?;
    stream.write_all(hello).await?;
    if hello.len() == HELLO_BYTES {
        // Answers that come before both requests were asked would answer one of them at most.
        stream.read_exact(&mut [0; REQUEST_BYTES]).await?;
        let _both = timeout(BOTH_WITHIN, stream.read_exact(&mut [0; REQUEST_BYTES])).await;
    }
    stream.write_all(messages).await?;
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// An input of a server that keeps to the protocol.
#[must_use]
pub fn valid_fetch(seed: u64) -> Vec<u8> {
    let n = &mut Numbers::new(seed);
    let flags = n.below(8) as u8 & !OWN_HELLO_BIT;
    let mut answers: Vec<_> = (1..).zip(TASKS).map(|(id, task)| answer(id, &key(task), flags, n)).collect();
    let mut input = [&[flags], HELLO].concat();
    // The answers to both take turns.
    while !answers.iter().all(Vec::is_empty) {
        let answer = &mut answers[n.below(2)];
        if !answer.is_empty() {
            input.extend(answer.remove(0));
        }
    }
    input
}

/// The messages that answer a request.
fn answer(id: u64, key: &BlockKey, flags: u8, n: &mut Numbers) -> Vec<Vec<u8>> {
    if n.below(8) == 0 {
        return vec![reply(id, 1 + n.below(4) as u16, 0)];
    }
    let frames = n.below(3) as u32;
    let mut messages = vec![reply(id, 0, frames.into())];
    for number in 0..frames {
        let is_packed = flags & PLAIN_BIT == 0 && n.below(2) == 0;
        let frame = sealed(key, number, n.next(), if is_packed { 30 } else { 1 + n.below(3) });
        let packed = if is_packed { pack(Codec::ALL[n.below(2)], &frame) } else { None };
        messages.extend(chunks(id, &frame, packed.as_deref(), n));
    }
    messages
}

/// A frame of a block, as its writer makes it.
fn sealed(key: &BlockKey, number: u32, seed: u64, rows: usize) -> Vec<u8> {
    let mut frame = encode(&line_items(seed, rows)).expect("it can be encoded").to_vec();
    let checksum = xxh3_64_with_seed(&frame[16..], key.seal(number));
    frame[8..16].copy_from_slice(&checksum.to_le_bytes());
    frame
}

/// The messages that a frame comes in.
fn chunks(id: u64, frame: &[u8], packed: Option<&[u8]>, n: &mut Numbers) -> Vec<Vec<u8>> {
    let number = frame.len() as u64 | packed.map_or(0, |packed| (packed.len() as u64) << 32);
    let flags = if packed.is_some() { 2 } else { 0 };
    let bytes = packed.unwrap_or(frame);
    let parts = bytes.chunks(bytes.len().div_ceil(1 + n.below(3)));
    let first = [1].into_iter().chain(std::iter::repeat(0));
    parts
        .zip(first)
        .map(|(part, first)| [&head(5, flags | first, 0, part.len() as u32, id, number)[..], part].concat())
        .collect()
}

/// Changes an input, the same way for the same seed.
pub fn change_fetch(input: &mut Vec<u8>, seed: u64) {
    change_parts(input, seed, valid_fetch, |_, said| over_tcp(said));
}
