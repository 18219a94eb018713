//! A server, and a client that says anything to it.
//!
//! The bits of the first byte: 1, in shared memory and not over TCP; 2, the greeting is the input's own and not the right one; 4,
//! the blocks lie in files and not in memory.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixStream};
use std::sync::{Arc, LazyLock};

use arrow_array::{BooleanArray, RecordBatch};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockServer, BlockStore, Compression, FileConfig, ServeConfig, Transport,
};

use super::super::frame::u32_at;
use super::answers::Answers;
use super::common::{Numbers, line_items, one_column, store_with};
use super::conversation::{in_shared_memory, over_tcp};
use super::wire::{HEAD, HELLO, cancel, credit, request};
use super::{ENDS_WITHIN, HELLO_BYTES, RUNTIME, change_parts, executor, key, wait_until};

const SHARED_BIT: u8 = 1;
const OWN_HELLO_BIT: u8 = 2;
const FILES_BIT: u8 = 4;

/// The greeting of a client that takes frames packed in every way.
const PACKED_HELLO: &[u8] = b"FSS1\x04\0\x0c\0";
/// The tasks whose blocks there are: of one frame, and of several.
const TASKS: [u32; 2] = [14, 15];
/// Rows of the block of several frames: a frame has 32768 at most.
const MANY_ROWS: usize = 70_000;
/// The number of the request that ends a conversation over TCP: it is the last that there can be.
const LAST_ID: u64 = u64::MAX;
/// Bytes of an offer to share memory.
const OFFER_BYTES: usize = 40;
/// The most credit that a request may have.
const CREDIT_MAX: u64 = 1 << 40;

/// A server and its blocks.
struct Peer {
    server: BlockServer,
    /// Its Unix socket.
    neighbours: unix::SocketAddr,
    _store: Arc<BlockStore>,
}

/// One with its blocks in memory, and one with them in files.
static PEERS: LazyLock<[Peer; 2]> = LazyLock::new(|| [Peer::start(1 << 30), Peer::start(0)]);

impl Peer {
    fn start(memory_max: u64) -> Self {
        let _within = RUNTIME.enter();
        let files = FileConfig { direct: false, compression: Compression::Lz4, ..FileConfig::default() };
        let (store, _, folder) = store_with(1 << 30, memory_max, files);
        let config = ServeConfig {
            identity: Some(executor()),
            // Even small frames come in several chunks.
            chunk_bytes: 512,
            transport: Transport::Shared,
            compression: Compression::Lz4,
            ..ServeConfig::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let server = BlockServer::start(listener, Arc::clone(&store), config).expect("memory can be shared");
        let bits: BooleanArray = (0..MANY_ROWS).map(|row| Some(row % 64 == 0)).collect();
        for (task, batch) in TASKS.into_iter().zip([line_items(1, 40), one_column(Arc::new(bits))]) {
            write(&store, &key(task), &batch);
        }
        wait_until("all is in files", || store.usage().memory_bytes <= memory_max);
        // The files stay open, without a name: nobody removes them at the end of the process.
        drop(folder);
        let neighbours = neighbours(server.local_addr()).expect("it offers to share memory");
        Self { server, neighbours, _store: store }
    }
}

fn write(store: &Arc<BlockStore>, key: &BlockKey, batch: &RecordBatch) {
    let mut writer = store.writer(key.producer, 0, batch.schema(), 1);
    writer.write(batch, &Assignment::Single).expect("there is memory, or a file");
    writer.finish().expect("there is memory, or a file");
    store.commit(&key.producer).expect("it was written");
}

/// The Unix socket that a server offers.
fn neighbours(address: SocketAddr) -> io::Result<unix::SocketAddr> {
    let mut client = TcpStream::connect(address)?;
    client.write_all(b"FSS1\x04\0\x02\0")?;
    let mut answer = [0; HELLO_BYTES + OFFER_BYTES];
    client.read_exact(&mut answer)?;
    let name: String = answer[HELLO_BYTES + 24..].iter().map(|byte| format!("{byte:02x}")).collect();
    unix::SocketAddr::from_abstract_name(format!("firesteel-blocks-{name}"))
}

/// Says to a server what an input has; tells whether the server took it all for right.
///
/// # Panics
/// When the server is at fault.
pub fn run_serve(input: &[u8]) -> bool {
    let Some((&flags, said)) = input.split_first() else { return false };
    let peer = &PEERS[usize::from(flags & FILES_BIT != 0)];
    let mut said = said.to_vec();
    if flags & OWN_HELLO_BIT == 0 && said.len() >= HELLO_BYTES {
        let is_packed = said[6] & 0x0c != 0;
        said[..HELLO_BYTES].copy_from_slice(if is_packed { PACKED_HELLO } else { HELLO });
    }
    let is_taken =
        if flags & SHARED_BIT != 0 { say_in_shared_memory(peer, &said) } else { say_over_tcp(peer, &said) };
    all_is_given_back(peer);
    is_taken.unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock => panic!("the server neither answered nor ended within {ENDS_WITHIN:?}"),
        _ => false,
    })
}

