//! When a daemon stops: on a signal, or when whoever supervises it is gone.

use std::io::Read;

use clap::Args;
use firesteel_executor::worker::Stops;
use tokio::sync::oneshot;

use crate::signals::{Stop, TERMINATE};

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

/// When a worker is to stop: after the first SIGTERM once it is drained, at once after any other signal or when whoever
/// supervises it is gone.
pub fn drain_then_stop(
    mut stop: Stop,
    args: SupervisedArgs,
) -> Stops<impl Future<Output = ()>, impl Future<Output = ()>> {
    let (drain, drain_asked) = oneshot::channel::<()>();
    let (now, now_asked) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut input = std::pin::pin!(async {
            if args.stop_with_input { input_end().await } else { std::future::pending().await }
        });
        let mut drain = Some(drain);
        let reason = loop {
            tokio::select! {
                signal = stop.next() => match drain.take().filter(|_| signal == TERMINATE) {
                    Some(drain) => {
                        // The worker may have ended by itself.
                        let _ = drain.send(());
                    }
                    None => break signal,
                },
                () = &mut input => break "end of standard input",
            }
        };
        tracing::info!(reason, "stopping at once");
        let _ = now.send(());
    });
    Stops { drain: said(drain_asked), now: said(now_asked) }
}

/// Completes when it is said, and never when it cannot be any more.
async fn said(asked: oneshot::Receiver<()>) {
    if asked.await.is_err() {
        std::future::pending().await
    }
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
