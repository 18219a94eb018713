//! When two executors may share memory, and where they meet.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// Bytes of a [`Host`] on the wire.
pub(crate) const HOST_BYTES: usize = 24;
/// Bytes of a socket's name on the wire.
pub(crate) const NAME_BYTES: usize = 16;

/// A running kernel and a network namespace in it: processes of one such can connect by a name that has no place in a
/// file system, and so pass each other memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host(pub [u8; HOST_BYTES]);

impl Host {
    /// This one.
    ///
    /// # Errors
    /// Says what could not be read.
    pub fn here() -> Result<Self, String> {
        static HERE: OnceLock<Result<Host, String>> = OnceLock::new();
        HERE.get_or_init(Self::find_out).clone()
    }

    fn find_out() -> Result<Self, String> {
        let mut host = [0; HOST_BYTES];
        host[..16].copy_from_slice(&read_uuid("/proc/sys/kernel/random/boot_id")?);
        let network =
            std::fs::metadata("/proc/self/ns/net").map_err(|error| format!("/proc/self/ns/net: {error}"))?;
        host[16..].copy_from_slice(&network.ino().to_le_bytes());
        Ok(Self(host))
    }
}

/// The name of a Unix socket in the abstract namespace, made up at random: who knows it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SocketName(pub [u8; NAME_BYTES]);

impl SocketName {
    /// A new one.
    ///
    /// # Errors
    /// Says why the kernel gives no random bytes.
    pub fn random() -> Result<Self, String> {
        Ok(Self(read_uuid("/proc/sys/kernel/random/uuid")?))
    }

    /// The name as the kernel knows it, without the leading zero.
    pub fn text(&self) -> String {
        let mut text = "firesteel-blocks-".to_owned();
        for byte in self.0 {
            write!(text, "{byte:02x}").expect("a text takes more text");
        }
        text
    }
}

fn read_uuid(path: &str) -> Result<[u8; 16], String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).map_err(|error| format!("{path}: {error}"))?;
    Ok(number.to_be_bytes())
}

/// What the kernel says about huge pages for shared memory.
pub(crate) fn huge_pages() -> String {
    let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let chosen = text.split(['[', ']']).nth(1).unwrap_or("unknown");
    let are_used = matches!(chosen, "always" | "within_size" | "advise" | "force");
    let verdict = if are_used { "huge pages where there are free ones" } else { "no huge pages" };
    format!("{verdict} (shmem_enabled is {chosen})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_knows_itself_and_names_are_told_apart() {
        assert_eq!(Host::here().unwrap(), Host::here().unwrap());
        let (one, other) = (SocketName::random().unwrap(), SocketName::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(SocketName([0xab; 16]).text(), format!("firesteel-blocks-{}", "ab".repeat(16)));
        assert!(read_uuid("/proc/version").is_err() && read_uuid("/nowhere").is_err());
    }
}
