//! What the processes of a run use over time.

use std::time::{Duration, Instant};

use firesteel_driver::Meter;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::record::Sample;

/// How far samples are apart.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// Takes samples until it is stopped or dropped.
pub(super) struct Watch {
    stop: oneshot::Sender<()>,
    samples: JoinHandle<Vec<Sample>>,
}

impl Watch {
    /// Begins.
    pub fn start(meter: Meter) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, samples: tokio::spawn(sample_until(meter, stopped)) }
    }

    /// The samples.
    pub async fn stop(self) -> Vec<Sample> {
        // Who watches may have ended by itself.
        let _ = self.stop.send(());
        self.samples.await.unwrap_or_default()
    }
}

async fn sample_until(meter: Meter, mut stopped: oneshot::Receiver<()>) -> Vec<Sample> {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    let mut before = None;
    let mut samples = Vec::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return samples,
            _ = ticks.tick() => {}
        }
        // A moment at which an executor does not answer has no sample.
        let Ok(usage) = meter.read().await else { continue };
        let now = Instant::now();
        if let Some((then, cpu)) = before.replace((now, usage.cpu)) {
            let cpu_cores = usage.cpu.saturating_sub(cpu).as_secs_f64() / (now - then).as_secs_f64();
            let at = (now - start).as_secs_f64();
            samples.push(Sample { at, cpu_cores, memory_bytes: usage.resident_bytes });
        }
    }
}
