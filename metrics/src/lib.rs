//! What the daemons tell Prometheus.
//!
//! ```text
//!   table    every metric: its name, type, labels, and what it says      ─► docs/metrics.md
//!   page     the values at one moment, as text
//!   serve    GET /metrics, GET /healthz  ◄─ a Source: the manager's shell, the worker's daemon
//! ```
//!
//! Nothing is registered and nothing is kept here: a [`Source`] looks at its state when it is asked, and puts what it sees on a
//! [`Page`]. What must be counted as it happens its owner counts in atomics, once for a batch or a call and never for a row.
//!
//! Invariants:
//! - A label has few values that the cluster's operator chose. No job, user, address or text of a query is one.
//! - A page is made at most once in [`FRESH`](serve::FRESH), however many ask.
//! - A client that says nothing, half of something or too much, or comes a thousand times, takes room from nobody for longer than
//!   [`CONNECTION_MAX`](serve::CONNECTION_MAX).

mod histogram;
mod page;
mod process;
mod reference;
mod serve;
pub mod table;

pub use histogram::Histogram;
pub use page::Page;
pub use process::{Storage, put_process, storage_of};
pub use reference::reference_table;
pub use serve::{CONNECTION_MAX, FRESH, Health, Served, Source, open};
pub use table::{Kind, Metric, Role};
