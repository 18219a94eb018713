//! When a daemon stops: on a signal, or when whoever supervises it is gone.

use std::io::Read;

use clap::Args;
use tokio::sync::oneshot;

use crate::signals::Stop;

/// A hidden flag of daemons.
#[derive(Debug, Clone, Copy, Args)]
pub struct SupervisedArgs {
    /// Stop when standard input ends: whoever started this process holds it open, and is gone then
    #[arg(long, hide = true)]
    stop_with_input: bool,
}

/// Completes when the daemon is to stop.
pub async fn stop_asked(mut stop: Stop, args: SupervisedArgs) {
    let reason = if args.stop_with_input {
        tokio::select! {
            signal = stop.next() => signal,
            () = input_end() => "end of standard input",
        }
    } else {
        stop.next().await
    };
    tracing::info!(reason, "stopping");
}

/// Completes when standard input ends. The thread that reads it cannot be stopped and ends with the process.
pub async fn input_end() {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let mut rest = [0; 256];
        while std::io::stdin().read(&mut rest).is_ok_and(|bytes| bytes > 0) {}
        // The daemon may have stopped already.
        let _ = ended.send(());
    });
    // A sender that is dropped means the same.
    let _ = end.await;
}
