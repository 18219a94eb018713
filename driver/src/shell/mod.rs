//! The driver's shell: one loop a session, on a small runtime of the library's own, which owns the machines of all
//! running jobs and the connections to the manager and to executors.
//!
//! ```text
//!   session, result streams ── commands ──┐                    ┌── manager: DriverSession
//!   manager, executors ──────── messages ─┼──► driver loop ────┤
//!   timers ───────────────────────────────┘  job machines      └── executors: Attach
//! ```
//!
//! The loop never waits for anybody but its own inbox. No query work runs here: plans are encoded by whoever submits
//! them, results are read by whoever asked.

mod cluster;
mod control;
mod convert;
mod drain;
mod effects;
mod executor_link;
mod heartbeat;
mod links;
mod manager_link;
mod manager_messages;
mod messages;
mod meter;
mod outgoing;
mod peers;
mod run;
mod running;
mod runtime;

pub(crate) use control::{Commands, Control, LoopConfig, start};
pub use convert::{close_job, wire_demand, wire_output, wire_stages};
pub(crate) use messages::{Command, JobRequest, JobView, Member, PreparedStage, RunId};
pub use meter::Meter;
pub(crate) use peers::{ManagerAt, Peers};
pub(crate) use runtime::control_runtime;
