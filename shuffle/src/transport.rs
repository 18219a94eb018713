//! How blocks go from one executor to another: which ways there are, and what a fetch asks of each.

mod host;
mod path;

pub(crate) use host::{HOST_BYTES, Host, NAME_BYTES, SocketName, huge_pages};
pub(crate) use path::{
    Arriving, Asked, Form, FrameMemory, Limits, Path, Received, StepError, Transfer, Way, within,
};

/// The ways between executors that one end allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// Shared memory where both ends are on one host and can, else TCP.
    #[default]
    Auto,
    /// TCP alone.
    Tcp,
    /// Shared memory, or a failure: of the fetch; of the server's start when this host cannot.
    Shared,
}
