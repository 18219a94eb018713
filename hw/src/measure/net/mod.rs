//! The network between two hosts, over TCP: bandwidth each way, and the time of small messages there and back.
//!
//! ```text
//!   measure                                        serve
//!     control connection ── HELLO ──────────────>    one measurement at a time
//!                        <─ WELCOME, its number ─
//!                        <─> small messages ────>    sent back
//!     N uploads          ── bytes, end ─────────>    counted
//!     N downloads        <─ bytes, end ──────────
//!     control connection ── last message ───────>    the next may come
//! ```
//!
//! Both ends give every step a time, so that neither is held by a peer that stands still, and the server refuses who does not greet it.

mod client;
mod serve;
mod timed;
mod wire;

use std::time::Duration;

pub use client::{NetFigures, NetRequest, measure};
pub use serve::{Served, Server};

/// The port that is served unless another is named.
pub const PORT: u16 = 7420;
/// The most connections each way.
pub const STREAMS_MAX: usize = 32;
/// The longest time each way.
pub const TIME_MAX: Duration = Duration::from_secs(60);
/// The longest time for small messages, and how many there are at most.
const PING_TIME: Duration = Duration::from_secs(1);
const PINGS_MAX: usize = 10_000;
/// How long a greeting may take.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// What a transfer may take beside its time, for what is under way when it is over.
const SLACK: Duration = Duration::from_secs(10);
/// Bytes that are handed to the system at a time.
const CHUNK_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests;
