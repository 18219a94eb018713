//! Ctrl-C and SIGTERM end a run: all processes are ended and what they left is removed.

use std::sync::Arc;
use std::thread;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::record::{End, Record};

/// The exit code of a command that was interrupted.
pub const INTERRUPTED: i32 = 130;

/// Has the next signal end the run of `record`, and a second one this process.
///
/// # Errors
/// When signals cannot be waited for.
pub fn ends(record: &Arc<Record>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    let (mut interrupt, mut terminate) = {
        let _within = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let record = Arc::clone(record);
    thread::spawn(move || {
        runtime.block_on(async {
            for is_first in [true, false] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if is_first {
                    record.end(End::Interrupted);
                } else {
                    // What the processes watch ends with this one, and so do they.
                    std::process::exit(INTERRUPTED);
                }
            }
        });
    });
    Ok(())
}
