//! The driver: the user's library, and the machine that runs a job.
//!
//! ```text
//!   Session ── SQL, DataFrames ──► engine (plans, cuts into stages) ──► runner ──► shell: one loop a session
//!      ▲                                                                              │ events   ▲ effects
//!      └────────────── results (the last consumer of the job's blocks) ◄──────────────┴─ machine ┘
//! ```
//!
//! It is *not* where rows are computed: executors do that, in local mode too, where one lives in this process.
//!
//! Invariants: what decides ([`machine`]) has no async, clock, randomness or channel; no query work runs on the control
//! plane's runtime, and the caller's runtime does not matter to it; a session that ends gives back every slot and frees
//! every block.
//!
//! ```
//! use firesteel_driver::{LocalOptions, Session};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let options = LocalOptions { cores: Some(1), memory: Some("256MiB".parse()?), ..LocalOptions::default() };
//! let session = Session::local(options).await?;
//! let frame = session.sql("select v % 3 as k, count(*) as n from (values (1), (2), (4)) as t(v) group by 1").await?;
//! assert_eq!(frame.collect().await?.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
//! session.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

pub mod in_process;
pub mod machine;
mod options;
mod progress;
mod results;
mod runner;
mod session;
mod shell;

pub use in_process::InProcessWorker;
pub use options::{ConnectOptions, LocalOptions};
pub use progress::{JobProgress, Measured, Phase, StageProgress};
pub use session::Session;
pub use shell::Meter;

/// What machines say as it goes over the wire, for whoever joins them without a shell.
pub mod wire {
    pub use crate::shell::{close_job, wire_demand, wire_output, wire_stages};
}
