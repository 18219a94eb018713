//! SQL and plans.
//!
//! The front end (parser, logical optimizer, expressions, file formats) is Apache DataFusion. This crate adds what a
//! cluster needs: the cut of a physical plan into stages, the plan codec, the operators between stages and between
//! cores, memory by grants, and the session that users talk to. It starts no thread and opens no socket: executors
//! hand it core threads ([`run::LaneSpawner`]), drivers hand it a way to run a job ([`runner::JobRunner`]).
//!
//! ```text
//!   SQL -> logical plan -> physical plan -> stage::cut -> StageGraph -> runner::JobRunner (the driver)
//!                                                                           |
//!                                  executor: run::prepare -> Task::run_lane on each of its core threads
//! ```
//!
//! Invariant: this is the only crate that compiles DataFusion-heavy generic code.

pub mod memory;
pub mod ops;
pub mod run;
pub mod runner;
pub mod session;
mod settings;
pub mod stage;

pub use datafusion;
pub use run as task;
pub use runner::{ClusterShape, JobRunner, JobSpec};
pub use session::{EngineSession, SessionOptions};
pub use settings::Settings;
pub use stage::codec;
pub use stage::graph::{Output, Place, Stage, StageGraph};
