//! The runtime that commands wait on: gRPC, timers and signals. Queries run on executors' core threads, never here.

use std::time::Duration;

use firesteel_base::UserError;
use tokio::runtime::Runtime;

use crate::exit::Failure;

/// What is still running when a command is done gets this long to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

const THREADS: usize = 2;

/// A runtime for one command.
pub fn build() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|fault| UserError::new("cannot start threads").detail(fault.to_string()).into())
}

/// Runs a command to its end.
pub fn run<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = build()?;
    let outcome = runtime.block_on(command);
    end(runtime);
    outcome
}

/// Ends a command's runtime.
pub fn end(runtime: Runtime) {
    runtime.shutdown_timeout(SHUTDOWN_MAX);
}
