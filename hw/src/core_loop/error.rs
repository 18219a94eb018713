//! What can go wrong with a core thread.

use firesteel_base::UserError;

use crate::memory::MemoryError;
use crate::pin::PinError;

/// Why a core thread could not be started, or did not end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// The system gave no thread.
    #[error("cannot start core thread {name}: {fault}")]
    Spawn {
        /// The thread's name.
        name: String,
        /// What the system says.
        fault: String,
    },
    /// It could not be bound to its CPU.
    #[error("core thread {name}: {fault}")]
    Pin {
        /// The thread's name.
        name: String,
        /// What went wrong.
        fault: PinError,
    },
    /// Its memory could not be bound to its node.
    #[error("core thread {name}: {fault}")]
    Memory {
        /// The thread's name.
        name: String,
        /// What went wrong.
        fault: MemoryError,
    },
    /// Its loop could not be built.
    #[error("core thread {name}: cannot start its loop: {fault}")]
    Loop {
        /// The thread's name.
        name: String,
        /// What the system says.
        fault: String,
    },
    /// It did not end in time: one of its futures does not yield. The thread is left to itself and holds its core.
    #[error(
        "core thread {name} did not end in time: {running} of its futures run, and one of them does not yield"
    )]
    Stuck {
        /// The thread's name.
        name: String,
        /// Futures that have not ended.
        running: u64,
    },
}

/// The core thread has been stopped; the future was not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("core thread {name} has been stopped")]
pub struct CoreStopped {
    /// The thread's name.
    pub name: String,
}

/// A text that names no loop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no core loop: there are 'tokio' and 'tokio-uring'")]
pub struct ParseLoopKindError {
    /// The text.
    pub text: String,
}

impl From<CoreError> for UserError {
    fn from(fault: CoreError) -> Self {
        let error = Self::new(fault.to_string());
        match fault {
            CoreError::Spawn { .. } => {
                error.hint("raise the limit on threads (ulimit -u, or the cgroup's pids.max)")
            }
            CoreError::Pin { .. } => error.hint("give CPUs that the cgroup's cpuset allows, or widen that"),
            CoreError::Memory { .. } => error.hint("give a NUMA node that the cgroup's cpuset.mems allows"),
            CoreError::Loop { .. } => {
                error.hint("`firesteel doctor` tells whether this machine has io_uring")
            }
            CoreError::Stuck { .. } => {
                error.hint("the process ends it; a task that never yields is a fault to report")
            }
        }
    }
}
