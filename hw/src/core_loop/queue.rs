//! The run queue of a core thread, as others see it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{BoxFuture, LocalBoxFuture};
use tokio::sync::mpsc;

use super::CoreStopped;
use crate::sync::AtomicU64;

/// What a core thread runs.
pub(super) enum Work {
    /// This.
    Run(BoxFuture<'static, ()>),
    /// What this makes on the thread.
    Make(Make),
}

/// What is sent to a core thread.
enum Order {
    Work(Work),
    /// Take no more, let what runs go on for so long, then abort it and end.
    Stop(Duration),
}

/// Makes, on the core thread, a future that never leaves it.
pub(super) type Make = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// Puts futures on a core thread's run queue, from any thread.
#[derive(Clone)]
pub struct CoreHandle {
    name: Arc<str>,
    orders: mpsc::UnboundedSender<Order>,
    counts: Arc<Counts>,
}

/// How busy a core thread is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreUsage {
    /// Futures that wait to be taken up.
    pub queued: u64,
    /// Futures that were taken up and have not ended.
    pub running: u64,
    /// Futures that have ended, by themselves, by a panic or by being aborted.
    pub ended: u64,
    /// How many of those panicked.
    pub panicked: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    sent: AtomicU64,
    taken: AtomicU64,
    ended: AtomicU64,
    panicked: AtomicU64,
}

impl CoreHandle {
    pub(super) fn new(name: &str) -> (Self, Orders) {
        let (orders, receiver) = mpsc::unbounded_channel();
        (Self { name: name.into(), orders, counts: Arc::default() }, Orders { receiver, drain: None })
    }

    /// Runs `work` on the core thread. The queue has no bound: it holds what was leased to this core, and who leases
    /// bounds that.
    ///
    /// # Errors
    /// When the core thread has been stopped; the future is dropped then.
    pub fn spawn(&self, work: BoxFuture<'static, ()>) -> Result<(), CoreStopped> {
        self.order(Work::Run(work))
    }

    /// Runs what `make` makes on the core thread. The future never leaves that thread, so it may hold what cannot: ring
    /// operations, `Rc`.
    ///
    /// # Errors
    /// When the core thread has been stopped; `make` is dropped then.
    pub fn spawn_with<F>(&self, make: impl FnOnce() -> F + Send + 'static) -> Result<(), CoreStopped>
    where
        F: Future<Output = ()> + 'static,
    {
        self.order(Work::Make(Box::new(|| Box::pin(make()))))
    }

    fn order(&self, work: Work) -> Result<(), CoreStopped> {
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        self.orders.send(Order::Work(work)).map_err(|_| {
            self.counts.sent.fetch_sub(1, Ordering::Relaxed);
            CoreStopped { name: self.name.to_string() }
        })
    }

    /// The core thread's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How busy the core thread is.
    #[must_use]
    pub fn usage(&self) -> CoreUsage {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // Read against the order in which they are counted, so that no difference is negative.
        let (panicked, ended) = (read(&self.counts.panicked), read(&self.counts.ended));
        let (taken, sent) = (read(&self.counts.taken), read(&self.counts.sent));
        CoreUsage {
            queued: sent.saturating_sub(taken),
            running: taken.saturating_sub(ended),
            ended,
            panicked,
        }
    }

    /// Asks the thread to end; false when it has ended already.
    pub(super) fn order_stop(&self, drain: Duration) -> bool {
        self.orders.send(Order::Stop(drain)).is_ok()
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }
}

impl fmt::Debug for CoreHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoreHandle({}, {:?})", self.name, self.usage())
    }
}

/// The end of the queue at the core thread.
pub(super) struct Orders {
    receiver: mpsc::UnboundedReceiver<Order>,
    /// How long work may go on, once the thread was stopped.
    drain: Option<Duration>,
}

impl Orders {
    /// The next work. None when the thread shall end, or nobody can send any more; what was accepted before has been given out
    /// then, and all that comes later is refused. Nothing is lost when it is not waited for to its end.
    pub(super) async fn next(&mut self) -> Option<Work> {
        loop {
            match self.receiver.recv().await? {
                Order::Work(work) => return Some(work),
                Order::Stop(drain) => {
                    // A second stop: the first one's drain goes on.
                    self.drain.get_or_insert(drain);
                    self.receiver.close();
                }
            }
        }
    }

    /// How long work may go on after the last.
    pub(super) fn drain(&self) -> Duration {
        self.drain.unwrap_or_default()
    }
}

impl Counts {
    pub(super) fn taken(self: &Arc<Self>) -> Running {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Running { counts: Arc::clone(self) }
    }
}

/// Counts a future as running until it is dropped, however that comes.
pub(super) struct Running {
    counts: Arc<Counts>,
}

impl Running {
    pub(super) fn panicked(&self) {
        self.counts.panicked.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counts.ended.fetch_add(1, Ordering::Relaxed);
    }
}
