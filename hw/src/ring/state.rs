//! What the handles, the futures and the driver of a ring share.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::file::{Table, Target};
use super::operation::Outcome;
use super::setup::Built;
use super::slab::{Direction, Flight, Key, Next, Slab, Transfer};
use super::{RingConfig, RingCounts, RingReport};
use crate::pages::PagePool;

/// How long the kernel may hold on to what was cancelled before its memory is left to it.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// Rounds of submitting and collecting before other futures of the thread get their turn.
const ROUNDS_MAX: usize = 8;
/// The place of the registered pool in the ring's table of buffers.
const POOL: u16 = 0;

/// A ring and all that belongs to it.
pub(super) struct Shared {
    pub(super) report: RingReport,
    pub(super) files: Table,
    /// As many permits as operations may be in flight; each operation has one until the kernel has let go of it.
    pub(super) limit: Arc<Semaphore>,
    state: RefCell<State>,
    handles: Cell<usize>,
    driver: RefCell<Option<Waker>>,
}

struct State {
    ring: IoUring,
    // Dropped after the ring with which it is registered.
    pool: Option<PagePool>,
    flights: Slab<Flight>,
    /// Flights that the kernel has, or is about to get.
    running: usize,
    batch: usize,
    counts: RingCounts,
    ended: bool,
}

impl Shared {
    pub(super) fn new(built: Built, config: &RingConfig) -> Rc<Self> {
        let state = State {
            ring: built.ring,
            pool: built.pool,
            flights: Slab::new(),
            running: 0,
            batch: config.batch as usize,
            counts: RingCounts::default(),
            ended: false,
        };
        Rc::new(Self {
            report: built.report,
            files: Table::new(built.files),
            limit: Arc::new(Semaphore::new(config.depth as usize)),
            state: RefCell::new(state),
            handles: Cell::new(0),
            driver: RefCell::default(),
        })
    }

    pub(super) fn add_handle(&self) {
        self.handles.set(self.handles.get() + 1);
    }

    pub(super) fn drop_handle(&self) {
        self.handles.set(self.handles.get() - 1);
        self.wake_driver();
    }

    /// Whether nobody can start an operation any more and none is in flight.
    pub(super) fn is_over(&self) -> bool {
        self.handles.get() == 0 && self.in_flight() == 0
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state.borrow().running
    }

