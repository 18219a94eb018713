//! The queues between the drivers of an exchange's inputs and the readers of its outputs.
//!
//! A driver may run ahead of its readers only while some open output has nothing queued: then a slow reader cannot
//! make the queues grow, and a reader that waits for one output can never be starved by a full other one.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use parking_lot::Mutex;

/// The queues of all outputs of one exchange.
pub(super) struct Gate {
    state: Mutex<State>,
}

struct State {
    outputs: Vec<OutputQueue>,
    /// Open outputs with nothing queued.
    empty: usize,
    drivers_left: usize,
    /// Batches that an output may have queued while others are empty; without a bound where rows are divided.
    depth_max: usize,
    waiting_drivers: Vec<Waker>,
    queued: MemoryReservation,
}

struct OutputQueue {
    batches: VecDeque<Result<RecordBatch>>,
    open: bool,
    reader: Option<Waker>,
}

/// What became of a batch that a driver offered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is queued, or its output is closed and nobody wants it.
    Done,
    /// No output is open any more: the driver can stop.
    AllClosed,
}

impl Gate {
    /// Queues for `outputs` readers fed by `drivers` drivers; queued batches are counted in `queued`. Where each driver
    /// feeds one output alone, `depth_max` bounds how far it may run ahead; a driver that divides its rows must not be
    /// held by one full output while the reader of another waits.
    pub(super) fn new(outputs: usize, drivers: usize, depth_max: usize, queued: MemoryReservation) -> Self {
        let queue = || OutputQueue { batches: VecDeque::new(), open: true, reader: None };
        Self {
            state: Mutex::new(State {
                outputs: (0..outputs).map(|_| queue()).collect(),
                empty: outputs,
                drivers_left: drivers,
                depth_max,
                waiting_drivers: Vec::new(),
                queued,
            }),
        }
    }

    /// Queues `batch` for `output` once some open output is empty.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        output: usize,
        batch: &mut Option<RecordBatch>,
    ) -> Poll<Result<Sent>> {
        let mut state = self.state.lock();
        if state.outputs.iter().all(|queue| !queue.open) {
            return Poll::Ready(Ok(Sent::AllClosed));
        }
        if !state.outputs[output].open {
            batch.take();
            return Poll::Ready(Ok(Sent::Done));
        }
        if state.empty == 0 || state.outputs[output].batches.len() >= state.depth_max {
            state.waiting_drivers.push(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(batch) = batch.take() {
            if let Err(refusal) = state.queued.try_grow(batch.get_array_memory_size()) {
                return Poll::Ready(Err(refusal));
            }
            state.push(output, Ok(batch));
        }
        Poll::Ready(Ok(Sent::Done))
    }

    /// The next batch of `output`; `None` when every driver has ended.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        output: usize,
    ) -> Poll<Option<Result<RecordBatch>>> {
        let mut state = self.state.lock();
        if let Some(batch) = state.pop(output) {
            return Poll::Ready(Some(batch));
        }
        if state.drivers_left == 0 {
            return Poll::Ready(None);
        }
        state.outputs[output].reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The reader of `output` wants no more.
    pub(super) fn close(&self, output: usize) {
        let mut state = self.state.lock();
        while state.pop(output).is_some() {}
        if state.outputs[output].open {
            state.outputs[output].open = false;
            state.empty -= 1;
        }
        state.wake_drivers();
    }

    /// A driver has ended, well or with a fault that every reader must see.
    pub(super) fn driver_ended(&self, fault: Option<DataFusionError>) {
        let mut state = self.state.lock();
        if let Some(fault) = fault {
            let shared = std::sync::Arc::new(fault);
            for output in 0..state.outputs.len() {
                if state.outputs[output].open {
                    state.push(output, Err(DataFusionError::Shared(std::sync::Arc::clone(&shared))));
                }
            }
        }
        state.drivers_left -= 1;
        if state.drivers_left == 0 {
            state.outputs.iter_mut().filter_map(|queue| queue.reader.take()).for_each(Waker::wake);
        }
    }
}

impl State {
    fn push(&mut self, output: usize, batch: Result<RecordBatch>) {
        let queue = &mut self.outputs[output];
        if queue.batches.is_empty() {
            self.empty -= 1;
        }
        queue.batches.push_back(batch);
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }

    fn pop(&mut self, output: usize) -> Option<Result<RecordBatch>> {
        let queue = &mut self.outputs[output];
        let batch = queue.batches.pop_front()?;
        if let Ok(batch) = &batch {
            let bytes = batch.get_array_memory_size().min(self.queued.size());
            self.queued.shrink(bytes);
        }
        if self.outputs[output].batches.is_empty() {
            self.empty += 1;
        }
        self.wake_drivers();
        Some(batch)
    }

    fn wake_drivers(&mut self) {
        self.waiting_drivers.drain(..).for_each(Waker::wake);
    }
}
