//! The runtime of the control plane. Whatever runtime the caller has, or has none, does not matter to it.

use std::sync::OnceLock;

use firesteel_base::UserError;
use tokio::runtime::{Builder, Handle, Runtime};

const THREADS: usize = 2;

/// The runtime that all sessions of this process share: driver loops, and in local mode manager and executor control.
///
/// # Errors
/// When the system gives it no threads.
pub(crate) fn control_runtime() -> Result<Handle, UserError> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let made =
        Builder::new_multi_thread().worker_threads(THREADS).thread_name("control").enable_all().build();
    let runtime = made.map_err(|fault| {
        UserError::new("the threads of the control plane cannot be started")
            .detail(fault.to_string())
            .hint("is the limit on processes (ulimit -u) reached?")
    })?;
    // Of two that are made at the same time one is kept; the other has nothing to do and goes.
    let spare = RUNTIME.set(runtime).err();
    if let Some(spare) = spare {
        spare.shutdown_background();
    }
    Ok(RUNTIME.get().expect("it was just set").handle().clone())
}