    /// Places that the slab has ever had.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.state.borrow().flights.capacity()
    }

    pub(super) fn counts(&self) -> RingCounts {
        self.state.borrow().counts
    }

    pub(super) fn register(&self, file: &File) -> Option<u32> {
        self.files.put(&self.state.borrow().ring, file)
    }

    /// Takes a file out of the table: when the driver comes to it, or at once when there is none any more.
    pub(super) fn give_back(&self, place: u32) {
        self.files.give_back(place);
        match self.state.try_borrow() {
            Ok(state) if state.ended => self.files.sweep(&state.ring),
            _ => self.wake_driver(),
        }
    }

    pub(super) fn set_driver(&self, waker: &Waker) {
        self.driver.borrow_mut().get_or_insert_with(|| waker.clone()).clone_from(waker);
    }

    pub(super) fn wake_driver(&self) {
        if let Some(waker) = &*self.driver.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Queues transfers, each linked with the one behind it. In a ring that has ended they are cancelled at once.
    pub(super) fn start(&self, transfers: Vec<(Transfer, OwnedSemaphorePermit)>) -> Vec<Key> {
        let mut state = self.state.borrow_mut();
        let last = transfers.len() - 1;
        let begin = |(index, (transfer, permit))| state.begin(transfer, permit, index < last);
        let keys = transfers.into_iter().enumerate().map(begin).collect();
        if state.is_batch_full() {
            state.submit_or_end();
        }
        drop(state);
        self.wake_driver();
        keys
    }

    /// What an operation has come to.
    pub(super) fn poll(&self, key: Key, cx: &Context<'_>) -> Poll<Outcome> {
        let mut state = self.state.borrow_mut();
        let flight = state.flights.get_mut(key).expect("its future alone removes it");
        let Some(result) = flight.result.take() else {
            flight.waker.get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            return Poll::Pending;
        };
        let flight = state.flights.remove(key).expect("it was there above");
        let result = result.map_err(|source| flight.transfer.fault(source));
        Poll::Ready((result, flight.transfer.into_pages()))
    }

    /// Nobody waits for the operation any more: cancels it, and keeps what it owns until the kernel has let go of it.
    pub(super) fn abandon(&self, key: Key) {
        let mut state = self.state.borrow_mut();
        let Some(flight) = state.flights.get_mut(key) else { return };
        if flight.result.is_some() {
            let over = state.flights.remove(key);
            // Its buffer may wake somebody: not while the state is borrowed.
            drop(state);
            drop(over);
            return;
        }
        flight.abandoned = true;
        flight.waker = None;
        state.counts.abandoned += 1;
        state.push(&opcode::AsyncCancel::new(key.user_data()).build().user_data(Key::CANCELLING));
        drop(state);
        self.wake_driver();
    }

    /// Submits what is queued and notes what is done.
    ///
    /// # Errors
    /// When the kernel takes no more submissions.
    pub(super) fn turn(&self) -> io::Result<()> {
        for _ in 0..ROUNDS_MAX {
            let mut state = self.state.borrow_mut();
            self.files.sweep(&state.ring);
            state.submit()?;
            let done = state.collect();
            let (nothing, left) = (done.completions == 0, state.is_queued());
            drop(state);
            done.tell();
            if nothing {
                // What the kernel does not take now it may take when the other futures had their turn.
                if left {
                    self.wake_driver();
                }
                return Ok(());
            }
        }
        self.wake_driver();
        Ok(())
    }

    /// Cancels what is in flight, waits until the kernel has let go of it, and takes no more. What it holds on to for too
    /// long is leaked, for it may still write there.
    pub(super) fn end(&self) {
        let mut state = self.state.borrow_mut();
        if mem::replace(&mut state.ended, true) {
            return;
        }
        let until = Instant::now() + END_PATIENCE;
        state.cancel_all();
        let mut over = Vec::new();
        while state.running > 0 && Instant::now() < until {
            if let Err(fault) = state.wait(until) {
                tracing::error!(%fault, "a ring that ends cannot wait for its operations");
                break;
            }
            over.push(state.collect());
        }
        state.leak_running();
        self.files.sweep(&state.ring);
        drop(state);
        over.into_iter().for_each(Done::tell);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end();
    }
}

/// What came of collecting: whom to wake and what to drop, once the state is not borrowed any more.
#[derive(Default)]
struct Done {
    wakers: Vec<Waker>,
    abandoned: Vec<Flight>,
    completions: usize,
}

