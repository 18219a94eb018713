//! Who a process is: certificates and keys, the role that a certificate gives, and what TLS is set up with.
//!
//! ```text
//!   settings ──► Files ──► Pem ──► Security ──► rustls' configurations ──► gRPC (protocol), blocks (shuffle)
//!                           │ └──► handed over to executors and drivers, on their standard input
//!   firesteel certs ──► Authority ──► those files
//! ```
//!
//! A certificate says its bearer's role in a URI among its names: `firesteel://CLUSTER/manager`, `/worker` or `/client/USER`
//! ([`Identity`]). Who may call what is said beside the calls, in `protocol`.
//!
//! Invariants:
//! - Files of certificates and keys are read here and nowhere else.
//! - A key is never printed, logged, or given on a command line.
//! - Every connection is verified anew: sessions of TLS are not resumed.

mod authority;
mod certificate;
mod files;
mod identity;
mod security;
mod tls;

pub use authority::{Authority, Issued, Lifetime, Request};
pub use certificate::{Certificate, read_chain};
pub use files::{Files, Pem, check_private};
pub use identity::{Identity, Role};
pub use security::{Handover, Reach, Security};
pub use tls::Tls;

#[cfg(test)]
mod tests;
