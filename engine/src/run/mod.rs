//! Running a task of a stage: what an executor calls.
//!
//! An executor builds one [`TaskEnv`] for its life. For each attempt it calls [`prepare`] (on a core thread: it decodes
//! and rewrites plans), spawns [`Task::run_lane`] once for each lane on that lane's core, and commits the attempt's
//! blocks in the store when every lane has succeeded.

mod aside;
mod error;
mod inputs;
mod lanes;
mod local_files;
mod metrics;
mod task;
mod write;

pub use error::TaskError;
pub use inputs::{Arrived, ShuffleInputs, StageInput, TaskInputs};
pub use lanes::{LaneSpawner, Lanes};
pub use local_files::LocalFiles;
pub use metrics::{Measure, OperatorMetrics, StageMetrics, TaskMetrics};
pub use task::{StageSource, Task, TaskEnv, TaskSpec, prepare};
