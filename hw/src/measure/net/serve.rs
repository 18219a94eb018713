//! The end that is measured to.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::timed::{STALL_MAX, Timed};
use super::wire::{Answer, GREETING_BYTES, Hello, Kind, LAST, NoGreeting, PING, PING_BYTES, welcome};
use super::{CHUNK_BYTES, GREETING_MAX, PING_TIME, SLACK, STREAMS_MAX, TIME_MAX};
use crate::measure::{MeasureError, incompressible};

/// Connections at a time: those of one measurement, and room for strangers that are about to be refused.
const CONNECTIONS_MAX: usize = 2 * STREAMS_MAX + 16;
/// How long a measurement may take in all.
const RUN_MAX: Duration = Duration::from_secs(2 * (TIME_MAX.as_secs() + SLACK.as_secs()) + 15);
/// How often it is looked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A port at which others may measure.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

/// What came while it was served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Measurements that came to their end.
    pub runs: usize,
    /// Measurements that broke off.
    pub broken: usize,
    /// Connections that were refused: of strangers, or too many.
    pub refused: usize,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address is wrong or taken.
    pub fn bind(address: &str) -> Result<Self, MeasureError> {
        let listen = |source| MeasureError::Listen { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        // A stop must be seen while nobody connects.
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, stop: Arc::new(AtomicBool::new(false)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Set, it ends the serving soon.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Serves for so long, or with `once` until a measurement has come to its end.
    ///
    /// # Errors
    /// When the port fails, or with `once` nobody has measured when the time is over.
    pub fn serve(&self, time: Duration, once: bool) -> Result<Served, MeasureError> {
        let (until, state) = (Instant::now() + time, Arc::new(State::default()));
        while !self.stop.load(Ordering::Relaxed) {
            let served = *state.served.lock();
            if once && served.runs > 0 {
                return Ok(served);
            }
            if Instant::now() >= until {
                return if once {
                    Err(MeasureError::Nobody { address: self.address.to_string(), within: time })
                } else {
                    Ok(served)
                };
            }
            self.accept(&state)?;
        }
        Ok(*state.served.lock())
    }

    fn accept(&self, state: &Arc<State>) -> Result<(), MeasureError> {
        match self.listener.accept() {
            Ok((stream, peer)) => State::take(state, stream, peer),
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(LOOK_EVERY);
                Ok(())
            }
            // Who connected is gone already.
            Err(fault)
                if matches!(fault.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) =>
            {
                Ok(())
            }
            Err(source) => Err(MeasureError::Listen { address: self.address.to_string(), source }),
        }
    }
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    run: Mutex<Option<Run>>,
    served: Mutex<Served>,
}

/// The measurement that is under way.
struct Run {
    number: u64,
    of: IpAddr,
    /// How many connections it has beside the first.
    streams: usize,
}

impl State {
    /// A thread for a connection, while there are not too many.
    fn take(state: &Arc<Self>, stream: TcpStream, peer: SocketAddr) -> Result<(), MeasureError> {
        if state.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            state.connections.fetch_sub(1, Ordering::Relaxed);
            state.served.lock().refused += 1;
            return Ok(());
        }
        let own = Arc::clone(state);
        let body = move || {
            if let Err(fault) = own.connection(stream, peer.ip()) {
                tracing::warn!(%peer, %fault, "a connection broke off");
            }
            own.connections.fetch_sub(1, Ordering::Relaxed);
        };
        std::thread::Builder::new().name("probe".to_owned()).spawn(body).map_err(MeasureError::Thread)?;
        Ok(())
    }

    fn connection(&self, stream: TcpStream, peer: IpAddr) -> io::Result<()> {
        // The listener's not blocking is not meant for it.
        stream.set_nonblocking(false)?;
        let mut stream = Timed::new(stream, GREETING_MAX)?;
        let mut greeting = [0; GREETING_BYTES];
        if let Err(fault) = stream.read_all(&mut greeting) {
            self.served.lock().refused += 1;
            return Err(fault);
        }
        let hello = match Hello::read(&greeting) {
            Ok(hello) => hello,
            Err(wrong) => return self.refuse(stream, wrong),
        };
        let run = match self.admit(hello, peer) {
            Ok(run) => run,
            Err(answer) => {
                self.served.lock().refused += 1;
                return stream.write_all(&welcome(answer, 0));
            }
        };
        let welcomed = stream.write_all(&welcome(Answer::Ok, run));
        match hello.kind {
            Kind::Control => {
                let done = welcomed.and_then(|()| control(&mut stream));
                self.ended(done.is_ok());
                done
            }
            Kind::Upload => welcomed.and_then(|()| upload(stream, hello.time)),
            Kind::Download => welcomed.and_then(|()| download(stream, hello.time)),
        }
    }

    /// One of another form hears so; a stranger hears nothing.
    fn refuse(&self, mut stream: Timed, wrong: NoGreeting) -> io::Result<()> {
        self.served.lock().refused += 1;
        match wrong {
            NoGreeting::OtherForm => stream.write_all(&welcome(Answer::OtherForm, 0)),
            NoGreeting::Stranger => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "it is no greeting of a probe"))
            }
        }
    }

    /// The number of the measurement that the connection belongs to.
    fn admit(&self, hello: Hello, peer: IpAddr) -> Result<u64, Answer> {
        if hello.time > TIME_MAX {
            return Err(Answer::TooMuch);
        }
        let mut run = self.run.lock();
        match (&mut *run, hello.kind) {
            (None, Kind::Control) => {
                let number = RandomState::new().hash_one(peer).max(1);
                *run = Some(Run { number, of: peer, streams: 0 });
                Ok(number)
            }
            (Some(_), Kind::Control) => Err(Answer::Busy),
            (Some(run), _) if run.number == hello.run && run.of == peer => {
                run.streams += 1;
                if run.streams > 2 * STREAMS_MAX { Err(Answer::TooMuch) } else { Ok(run.number) }
            }
            _ => Err(Answer::UnknownRun),
        }
    }

    fn ended(&self, well: bool) {
        *self.run.lock() = None;
        let mut served = self.served.lock();
        if well { served.runs += 1 } else { served.broken += 1 }
    }
}