/// In shared memory a server does what it is asked before it sees that no more comes.
fn say_in_shared_memory(peer: &Peer, said: &[u8]) -> io::Result<bool> {
    let mut client = UnixStream::connect_addr(&peer.neighbours)?;
    client.set_read_timeout(Some(ENDS_WITHIN))?;
    client.write_all(said)?;
    client.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    // Without a request nothing but the greeting is to come.
    Ok(answer.len() > HELLO_BYTES)
}

/// Over TCP a last request says that all before it was taken in.
fn say_over_tcp(peer: &Peer, said: &[u8]) -> io::Result<bool> {
    let mut client = TcpStream::connect(peer.server.local_addr())?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(ENDS_WITHIN))?;
    client.write_all(said)?;
    if is_cut(said) {
        client.shutdown(Shutdown::Write)?;
        client.read_to_end(&mut Vec::new())?;
        return Ok(false);
    }
    client.write_all(&request(LAST_ID, CREDIT_MAX, &key(TASKS[1])))?;
    read_greeting(&mut client)?;
    let mut answers = Answers::new(&over_tcp(said), LAST_ID, CREDIT_MAX);
    while !answers.has_ended(LAST_ID) {
        let mut head = [0; HEAD];
        client.read_exact(&mut head)?;
        client.read_exact(&mut vec![0; answers.take(&head)])?;
    }
    Ok(true)
}

/// Reads a greeting, and the offer if there is one.
fn read_greeting(client: &mut impl Read) -> io::Result<()> {
    let mut hello = [0; HELLO_BYTES];
    client.read_exact(&mut hello)?;
    let offer = if hello[6] & 2 != 0 { OFFER_BYTES } else { 0 };
    client.read_exact(&mut vec![0; offer])
}

/// Whether the last message is a part of one only.
fn is_cut(said: &[u8]) -> bool {
    let parts = over_tcp(said);
    let is_cut = |message: &[u8]| {
        let follows = if message.first() == Some(&1) { u32_at(message, 4) as usize } else { 0 };
        message.len() < HEAD || message.len() < HEAD + follows
    };
    said.len() < HELLO_BYTES || parts[1..].last().is_some_and(|message| is_cut(message))
}

/// Once a connection has ended nothing is kept for it.
fn all_is_given_back(peer: &Peer) {
    wait_until("connections end with their clients", || peer.server.connections() == 0);
    assert_eq!(peer.server.leases(), 0, "leases end with their connection");
}

/// An input of a client that keeps to the protocol.
#[must_use]
pub fn valid_serve(seed: u64) -> Vec<u8> {
    let n = &mut Numbers::new(seed);
    let flags = n.below(8) as u8 & !OWN_HELLO_BIT;
    let hello = if n.below(2) == 0 { HELLO } else { PACKED_HELLO };
    let mut input = [&[flags], hello].concat();
    let is_shared = flags & SHARED_BIT != 0;
    let ask = |id: u64, task: u32, n: &mut Numbers| {
        let request = request(id, amount(n), &key(task));
        request[if is_shared { HEAD } else { 0 }..].to_vec()
    };
    let mut requests = 1;
    input.extend(ask(1, TASKS[n.below(2)], n));
    for message in 0..n.below(6) {
        let some = 1 + n.below(requests as usize) as u64;
        input.extend(match n.below(4) {
            // The first lease has the number 0.
            0 if is_shared && flags & FILES_BIT == 0 && message == 0 => release(&[0]),
            0 | 1 if is_shared => release(&[]),
            0 => cancel(some),
            1 => credit(some, amount(n)),
            _ => {
                requests += 1;
                // There is no block of the last of these.
                ask(requests, TASKS[0] + n.below(3) as u32, n)
            }
        });
    }
    input
}

/// Gives leases up.
fn release(leases: &[u64]) -> Vec<u8> {
    let numbers = leases.iter().flat_map(|lease| lease.to_le_bytes());
    [2, leases.len() as u32].into_iter().flat_map(u32::to_le_bytes).chain(numbers).collect()
}

/// Some credit.
fn amount(n: &mut Numbers) -> u64 {
    [1, 4096, 4097, 1 << 20, CREDIT_MAX / 8][n.below(5)]
}

/// Changes an input, the same way for the same seed.
pub fn change_serve(input: &mut Vec<u8>, seed: u64) {
    change_parts(input, seed, valid_serve, |flags, said| {
        if flags & SHARED_BIT != 0 { in_shared_memory(said) } else { over_tcp(said) }
    });
}
