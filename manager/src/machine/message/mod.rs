//! What goes into the machine and what comes out: closed enums of its own types. The shell converts at the edge.

mod effect;
mod event;

pub use effect::*;
pub use event::*;

/// A connected worker or driver, numbered by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A client's request, numbered by the shell; its answer carries the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);