/// Sends small messages back until the last one. Between them lie the transfers.
fn control(stream: &mut Timed) -> io::Result<()> {
    let over = Instant::now() + RUN_MAX;
    let mut message = [0; PING_BYTES];
    loop {
        wait_for_message(stream, &mut message, over)?;
        stream.extend(STALL_MAX);
        stream.write_all(&message)?;
        match message[0] {
            PING => {}
            LAST => return Ok(()),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown message came")),
        }
    }
}

/// The first byte may take as long as the measurement, the others may not.
fn wait_for_message(stream: &mut Timed, message: &mut [u8], over: Instant) -> io::Result<()> {
    loop {
        let left = over.saturating_duration_since(Instant::now());
        stream.extend(left);
        match stream.read_some(&mut message[..1]) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended early")),
            Ok(_) => break,
            Err(fault) if fault.kind() == io::ErrorKind::TimedOut && Instant::now() < over => {}
            Err(fault) => return Err(fault),
        }
    }
    stream.extend(STALL_MAX + PING_TIME);
    stream.read_all(&mut message[1..])
}

/// Counts what comes, and says how much it was.
fn upload(mut stream: Timed, time: Duration) -> io::Result<()> {
    stream.extend(time + SLACK);
    let (mut chunk, mut counted) = (vec![0; CHUNK_BYTES], 0_u64);
    loop {
        match stream.read_some(&mut chunk)? {
            0 => break,
            some => counted += some as u64,
        }
    }
    stream.write_all(&counted.to_le_bytes())
}

/// Sends for so long.
fn download(mut stream: Timed, time: Duration) -> io::Result<()> {
    stream.extend(time + SLACK);
    let mut chunk = vec![0; CHUNK_BYTES];
    incompressible(&mut chunk);
    let begun = Instant::now();
    while begun.elapsed() < time {
        stream.write_all(&chunk)?;
    }
    stream.end_writing()
}
