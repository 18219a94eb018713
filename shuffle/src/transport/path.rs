//! What a fetch asks of a way to a peer.
//!
//! Opening and greeting belong to a path's first question; an answer is a [`Transfer`], out of which frames are taken one by
//! one. The memory that a frame lands in comes from the fetcher ([`FrameMemory`]), and how it gets there is the
//! transfer's own affair: over TCP the bytes are sent unasked within a window, in shared memory the reply says where each
//! frame lies and `next` goes to look at it, or reads it from the file that was named. A transport with registered memory
//! and one-sided reads is of this second kind: its replies carry keys instead of places, and its memory is registered
//! where it is taken.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use firesteel_base::{Grant, MemoryBudget};
use futures::future::BoxFuture;
use tokio::time::timeout;

use crate::format::{FormatError, FrameBuffer, Summed};
use crate::pack;
use crate::tls;
use crate::wire::{Request, Status, WireError};

/// In whose name frames in flight are counted.
const IN_FLIGHT: &str = "shuffle fetch";

/// How long the steps of a path may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connecting and greeting.
    pub connect: Duration,
    /// An answer; each frame.
    pub io: Duration,
}

/// A way to one peer.
pub(crate) trait Path: fmt::Debug + Send + Sync {
    /// Asks for a block from the request's first frame on, over a connection that is there or a new one.
    fn ask<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Asked, StepError>>;
}

/// How a peer answers.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It has no such block to give, and says why.
    Refused(Status),
    /// The frames come.
    Coming(Box<dyn Transfer>),
}

/// A block on its way. Dropped before its last frame, it tells the peer to stop.
pub(crate) trait Transfer: fmt::Debug + Send {
    /// Frames of the answer.
    fn frames(&self) -> u32;

    /// The next frame, of which there must be one.
    fn next(&mut self) -> BoxFuture<'_, Result<Received, StepError>>;

    /// Says that what came cannot be what was sent: the next question takes another connection.
    fn distrust(&mut self);
}

/// How a frame came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the own store.
    Own,
    /// Over TCP.
    Tcp,
    /// In another executor's shared memory.
    Shared,
    /// From another executor's file, whose descriptor was passed.
    Passed,
}

/// The form of a frame that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it was written.
    Plain,
    /// Packed; the bytes of the frame, as its sender says.
    Packed { frame_bytes: u64 },
    /// As it was written, and packed on its way, to so many bytes.
    Unpacked { packed_bytes: u64 },
}

/// A frame that has come.
#[derive(Debug)]
pub(crate) struct Received {
    pub frame: Bytes,
    pub form: Form,
    pub way: Way,
    /// Bytes that were copied here to get it.
    pub copied: usize,
    /// What its bytes add up to, when they were summed up as they came.
    pub summed: Option<Summed>,
    /// Counts it while it is in flight.
    pub grant: Option<Grant>,
}

/// Where frames land that come from others.
#[derive(Debug, Clone)]
pub(crate) struct FrameMemory {
    budget: Option<MemoryBudget>,
}

/// A frame that is coming, in its final place.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub buffer: FrameBuffer,
    grant: Option<Grant>,
}

impl FrameMemory {
    /// Memory of this process, counted in `budget`.
    pub fn new(budget: Option<MemoryBudget>) -> Self {
        Self { budget }
    }

    /// Memory for one frame. It is counted whatever the budget says: the peer sends what it was allowed to, and what the
    /// budget can still do is to let others see it.
    pub fn take(&self, bytes: usize) -> Arriving {
        Arriving { buffer: FrameBuffer::new(bytes), grant: self.count(bytes as u64) }
    }

    /// The frame in what has come, if it came packed, in memory of its own that is counted.
    ///
    /// # Errors
    /// When it is no packed frame, or another one than was announced.
    pub fn unpack(&self, received: Received) -> Result<Received, FormatError> {
        let Form::Packed { frame_bytes: expected } = received.form else { return Ok(received) };
        let found = pack::frame_bytes(&received.frame)?;
        if found != expected {
            return Err(FormatError::Length { expected, found });
        }
        let grant = self.count(found);
        let frame = pack::unpack(&received.frame)?;
        let (packed_bytes, copied) = (received.frame.len() as u64, received.copied + frame.len());
        let form = Form::Unpacked { packed_bytes };
        Ok(Received { frame, form, way: received.way, copied, summed: None, grant })
    }

    /// Counts a frame that lies elsewhere.
    pub fn count(&self, bytes: u64) -> Option<Grant> {
        let mut grant = self.budget.as_ref()?.open(IN_FLIGHT);
        grant.grow_unchecked(bytes);
        Some(grant)
    }
}

impl Arriving {
    /// The frame, all of whose bytes have come.
    pub fn finish(self, form: Form, way: Way, copied: usize) -> Received {
        let frame = self.buffer.freeze(None).bytes;
        Received { frame, form, way, copied, summed: None, grant: self.grant }
    }
}

/// Why a step failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StepError {
    /// The connection is of no more use; another may do.
    #[error("{0}")]
    Broken(String),
    /// There is nobody where this path leads.
    #[error("{0}")]
    Nobody(String),
    /// The peer takes no more connections or requests now.
    #[error("it has as many connections as it takes")]
    Busy,
    /// The peer does not speak the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// There is no TLS with the peer, and there will be none over another connection.
    #[error("{0}")]
    Untrusted(String),
    /// The peer speaks it, but says what cannot be.
    #[error("{0}")]
    Nonsense(String),
    /// The frame cannot be had through shared memory; over TCP it may.
    #[error("{0}")]
    NotShared(String),
    /// This frame is not in shared memory, others may be.
    #[error("the frame is not in shared memory")]
    FrameNotShared,
    /// The peer cannot read its own file.
    #[error("its file cannot be read")]
    Unreadable,
}

impl From<io::Error> for StepError {
    fn from(error: io::Error) -> Self {
        if let Some(tls) = tls::of(&error) {
            let reason = tls.to_string();
            return if tls.is_for_good() { Self::Untrusted(reason) } else { Self::Broken(reason) };
        }
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Nonsense(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// Does `work` by its deadline.
pub(crate) async fn within<T>(
    limit: Duration,
    step: &str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, StepError> {
    match timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StepError::Broken(format!("no {step} within {limit:?}"))),
    }
}
