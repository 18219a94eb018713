//! The core threads of a task.

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;

/// The core threads that a task's lanes run on; an executor's to provide.
pub trait LaneSpawner: Send + Sync + Debug {
    /// How many lanes there are.
    fn lanes(&self) -> usize;

    /// Runs `work` on the core of `lane`, which is below [`lanes`](Self::lanes). The work is dropped, finished or
    /// not, when the attempt is cancelled.
    fn spawn(&self, lane: usize, work: BoxFuture<'static, ()>);
}

/// The lanes of the running task, as operators find them in their task context.
#[derive(Debug, Clone)]
pub struct Lanes(pub Arc<dyn LaneSpawner>);
