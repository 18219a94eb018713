//! The worker daemon of a host: it starts executors and cluster-mode drivers as child processes, restarts executors
//! that die, keeps the results of cluster-mode jobs, and reports to the manager.
//!
//! It computes nothing and knows no plan. Losing its manager costs nothing that runs: it registers again as the same
//! incarnation and tells what happened meanwhile.

mod child;
mod config;
mod daemon;
mod drain;
mod driver_child;
mod executor_child;
mod groups;
mod metrics;
mod plan;
pub mod restart;
mod results;
mod run_as;
mod state;

pub use config::{ChildCommand, DriverSettings, WorkerConfig, WorkerLimits};
pub(crate) use daemon::Event;
pub use daemon::{Stops, run};
pub use driver_child::DriverRequest;
pub use groups::{CgroupMode, CgroupSettings};
pub use restart::RestartPolicy;
pub use results::{ResultLimits, ResultStore};
pub use run_as::RunAs;
