//! Why a measurement came to nothing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use firesteel_base::{ByteSize, UserError};

use crate::scratch::ScratchError;

/// Why a measurement came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The folder cannot be looked at.
    #[error("cannot measure in {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file would fill the disk.
    #[error(
        "there is not enough room in {} to measure with {}: {} free, of which {} must stay so",
        folder.display(), ByteSize(*asked), ByteSize(*free), ByteSize(*kept)
    )]
    Room {
        /// The folder.
        folder: PathBuf,
        /// Bytes of the file.
        asked: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are left to others.
        kept: u64,
    },
    /// Files there cannot bypass the page cache.
    #[error("the file system of {} takes no direct writes: {source}", folder.display())]
    NotDirect {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The disk failed, or is full.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The disk does not answer.
    #[error("the disk of {} did not answer within {} s", folder.display(), limit.as_secs())]
    DiskStalled {
        /// The folder.
        folder: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Memory or a thread of a node cannot be had.
    #[error("cannot measure from node {from} the memory of node {of}: {fault}")]
    Memory {
        /// Where the threads are.
        from: u32,
        /// Where the memory is.
        of: u32,
        /// Why not.
        fault: String,
    },
    /// No address, or a wrong one.
    #[error("'{address}' is not an address to measure to: {fault}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        fault: String,
    },
    /// It cannot be listened there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody is there.
    #[error("cannot reach {peer}: {source}")]
    Unreachable {
        /// Who.
        peer: String,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else is there.
    #[error("{peer} answers, but is not `firesteel probe net-serve`: {found}")]
    Stranger {
        /// Who.
        peer: String,
        /// What came.
        found: String,
    },
    /// It measures with somebody else at the moment.
    #[error("{peer} is measuring with another host")]
    Busy {
        /// Who.
        peer: String,
    },
    /// It said no.
    #[error("{peer} refuses the measurement: {why}")]
    Refused {
        /// Who.
        peer: String,
        /// Why.
        why: String,
    },
    /// The connection broke or stood still.
    #[error("the connection with {peer} broke off while {doing}: {source}")]
    Broken {
        /// Who.
        peer: String,
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Bytes got lost on the way.
    #[error("{peer} counted {counted} bytes of {sent} that were sent to it")]
    Miscounted {
        /// Who.
        peer: String,
        /// Bytes that were sent.
        sent: u64,
        /// Bytes that it counted.
        counted: u64,
    },
    /// Nobody measured while it was served.
    #[error("nobody measured to {address} within {} s", within.as_secs())]
    Nobody {
        /// The address.
        address: String,
        /// How long it was waited.
        within: Duration,
    },
    /// The system gives no thread.
    #[error("cannot start a thread to measure with: {0}")]
    Thread(io::Error),
}

impl From<MeasureError> for UserError {
    fn from(fault: MeasureError) -> Self {
        let hint = match &fault {
            MeasureError::Scratch(ScratchError::Io { source, .. })
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                "the disk is full: make room, or measure with a smaller --size"
            }
            MeasureError::Scratch(_) => {
                let MeasureError::Scratch(scratch) = fault else { unreachable!("it was just looked at") };
                return scratch.into();
            }
            MeasureError::Folder { .. } => "name a folder that is there and that this user can write to",
            MeasureError::Room { .. } => "make room, or measure with a smaller --size",
            MeasureError::NotDirect { .. } => {
                "name a folder on ext4 or xfs on a local disk; --buffered measures through the page cache"
            }
            MeasureError::DiskStalled { .. } => "look for errors of the disk in the kernel's log (dmesg)",
            MeasureError::Memory { .. } => {
                "a cpuset may exclude CPUs or nodes; `firesteel topology` shows what is left"
            }
            MeasureError::Address { .. } => "write it as HOST:PORT, for example host7:7420",
            MeasureError::Listen { .. } => "name another address of this host with --bind HOST:PORT",
            MeasureError::Unreachable { .. } => {
                "start `firesteel probe net-serve` there, and look whether a firewall lets its port through"
            }
            MeasureError::Stranger { .. } => "look at which port `firesteel probe net-serve` listens there",
            MeasureError::Busy { .. } => {
                "two measurements at a time would disturb each other: try again when it has ended"
            }
            MeasureError::Refused { .. } => "run the same release of firesteel on both hosts",
            MeasureError::Broken { .. } | MeasureError::Miscounted { .. } => {
                "look whether the other end still runs, and at the errors of the link (ip -s link)"
            }
            MeasureError::Nobody { .. } => {
                "measure to it with `firesteel probe net`, or wait longer with --for"
            }
            MeasureError::Thread(_) => {
                "look at the limit of processes (ulimit -u) and of the control group (pids.max)"
            }
        };
        Self::new(fault.to_string()).hint(hint)
    }
}