impl Done {
    fn tell(self) {
        drop(self.abandoned);
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn begin(&mut self, transfer: Transfer, permit: OwnedSemaphorePermit, linked: bool) -> Key {
        let result = self.ended.then(|| Err(io::Error::from_raw_os_error(libc::ECANCELED)));
        let flight = Flight { transfer, result, waker: None, abandoned: false, _permit: permit };
        let key = self.flights.insert(flight);
        if !self.ended {
            self.running += 1;
            self.queue(key, if linked { Flags::IO_LINK } else { Flags::empty() });
        }
        key
    }

    /// Queues what is still to be done of a transfer.
    fn queue(&mut self, key: Key, flags: Flags) {
        let flight = self.flights.get_mut(key).expect("it was just put or found there");
        let entry = entry(&mut flight.transfer, self.pool.as_ref());
        self.push(&entry.flags(flags).user_data(key.user_data()));
    }

    fn push(&mut self, entry: &Entry) {
        if self.ring.submission().is_full() {
            self.submit_or_end();
        }
        self.counts.submitted += 1;
        // SAFETY: the entry names memory and a file that its flight in the slab owns until its completion was seen, or none;
        // the flight stays at least until then, also when the ring is dropped.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the queue has two places for each operation that may be in flight");
    }

    fn is_queued(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    fn is_batch_full(&mut self) -> bool {
        self.ring.submission().len() >= self.batch
    }

    /// Submits early. What the kernel does not take stays queued; the driver submits again and sees a lasting fault.
    fn submit_or_end(&mut self) {
        if let Err(fault) = self.submit() {
            tracing::warn!(%fault, "a ring cannot submit now");
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        let mut queue = self.ring.submission();
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return Ok(());
        }
        queue.sync();
        drop(queue);
        self.counts.enters += 1;
        match self.ring.submit() {
            Ok(_) => Ok(()),
            // Completions must be collected first, or the kernel is short of memory for now.
            Err(fault) if is_passing(&fault) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    fn wait(&mut self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
        match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&left)) {
            Err(fault) if !is_passing(&fault) && fault.raw_os_error() != Some(libc::ETIME) => Err(fault),
            _ => Ok(()),
        }
    }

    /// Notes all completions there are.
    fn collect(&mut self) -> Done {
        let mut done = Done::default();
        loop {
            let next = self.ring.completion().next();
            let Some(completion) = next else { return done };
            done.completions += 1;
            if completion.user_data() != Key::CANCELLING {
                self.complete(Key::from_user_data(completion.user_data()), completion.result(), &mut done);
            }
        }
    }

    fn complete(&mut self, key: Key, result: i32, done: &mut Done) {
        let Some(flight) = self.flights.get_mut(key).filter(|flight| flight.result.is_none()) else {
            self.counts.unknown += 1;
            tracing::error!(?key, result, "the kernel completed an operation that is not in flight");
            return;
        };
        let next = flight.transfer.note(result);
        let over = match next {
            // What nobody waits for need not be gone on with.
            Next::GoOn if !flight.abandoned && !self.ended => {
                self.counts.continued += 1;
                return self.queue(key, Flags::empty());
            }
            Next::GoOn => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            Next::Over(result) => result,
        };
        self.running -= 1;
        if flight.abandoned {
            done.abandoned.extend(self.flights.remove(key));
        } else {
            flight.result = Some(over);
            done.wakers.extend(flight.waker.take());
        }
    }

    fn cancel_all(&mut self) {
        let running = |flight: &mut Flight| flight.result.is_none();
        for key in self.flights.keys().collect::<Vec<_>>() {
            if self.flights.get_mut(key).is_some_and(running) {
                self.push(&opcode::AsyncCancel::new(key.user_data()).build().user_data(Key::CANCELLING));
            }
        }
    }

    fn leak_running(&mut self) {
        if self.running > 0 {
            tracing::error!(
                operations = self.running,
                "the kernel does not let go of operations of a ring that has ended: their memory is left to it"
            );
            mem::forget(mem::replace(&mut self.flights, Slab::new()));
            mem::forget(self.pool.clone());
        }
    }
}

/// Whether a submission may be tried again later.
fn is_passing(fault: &io::Error) -> bool {
    matches!(fault.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR))
}

/// What tells the kernel to do the rest of a transfer.
fn entry(transfer: &mut Transfer, pool: Option<&PagePool>) -> Entry {
    let registered = pool.is_some_and(|pool| transfer.pages.is_of(pool));
    let (done, at) = (transfer.done, transfer.at + transfer.done as u64);
    // One operation moves 2 GiB at most; what is more comes back short and is gone on with.
    let len = u32::try_from(transfer.pages.len() - done).unwrap_or(u32::MAX);
    // SAFETY: fewer bytes are done than the pages have, or nothing would be left to do.
    let start = unsafe { transfer.pages.start_mut().add(done) };
    macro_rules! build {
        ($plain:ident, $fixed:ident, $start:expr) => {
            match (transfer.file.target(), registered) {
                (Target::Registered(file), true) => {
                    opcode::$fixed::new(file, $start, len, POOL).offset(at).build()
                }
                (Target::Descriptor(file), true) => {
                    opcode::$fixed::new(file, $start, len, POOL).offset(at).build()
                }
                (Target::Registered(file), false) => {
                    opcode::$plain::new(file, $start, len).offset(at).build()
                }
                (Target::Descriptor(file), false) => {
                    opcode::$plain::new(file, $start, len).offset(at).build()
                }
            }
        };
    }
    match transfer.direction {
        Direction::Read => build!(Read, ReadFixed, start),
        Direction::Write => build!(Write, WriteFixed, start.cast_const()),
    }
}
