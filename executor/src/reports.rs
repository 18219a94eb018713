//! The way of reports from attempts to their driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firesteel_protocol::v1;
use tokio::sync::mpsc;

use v1::executor_to_driver::Message;

/// Takes reports for one driver. Never waits: what must arrive is queued (a few messages an attempt, so the queue is
/// bounded by the attempts that are known), what may be lost is dropped while the driver is behind.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    queue: mpsc::UnboundedSender<v1::ExecutorToDriver>,
    queued: Arc<AtomicUsize>,
}

/// The other end of [`Reports`].
#[derive(Debug)]
pub(crate) struct ReportQueue {
    queue: mpsc::UnboundedReceiver<v1::ExecutorToDriver>,
    queued: Arc<AtomicUsize>,
}

pub(crate) fn reports() -> (Reports, ReportQueue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    (Reports { queue: sender, queued: Arc::clone(&queued) }, ReportQueue { queue: receiver, queued })
}

impl Reports {
    /// A report that must arrive, unless the driver is gone.
    pub(crate) fn send(&self, message: Message) {
        self.queued.fetch_add(1, Ordering::Relaxed);
        // A failed send means that the driver is gone; its session ends by itself.
        let _ = self.queue.send(v1::ExecutorToDriver { message: Some(message) });
    }

    /// A report that is worth something only while it is fresh.
    pub(crate) fn send_if_idle(&self, message: Message) {
        if self.queued.load(Ordering::Relaxed) == 0 {
            self.send(message);
        }
    }
}

impl ReportQueue {
    /// Hands all reports to the driver, in order, until there is no one left to report or to read. Tells whether the
    /// driver is the one who went.
    pub(crate) async fn forward(mut self, driver: mpsc::Sender<v1::ExecutorToDriver>) -> DriverWent {
        loop {
            let report = tokio::select! {
                biased;
                () = driver.closed() => return DriverWent(true),
                report = self.queue.recv() => report,
            };
            let Some(report) = report else { return DriverWent(false) };
            let sent = driver.send(report).await;
            self.queued.fetch_sub(1, Ordering::Relaxed);
            if sent.is_err() {
                return DriverWent(true);
            }
        }
    }
}

/// Whether the driver stopped reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DriverWent(pub(crate) bool);

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(running_attempts: u32) -> Message {
        Message::Pong(v1::Pong { running_attempts })
    }

    #[tokio::test]
    async fn progress_is_dropped_while_the_driver_is_behind() {
        let (reports, queue) = reports();
        reports.send(pong(1));
        reports.send_if_idle(pong(2));
        reports.send(pong(3));
        drop(reports);
        let (driver, mut inbox) = mpsc::channel(8);
        assert_eq!(queue.forward(driver).await, DriverWent(false));
        let mut seen = Vec::new();
        while let Some(report) = inbox.recv().await {
            seen.push(report.message.unwrap());
        }
        assert_eq!(seen, [pong(1), pong(3)]);
    }

    #[tokio::test]
    async fn a_driver_that_stops_reading_is_noticed() {
        let (_reports, queue) = reports();
        let (driver, inbox) = mpsc::channel(1);
        drop(inbox);
        assert_eq!(queue.forward(driver).await, DriverWent(true));
    }
}
