//! `firesteel probe`: what is measured, over loopback and on this machine's disk; peers and disks that are of no use. No speed is asserted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Reaped, command, names_in, run, signal};

/// No step of a probe may stand still for longer, with what a busy machine adds.
const BOUND: Duration = Duration::from_secs(40);

/// A server on a free port, and its address.
fn serve(arguments: &[&str]) -> (Reaped, String) {
    let head = ["probe", "net-serve", "--bind", "127.0.0.1:0"];
    let mut server = Reaped(command(&[&head[..], arguments].concat()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("probe ready at ").unwrap().to_owned();
    (server, address)
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

#[track_caller]
fn assert_positive(figures: &Value, keys: &[&str]) {
    for key in keys {
        assert!(figures[key].as_f64().is_some_and(|figure| figure > 0.0), "{key} of {figures}");
    }
}

#[test]
fn the_network_is_measured_both_ways() {
    let (mut server, address) = serve(&["--once"]);
    let figures =
        parsed(&run(&["probe", "net", &address, "--seconds", "0.2", "--streams", "2", "--json"]).printed());
    assert_positive(&figures, &["send_bytes_per_second", "receive_bytes_per_second"]);
    assert_positive(&figures["round_trip"], &["median_us", "p99_us", "count"]);
    assert_eq!((&figures["streams"], figures["peer"].as_str()), (&Value::from(2), Some(address.as_str())));
    assert_eq!(server.0.wait().unwrap().code(), Some(0), "once it was measured, the server ends");
    run(&["probe", "net", &address]).told(3, &[&address, "firesteel probe net-serve"]);
}

#[test]
fn rubbish_and_silence_hinder_no_measurement() {
    let (server, address) = serve(&[]);
    for rubbish in [
        &b"GET / HTTP/1.1\r\nHost: probe\r\n\r\n"[..],
        &[0; 4096],
        b"fs-probe\xff\xff rubbish of another form",
    ] {
        let mut stranger = TcpStream::connect(&address).unwrap();
        stranger.write_all(rubbish).unwrap();
        stranger.set_read_timeout(Some(BOUND)).unwrap();
        let mut answer = Vec::new();
        // It is closed, or reset for what was not read.
        let _ = stranger.read_to_end(&mut answer);
        assert!(answer.len() <= 24, "{answer:?}");
    }
    let _silent = TcpStream::connect(&address).unwrap();
    let told = run(&["probe", "net", &address, "--seconds", "0.1"]).printed();
    assert!(told.contains("from it:") && told.contains("round trip:"), "{told}");
    signal(&server.0, "TERM");
    let mut server = server;
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_peer_that_stands_still_is_given_up_in_time() {
    let still = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = still.local_addr().unwrap().to_string();
    let start = Instant::now();
    run(&["probe", "net", &address]).told(3, &[&address, "no answer to a greeting"]);
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
}

#[test]
fn a_measurement_that_never_comes_is_a_failure() {
    let address = "127.0.0.1:0";
    run(&["probe", "net-serve", "--bind", address, "--once", "--for", "1s"])
        .told(1, &["nobody measured", "--for"]);
    run(&["probe", "net-serve", "--bind", address, "--for", "1s"]).printed();
    let taken = TcpListener::bind(address).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run(&["probe", "net-serve", "--bind", &address]).told(1, &[&address, "--bind"]);
}

#[test]
fn a_disk_is_measured_and_left_as_it_was() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = folder.path().to_str().unwrap();
    let figures = parsed(&run(&["probe", "disk", dir, "--size", "16MiB", "--json"]).printed());
    assert_positive(&figures, &["bytes", "write_bytes_per_second", "read_bytes_per_second"]);
    assert_positive(&figures["read_latency"], &["median_us", "p99_us"]);
    assert_positive(&figures["write_latency"], &["median_us", "p99_us"]);
    assert_eq!(figures["direct"], true);
    assert_eq!(names_in(folder.path()), Vec::<String>::new());
    assert!(run(&["probe", "disk", dir, "--size", "8MiB"]).printed().contains("single read:"));
}

#[test]
fn a_disk_without_room_is_refused() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = folder.path().to_str().unwrap();
    run(&["probe", "disk", dir, "--size", "4000TiB"]).told(1, &["not enough room", dir, "4000TiB", "--size"]);
    run(&["probe", "disk", "/no/such/folder"]).told(1, &["/no/such/folder"]);
    let small = run(&["probe", "disk", dir, "--size", "1MiB"]);
    assert!(small.code == Some(2) && small.stderr.contains("8MiB"), "{}", small.stderr);
    assert_eq!(names_in(folder.path()), Vec::<String>::new());
}

/// Until the folder has something in it.
fn wait_for_files(folder: &Path) {
    let start = Instant::now();
    while names_in(folder).is_empty() {
        assert!(start.elapsed() < BOUND, "{:?}", names_in(folder));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_ends_a_measurement_and_its_file() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = folder.path().to_str().unwrap();
    let mut probe = Reaped(command(&["probe", "disk", dir, "--size", "512MiB"]).spawn().unwrap());
    wait_for_files(folder.path());
    signal(&probe.0, "INT");
    assert_eq!(probe.0.wait().unwrap().code(), Some(130));
    assert_eq!(names_in(folder.path()), Vec::<String>::new());
    let mut said = String::new();
    probe.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("cancelled by Ctrl-C"), "{said}");
}

#[test]
fn memory_is_measured_on_every_node() {
    let figures = parsed(&run(&["probe", "memory", "--json"]).printed());
    let paths = figures["paths"].as_array().unwrap();
    assert!(!paths.is_empty());
    for path in paths {
        assert_positive(path, &["threads", "read_bytes_per_second", "copy_bytes_per_second"]);
    }
    assert!(run(&["probe", "memory"]).printed().contains("MEMORY OF NODE"));
}
