//! Simulated channels: what gRPC over TCP shows to those at its ends, and nothing else.
//!
//! ```text
//!   process ── send ──► in flight, in order ──► arrives ──► process
//!                 │            │
//!                 │            └─ a cut holds it up: it arrives late, or both ends find the connection broken
//!                 └─ a broken connection loses it, and all that is in flight
//! ```
//!
//! Within a connection nothing is lost, doubled or overtaken. Loss, doubling and another order come from broken connections
//! alone, and from what those at the ends say again on the next one.

mod cut;
mod message;
mod net;
mod process;

pub use cut::Cuts;
pub use message::{Asked, Located, Message, Speaker, StageWork, Stated, Told};
pub use net::{Conn, IN_FLIGHT_MAX, Net, NetDue, Side};
pub use process::{Host, Party, Proc, Processes};
