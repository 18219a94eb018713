//! A lint of the project: every place where the product may wait for ever is found in the sources, and must be in the table
//! of `docs/waits.md` with what ends it at the latest and who owns that.
//!
//! It reads text and resolves no types, so it goes by names and leans to reporting too much: an `.await` is a wait unless it
//! is of a function of our own that can be called there, whose own awaits are looked at where it is written. What has a clock is left out: what is
//! inside `timeout(..)`, or of a function of the same crate that puts one around what it is given; a `select!` with an arm that
//! is always a clock; `recv_timeout` and the like. A `select!` without one is one wait. A clock does not reach what is spawned
//! inside of it.
//!
//! What it does not see: locks of threads (clippy's `await_holding_lock` keeps them from being held across a wait), loops
//! that spin, what libraries do inside, calls that block and are not among the names in `names.rs`, and awaited methods of
//! libraries that are named as async methods of our own with as many arguments, unless they are among these names too.
//!
//! ```
//! let source = "async fn f(events: Events) { events.recv().await; }";
//! let source = firesteel_waits::Source::parse("hw/src/f.rs", source).unwrap();
//! assert_eq!(firesteel_waits::find(&[source])[0].what, "events.recv");
//! ```

mod blocking;
mod finder;
mod judge;
mod names;
mod own;
mod select;
mod sources;
mod table;

pub use finder::find;
pub use names::CALLS;
pub use sources::{Source, read_sources};
pub use table::{Row, Table};

/// The crates whose waits are looked at, in the order of the table: none is built on one that comes behind it.
pub const CRATES: [&str; 11] = [
    "base", "hw", "metrics", "protocol", "shuffle", "engine", "manager", "executor", "driver", "bench", "cli",
];

/// A place in the sources that may wait for ever, as far as its function tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    /// The file below the project's root.
    pub file: String,
    /// The function, with its type: `Type::name`.
    pub function: String,
    /// What is waited for, short: `events.recv`.
    pub what: String,
    /// The line of the file, from 1.
    pub line: usize,
}
