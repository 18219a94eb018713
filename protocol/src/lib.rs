//! The wire: the messages between client, driver, manager, worker and executor, how they convert to and from the
//! types of `base`, and how channels and servers are made.
//!
//! Nothing here decides anything. The wire types are not the types the machines work on: shells convert at the edge.
//!
//! Invariant: only this crate and modules named `shell` know tonic.

pub mod channel;
mod convert;
pub mod managers;
mod secrets;
pub mod token;

/// The generated messages, clients and servers.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("firesteel.v1");
}

pub use convert::{MalformedMessage, required};
