//! What wakes processes, beside messages.

use firesteel_base::{AttemptKey, Epoch, JobId, UserError};

use crate::channel::{Conn, NetDue, Proc};
use crate::faults::Fault;

/// What is due.
#[derive(Debug, Clone)]
pub enum Due {
    /// Something of a connection.
    Net(NetDue),
    /// A process wakes.
    Timer(Proc, Timer),
    /// Several managers look who leads.
    Members,
    /// Something goes wrong, or well again.
    Fault(Fault),
}

/// Why a process wakes.
#[derive(Debug, Clone)]
pub enum Timer {
    /// The manager of that run looks at its time-outs.
    ManagerTick(u64),
    /// The journal has, or has not, what the manager of that run had it write.
    JournalWritten(u64),
    /// A worker calls the manager.
    WorkerCall,
    /// The manager has not answered a worker's registration.
    WorkerUnanswered(Conn),
    /// A worker says that it lives.
    WorkerBeat,
    /// A worker starts an executor.
    StartExecutor(u32),
    /// An executor of a worker, in that life, is ready.
    ExecutorReady(u32, u64),
    /// A worker asks an executor how it is.
    Probe(u32, u64),
    /// The keeper has taken over what an executor left.
    TakenOver(u32, u64),
    /// A worker starts the driver of a job.
    StartDriver(JobId),
    /// A driver that was asked to stop has taken too long.
    KillDriver(u32),
    /// A driver hears a signal.
    DriverStopped,
    /// A client asks, or asks again.
    ClientGoes,
    /// A client was not answered.
    ClientUnanswered(Conn),
    /// A worker tells an executor its epoch.
    SetEpoch(Epoch),
    /// A driver whose stream to an executor broke has not come back.
    GraceOver(u64),
    /// A driver that greeted an executor waits for the epoch that it named.
    EpochWaited(Conn),
    /// An attempt goes on, if it is still in that step.
    Attempt(AttemptKey, u64),
    /// An output is taken over.
    Take(u64),
    /// A driver does what is due.
    DriverTick,
    /// A driver calls the manager.
    DriverCall,
    /// The manager has not answered a driver.
    DriverUnanswered(Conn),
    /// An executor has not answered a driver.
    LinkUnanswered(Conn),
    /// A driver's user runs a query.
    Query(u64),
    /// The reader of a query's result goes on, if it is still in that step.
    Read(u64, u64),
    /// What a reader has told the driver's loop.
    Command(u64, Command),
    /// A driver's user ends the session.
    Close,
}

/// What whoever reads a result says to the driver's loop.
#[derive(Debug, Clone)]
pub enum Command {
    /// The first rows of a task were handed out, which that attempt wrote.
    Begun(AttemptKey),
    /// All rows of a task were handed out; that attempt wrote the last of them.
    TaskRead(AttemptKey),
    /// All rows were handed out.
    AllRead,
    /// A block could not be read.
    Unreadable(AttemptKey, UserError),
    /// The rows are not wanted.
    Cancel(String),
}
