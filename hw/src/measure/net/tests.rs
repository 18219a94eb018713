//! Both ends in one process, over loopback; and peers that do not keep to what was agreed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::timed::STALL_MAX;
use super::*;
use crate::measure::MeasureError;

fn request(peer: impl ToString, streams: usize) -> NetRequest {
    NetRequest { peer: peer.to_string(), time: Duration::from_millis(100), streams }
}

fn measured(peer: impl ToString, streams: usize) -> Result<NetFigures, MeasureError> {
    measure(&request(peer, streams), &|_| ())
}

/// Serves while `work` runs, and returns what came as well.
fn serving<T>(work: impl FnOnce(String) -> T) -> (T, Served) {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let (address, stop) = (server.address().to_string(), server.stop_flag());
    let thread = std::thread::spawn(move || server.serve(Duration::from_secs(60), false).unwrap());
    let done = work(address);
    stop.store(true, Ordering::Relaxed);
    (done, thread.join().unwrap())
}

#[test]
fn both_ways_and_latency_are_measured() {
    let (figures, served) = serving(|address| measured(address, 3).unwrap());
    assert!(figures.send_bytes_per_second > 0.0 && figures.receive_bytes_per_second > 0.0, "{figures:?}");
    assert!(figures.round_trip.median_us > 0.0 && figures.round_trip.count > 0, "{figures:?}");
    assert_eq!((figures.streams, served.broken, served.refused), (3, 0, 0));
}

#[test]
fn once_ends_with_the_first_measurement() {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let address = server.address();
    let thread = std::thread::spawn(move || server.serve(Duration::from_secs(60), true));
    measured(address, 1).unwrap();
    assert_eq!(thread.join().unwrap().unwrap().runs, 1);
}

#[test]
fn nobody_within_the_time_is_told() {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let fault = server.serve(Duration::from_millis(120), true).unwrap_err();
    assert!(matches!(fault, MeasureError::Nobody { .. }), "{fault}");
    assert_eq!(server.serve(Duration::from_millis(10), false).unwrap(), Served::default());
}

#[test]
fn strangers_are_refused_and_hinder_nobody() {
    let ((figures, _silent), served) = serving(|address| {
        let mut stranger = TcpStream::connect(&address).unwrap();
        stranger.write_all(&[0x16; 400]).unwrap();
        stranger.set_read_timeout(Some(STALL_MAX)).unwrap();
        // It is closed, or reset for what it had not read.
        assert!(matches!(stranger.read(&mut [0; 1]), Ok(0) | Err(_)));
        let silent = TcpStream::connect(&address).unwrap();
        (measured(address, 1).unwrap(), silent)
    });
    assert!(figures.send_bytes_per_second > 0.0);
    assert_eq!(served.refused, 1, "{served:?}");
}

#[test]
fn one_measurement_at_a_time() {
    let (fault, served) = serving(|address| {
        let hello = wire::Hello { kind: wire::Kind::Control, time: Duration::ZERO, run: 0 };
        let mut first = TcpStream::connect(&address).unwrap();
        first.write_all(&hello.to_bytes()).unwrap();
        let mut answer = [0; wire::GREETING_BYTES];
        first.read_exact(&mut answer).unwrap();
        let fault = measured(&address, 1).unwrap_err();
        // A stream of no measurement is refused as well.
        let mut lost = TcpStream::connect(&address).unwrap();
        let hello = wire::Hello { kind: wire::Kind::Upload, time: Duration::ZERO, run: 1 };
        lost.write_all(&hello.to_bytes()).unwrap();
        lost.read_exact(&mut answer).unwrap();
        assert_eq!(wire::read_welcome(&answer), Ok((wire::Answer::UnknownRun, 0)));
        drop(first);
        let again = Instant::now();
        while measured(&address, 1).is_err() {
            assert!(
                again.elapsed() < Duration::from_secs(10),
                "a measurement that broke off holds the server"
            );
        }
        fault
    });
    assert!(matches!(fault, MeasureError::Busy { .. }), "{fault}");
    assert_eq!(served.broken, 1, "{served:?}");
}

#[test]
fn too_long_is_refused() {
    let (fault, _) = serving(|address| {
        let long = NetRequest { time: TIME_MAX + Duration::from_secs(1), ..request(address, 1) };
        measure(&long, &|_| ()).unwrap_err()
    });
    assert!(matches!(fault, MeasureError::Refused { .. }), "{fault}");
}

#[test]
fn what_is_no_server_is_told_of() {
    let rubbish = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = rubbish.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = rubbish.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").unwrap();
    });
    let fault = measured(address, 1).unwrap_err();
    assert!(matches!(fault, MeasureError::Stranger { .. }), "{fault}");
    thread.join().unwrap();
    // Nobody listens there any more.
    let fault = measured(address, 1).unwrap_err();
    assert!(matches!(fault, MeasureError::Unreachable { .. }), "{fault}");
    let fault = measured("nonsense", 1).unwrap_err();
    assert!(matches!(fault, MeasureError::Address { .. }), "{fault}");
}

#[test]
fn a_peer_that_stands_still_is_given_up() {
    let still = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = still.local_addr().unwrap();
    let start = Instant::now();
    // The system takes the connection; nobody ever reads it.
    let fault = measured(address, 1).unwrap_err();
    let took = start.elapsed();
    assert!(fault.to_string().contains("no answer to a greeting"), "{fault}");
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(30), "{took:?}");
}
