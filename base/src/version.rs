//! Versions: of this build, and of what goes over the wire.

/// The release, as in `firesteel --version`.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The version of the messages between client, driver, manager, worker and executor. Two processes work together
/// when theirs are equal.
pub const WIRE: u32 = 4;
