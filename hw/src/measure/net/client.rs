//! The end that measures.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::timed::Timed;
use super::wire::{Answer, GREETING_BYTES, Hello, Kind, LAST, NoGreeting, PING, PING_BYTES, read_welcome};
use super::{CHUNK_BYTES, GREETING_MAX, PING_TIME, PINGS_MAX, SLACK, TIME_MAX};
use crate::measure::{Latency, MeasureError, Progress, Watcher, incompressible, per_second};

/// How long it may take to connect to each address of the peer.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetRequest {
    /// `host:port` of the server.
    pub peer: String,
    /// How long bytes are sent each way; at most [`TIME_MAX`].
    pub time: Duration,
    /// Connections each way, from 1 to [`STREAMS_MAX`](super::STREAMS_MAX).
    pub streams: usize,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NetFigures {
    /// `host:port` of the server.
    pub peer: String,
    /// Its address.
    pub address: SocketAddr,
    /// Connections each way.
    pub streams: usize,
    /// How long bytes were sent each way.
    pub seconds: f64,
    /// To the server, as it counted, all connections together.
    pub send_bytes_per_second: f64,
    /// From the server, all connections together.
    pub receive_bytes_per_second: f64,
    /// Messages of 64 bytes there and back, one at a time, with nothing else under way.
    pub round_trip: Latency,
}

/// Measures latency, then sending, then receiving.
///
/// # Errors
/// When the server cannot be reached, is none, is busy, or breaks off.
pub fn measure(request: &NetRequest, watch: Watcher<'_>) -> Result<NetFigures, MeasureError> {
    let peer = Peer { name: &request.peer, address: find(&request.peer)? };
    let whole = 2 * (request.time.min(TIME_MAX) + SLACK) + PING_TIME + SLACK;
    let (mut control, run) = peer.greet(Hello { kind: Kind::Control, time: request.time, run: 0 }, whole)?;
    watch(Progress { step: "round trips", done: 0.0 });
    let round_trip =
        round_trips(&mut control).map_err(|source| peer.broken("timing small messages", source))?;
    watch(Progress { step: "sending", done: 0.0 });
    let send = peer.transfer(request, run, Kind::Upload)?;
    watch(Progress { step: "receiving", done: 0.0 });
    let receive = peer.transfer(request, run, Kind::Download)?;
    exchange(&mut control, LAST).map_err(|source| peer.broken("ending the measurement", source))?;
    Ok(NetFigures {
        peer: request.peer.clone(),
        address: peer.address,
        streams: request.streams,
        seconds: request.time.as_secs_f64(),
        send_bytes_per_second: send,
        receive_bytes_per_second: receive,
        round_trip,
    })
}

/// The first address that somebody listens at, else the first of all.
fn find(peer: &str) -> Result<SocketAddr, MeasureError> {
    let wrong = |fault: String| MeasureError::Address { address: peer.to_owned(), fault };
    let found: Vec<_> = peer.to_socket_addrs().map_err(|fault| wrong(fault.to_string()))?.collect();
    let answers = |address: &&SocketAddr| TcpStream::connect_timeout(address, CONNECT_MAX).is_ok();
    let first = match found.as_slice() {
        [only] => Some(only),
        several => several.iter().find(answers).or(several.first()),
    };
    first.copied().ok_or_else(|| wrong("it has no address".to_owned()))
}

struct Peer<'a> {
    name: &'a str,
    address: SocketAddr,
}

