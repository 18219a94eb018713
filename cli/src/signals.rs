//! Ctrl-C and SIGTERM.

use firesteel_base::UserError;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// The name of the signal by which service managers ask a process to stop.
pub const TERMINATE: &str = "SIGTERM";

/// Listens for the signals that ask this process to stop. From the first of these on, they no longer end the process.
#[derive(Debug)]
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Starts to listen.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|fault| {
                Failure::from(UserError::new("cannot listen for signals").detail(fault.to_string()))
            })
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next one and names it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => TERMINATE,
        }
    }
}

/// The failure of a command that was asked to stop.
pub fn interrupted(what: &str, signal: &str) -> Failure {
    Failure::new(Exit::Interrupted, UserError::new(format!("{what} was cancelled by {signal}")))
}
