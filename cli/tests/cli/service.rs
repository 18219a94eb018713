//! What daemons tell the service manager that started them.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Reaped, command, run, signal};

/// Longer than anything takes that is waited for here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service manager: a socket in a folder of its own.
struct ServiceManager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl ServiceManager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { folder, socket }
    }

    fn start(&self, arguments: &[&str]) -> Reaped {
        let mut daemon = command(arguments);
        daemon.env("NOTIFY_SOCKET", self.folder.path().join("notify")).env("FIRESTEEL_WORKER_DRAIN", "2s");
        Reaped(daemon.env("FIRESTEEL_WORKER_PIN", "false").spawn().unwrap())
    }

    /// The next thing that a daemon tells.
    fn heard(&self) -> String {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    /// The first thing from now on that begins so.
    fn heard_of(&self, begins: &str) -> String {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let heard = self.heard();
            if heard.starts_with(begins) {
                return heard;
            }
        }
        panic!("nothing was told that begins with {begins}")
    }
}

#[test]
fn a_manager_is_ready_when_it_serves_and_says_that_it_stops() {
    let service = ServiceManager::new();
    let mut manager = service.start(&["manager", "--insecure", "--bind", "127.0.0.1:0"]);
    let told = service.heard();
    let address = told.strip_prefix("READY=1\nSTATUS=serves at ").unwrap_or_else(|| panic!("{told}")).trim();
    assert!(run(&["nodes", "--manager", address]).printed().contains("no workers have joined"));
    signal(&manager.0, "TERM");
    assert!(service.heard().starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\n"));
    assert_eq!(manager.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_worker_is_ready_when_it_is_registered_and_asks_for_the_time_that_draining_takes() {
    let service = ServiceManager::new();
    let scratch = service.folder.path().join("scratch");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut arguments =
        vec!["worker", "--insecure", "--bind", "127.0.0.1:0", "--manager", &free, "--cores", "1"];
    arguments.extend(["--memory", "256MiB", "--scratch", scratch.to_str().unwrap()]);
    let mut worker = service.start(&arguments);
    assert!(service.heard().starts_with(&format!("STATUS=no manager at {free}")));
    let mut manager = Reaped(command(&["manager", "--insecure", "--bind", &free]).spawn().unwrap());
    BufReader::new(manager.0.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    assert_eq!(service.heard(), format!("READY=1\nSTATUS=registered at {free}, executors: 1\n"));
    signal(&worker.0, "TERM");
    // The two seconds of worker.drain, and what ending takes beside.
    let told = service.heard_of("STOPPING=1\n");
    assert!(
        told.contains("EXTEND_TIMEOUT_USEC=32000000\n") && told.contains("is drained, for 2 s"),
        "{told}"
    );
    assert_eq!(worker.0.wait().unwrap().code(), Some(0));
}

#[test]
fn what_names_no_socket_is_told_before_anything_is_started() {
    let daemon = ["manager", "--insecure", "--bind", "127.0.0.1:0"];
    let ended = command(&daemon).env("NOTIFY_SOCKET", "nonsense").output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("NOTIFY_SOCKET = 'nonsense' names no socket"), "{said}");
}
