//! The queues between the drivers of an exchange's inputs and the readers of its outputs.
//!
//! A driver may run ahead of its readers only while some open output has nothing queued: then a slow reader cannot
//! make the queues grow, and a reader that waits for one output can never be starved by a full other one. What memory has
//! no room for waits in a file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, SpillFile};
use datafusion::physical_plan::spill::SpillManager;
use parking_lot::Mutex;

/// The queues of all outputs of one exchange.
pub(super) struct Gate {
    state: Mutex<State>,
    room: Room,
}

/// Where queued batches may be.
pub(super) struct Room {
    /// Counts those in memory.
    pub queued: MemoryReservation,
    /// The most bytes of them, so that readers have memory left for what they do.
    pub queued_max: usize,
    /// Writes and reads the others.
    pub spill: SpillManager,
}

/// A batch in a queue.
pub(super) enum Queued {
    /// In memory.
    Held(RecordBatch),
    /// In a file of its own, which goes with this.
    Spilled(Arc<dyn SpillFile>),
}

struct State {
    outputs: Vec<OutputQueue>,
    /// Open outputs with nothing queued.
    empty: usize,
    feeding: Feeding,
    waiting_drivers: Vec<Waker>,
}

/// Which drivers send to which outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feeding {
    /// Every driver to every output. A driver that divides its rows must not be held by one full output while the reader of
    /// another waits, so no output has a bound of its own.
    All,
    /// Driver `i` to output `i` alone.
    Own {
        /// Batches that an output may have queued while others are empty.
        depth_max: usize,
    },
}

struct OutputQueue {
    batches: VecDeque<Result<Queued>>,
    /// Drivers that may yet send to it.
    drivers_left: usize,
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
    /// Queues for `outputs` readers fed by `drivers` drivers.
    pub(super) fn new(outputs: usize, drivers: usize, feeding: Feeding, room: Room) -> Self {
        let drivers_left = match feeding {
            Feeding::All => drivers,
            Feeding::Own { .. } => 1,
        };
        let queue = || OutputQueue { batches: VecDeque::new(), drivers_left, open: true, reader: None };
        Self {
            state: Mutex::new(State {
                outputs: (0..outputs).map(|_| queue()).collect(),
                empty: outputs,
                feeding,
                waiting_drivers: Vec::new(),
            }),
            room,
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
        if state.empty == 0 || state.is_full(output) {
            state.waiting_drivers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(batch) = batch.take() else { return Poll::Ready(Ok(Sent::Done)) };
        if self.room.take(batch.get_array_memory_size()) {
            state.push(output, Ok(Queued::Held(batch)));
            return Poll::Ready(Ok(Sent::Done));
        }
        // Others go on while it is written.
        drop(state);
        let file = self.room.spill.spill_record_batch_and_finish(&[batch], "a local exchange")?;
        let mut state = self.state.lock();
        if let Some(file) = file.filter(|_| state.outputs[output].open) {
            state.push(output, Ok(Queued::Spilled(file)));
        }
        Poll::Ready(Ok(Sent::Done))
    }

    /// The next batch of `output`; `None` when every driver that sends to it has ended.
    pub(super) fn poll_receive(&self, cx: &mut Context<'_>, output: usize) -> Poll<Option<Result<Queued>>> {
        let mut state = self.state.lock();
        if let Some(batch) = state.pop(output) {
            self.room.give_back(&batch);
            return Poll::Ready(Some(batch));
        }
        if state.outputs[output].drivers_left == 0 {
            return Poll::Ready(None);
        }
        state.outputs[output].reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The batch that waits in a file.
    pub(super) fn read(&self, file: Arc<dyn SpillFile>) -> Result<SendableRecordBatchStream> {
        self.room.spill.read_spill_as_stream_unbuffered(file, None)
    }

    /// The reader of `output` wants no more.
    pub(super) fn close(&self, output: usize) {
        let mut state = self.state.lock();
        while let Some(batch) = state.pop(output) {
            self.room.give_back(&batch);
        }
        if state.outputs[output].open {
            state.outputs[output].open = false;
            state.empty -= 1;
        }
        state.wake_drivers();
    }

    /// Driver `driver` has ended, well or with a fault that every reader must see. Readers to whom nobody else sends learn of
    /// it at once: who merges the outputs may wait for this end while another driver waits for room.
    pub(super) fn driver_ended(&self, driver: usize, fault: Option<DataFusionError>) {
        let mut state = self.state.lock();
        if let Some(fault) = fault {
            let shared = Arc::new(fault);
            for output in 0..state.outputs.len() {
                if state.outputs[output].open {
                    state.push(output, Err(DataFusionError::Shared(Arc::clone(&shared))));
                }
            }
        }
        let fed = match state.feeding {
            Feeding::All => 0..state.outputs.len(),
            Feeding::Own { .. } => driver..driver + 1,
        };
        for queue in &mut state.outputs[fed] {
            queue.drivers_left -= 1;
            if queue.drivers_left == 0 {
                queue.reader.take().into_iter().for_each(Waker::wake);
            }
        }
    }
}

impl Room {
    /// Whether so many bytes more may be in memory; they are counted then.
    fn take(&self, bytes: usize) -> bool {
        self.queued.size() + bytes <= self.queued_max && self.queued.try_grow(bytes).is_ok()
    }

    fn give_back(&self, batch: &Result<Queued>) {
        if let Ok(Queued::Held(batch)) = batch {
            self.queued.shrink(batch.get_array_memory_size().min(self.queued.size()));
        }
    }
}

impl State {
    fn is_full(&self, output: usize) -> bool {
        match self.feeding {
            Feeding::All => false,
            Feeding::Own { depth_max } => self.outputs[output].batches.len() >= depth_max,
        }
    }

    fn push(&mut self, output: usize, batch: Result<Queued>) {
        let queue = &mut self.outputs[output];
        if queue.batches.is_empty() {
            self.empty -= 1;
        }
        queue.batches.push_back(batch);
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }

    fn pop(&mut self, output: usize) -> Option<Result<Queued>> {
        let queue = &mut self.outputs[output];
        let batch = queue.batches.pop_front()?;
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
