//! What a daemon tells the service manager that started it, such as systemd: that it is ready, how it is, that it stops.
//!
//! The protocol is that of `sd_notify(3)`: lines of `NAME=value` in one datagram to the socket that the environment names. It takes no
//! more than that, so no library is linked for it. There is no watchdog: the cluster notices by its heartbeats who stands still, and
//! to kill a manager that waits for its disk, or a worker whose executors go on, would cost more than it mends.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::UserError;

/// The environment variable that names the socket.
pub const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// How long the service manager may leave its socket full before what it would have been told is dropped.
const SEND_MAX: Duration = Duration::from_secs(1);

/// Tells the service manager of this process, if there is one.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<Arc<Connected>>,
}

#[derive(Debug)]
struct Connected {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// The one that the environment names. Without one nothing is told to anybody.
    ///
    /// # Errors
    /// When what the environment names is no socket.
    pub fn from_environment() -> Result<Self, UserError> {
        match std::env::var(SOCKET_VARIABLE) {
            Ok(name) if !name.is_empty() => Self::at(&name),
            Ok(_) | Err(_) => Ok(Self::default()),
        }
    }

    /// The one that listens at an absolute path, or at an abstract address when the name begins with `@`.
    ///
    /// # Errors
    /// When it is neither, or no socket can be made.
    pub fn at(name: &str) -> Result<Self, UserError> {
        let address = match (name.strip_prefix('@'), name.starts_with('/')) {
            (Some(name), _) => SocketAddr::from_abstract_name(name),
            (None, true) => SocketAddr::from_pathname(name),
            (None, false) => return Err(not_a_socket(name)),
        };
        let connected = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(SEND_MAX))?;
            Ok(Connected { socket, address })
        });
        let connected = connected.map_err(|fault| not_a_socket(name).detail(fault.to_string()))?;
        Ok(Self { socket: Some(Arc::new(connected)) })
    }

    /// This daemon does what it is there for.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\n{}", status_line(status)));
    }

    /// How this daemon is, in a few words for an operator.
    pub fn status(&self, status: &str) {
        self.tell(&status_line(status));
    }

    /// This daemon stops, and has ended after that time at the latest.
    pub fn stopping(&self, status: &str, within: Duration) {
        let micros = within.as_micros();
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\n{}", status_line(status)));
    }

    fn tell(&self, lines: &str) {
        let Some(connected) = &self.socket else { return };
        if let Err(fault) = connected.socket.send_to_addr(lines.as_bytes(), &connected.address) {
            tracing::warn!(%fault, "the service manager does not hear this daemon ({SOCKET_VARIABLE})");
        }
    }
}

/// A status is one line: what follows a line break would be another message.
fn status_line(status: &str) -> String {
    format!("STATUS={}\n", status.replace(['\n', '\r'], " "))
}

fn not_a_socket(name: &str) -> UserError {
    UserError::new(format!("the environment variable {SOCKET_VARIABLE} = '{name}' names no socket")).hint(
        "a service manager sets it, to an absolute path or to @ and an abstract name; take it out elsewhere",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut bytes = [0; 512];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn what_is_told_is_one_datagram_at_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.to_str().unwrap()).unwrap();
        manager.ready("serves\nREADY=0");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=serves READY=0\n");
        manager.stopping("drains", Duration::from_millis(1500));
        assert_eq!(heard(&socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000\nSTATUS=drains\n");
    }

    #[test]
    fn an_abstract_address_does_as_well() {
        let name = format!("firesteel-service-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        ServiceManager::at(&format!("@{name}")).unwrap().status("well");
        assert_eq!(heard(&socket), "STATUS=well\n");
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for name in ["vsock:2:1234", "relative/path", &format!("/{}", "x".repeat(200))] {
            let error = ServiceManager::at(name).unwrap_err();
            assert!(error.message.contains(name) && error.message.contains(SOCKET_VARIABLE), "{error:?}");
        }
    }

    #[test]
    fn a_service_manager_that_is_gone_stops_nobody() {
        ServiceManager::at("/no/such/socket").unwrap().ready("serves");
        ServiceManager::default().ready("serves");
    }
}