impl Peer<'_> {
    fn broken(&self, doing: &'static str, source: io::Error) -> MeasureError {
        MeasureError::Broken { peer: self.name.to_owned(), doing, source }
    }

    fn stranger(&self, found: &str) -> MeasureError {
        MeasureError::Stranger { peer: self.name.to_owned(), found: found.to_owned() }
    }

    fn refused(&self, why: &str) -> MeasureError {
        MeasureError::Refused { peer: self.name.to_owned(), why: why.to_owned() }
    }

    /// A connection that has been welcomed and lasts for `time`, and the number of the measurement.
    fn greet(&self, hello: Hello, time: Duration) -> Result<(Timed, u64), MeasureError> {
        let unreachable = |source| MeasureError::Unreachable { peer: self.name.to_owned(), source };
        let stream = TcpStream::connect_timeout(&self.address, CONNECT_MAX).map_err(unreachable)?;
        let mut stream = Timed::new(stream, GREETING_MAX).map_err(unreachable)?;
        let mut answer = [0; GREETING_BYTES];
        let greeted = stream.write_all(&hello.to_bytes()).and_then(|()| stream.read_all(&mut answer));
        greeted.map_err(|fault| self.stranger(&format!("no answer to a greeting ({fault})")))?;
        match read_welcome(&answer) {
            Ok((Answer::Ok, run)) => {
                stream.extend(time);
                Ok((stream, run))
            }
            Ok((Answer::Busy, _)) => Err(MeasureError::Busy { peer: self.name.to_owned() }),
            Ok((Answer::UnknownRun, _)) => Err(self.refused("it has given this measurement up")),
            Ok((Answer::TooMuch, _)) => Err(self.refused("it allows less time or fewer connections")),
            Ok((Answer::OtherForm, _)) | Err(NoGreeting::OtherForm) => {
                Err(self.refused("it is of another release"))
            }
            Err(NoGreeting::Stranger) => Err(self.stranger("another greeting")),
        }
    }

    /// Bytes per second of all connections one way.
    fn transfer(&self, request: &NetRequest, run: u64, kind: Kind) -> Result<f64, MeasureError> {
        let hello = Hello { kind, time: request.time, run };
        let greet = |_| self.greet(hello, request.time + SLACK).map(|(stream, _)| stream);
        let streams = (0..request.streams).map(greet).collect::<Result<Vec<_>, _>>()?;
        let begun = Instant::now();
        let bytes: Result<Vec<u64>, MeasureError> = std::thread::scope(|scope| {
            let threads: Result<Vec<_>, _> = streams
                .into_iter()
                .map(|stream| {
                    let body = move || match kind {
                        Kind::Download => self.receive(stream),
                        _ => self.send(stream, request.time),
                    };
                    std::thread::Builder::new().spawn_scoped(scope, body)
                })
                .collect();
            let threads = threads.map_err(MeasureError::Thread)?;
            threads.into_iter().map(|thread| thread.join().expect("it panics nowhere")).collect()
        });
        Ok(per_second(bytes?.iter().sum(), begun.elapsed()))
    }

    /// Sends for so long, and returns what the server has counted.
    fn send(&self, mut stream: Timed, time: Duration) -> Result<u64, MeasureError> {
        let broken = |source| self.broken("sending", source);
        let mut chunk = vec![0; CHUNK_BYTES];
        incompressible(&mut chunk);
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < time {
            stream.write_all(&chunk).map_err(broken)?;
            sent += chunk.len() as u64;
        }
        let mut counted = [0; 8];
        stream.end_writing().and_then(|()| stream.read_all(&mut counted)).map_err(broken)?;
        match u64::from_le_bytes(counted) {
            counted if counted == sent => Ok(counted),
            counted => Err(MeasureError::Miscounted { peer: self.name.to_owned(), sent, counted }),
        }
    }

    fn receive(&self, mut stream: Timed) -> Result<u64, MeasureError> {
        let (mut chunk, mut received) = (vec![0; CHUNK_BYTES], 0);
        loop {
            match stream.read_some(&mut chunk).map_err(|source| self.broken("receiving", source))? {
                0 => return Ok(received),
                some => received += some as u64,
            }
        }
    }
}

fn round_trips(control: &mut Timed) -> io::Result<Latency> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    // The first wakes both ends up.
    exchange(control, PING)?;
    while times.is_empty() || times.len() < PINGS_MAX && begun.elapsed() < PING_TIME {
        let sent = Instant::now();
        exchange(control, PING)?;
        times.push(sent.elapsed());
    }
    Ok(Latency::of(times).expect("at least one was timed"))
}

/// A small message there, and the same back.
fn exchange(control: &mut Timed, first: u8) -> io::Result<()> {
    let mut message = [0x5a; PING_BYTES];
    message[0] = first;
    control.write_all(&message)?;
    let mut back = [0; PING_BYTES];
    control.read_all(&mut back)?;
    if back == message {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "another message came back"))
    }
}
