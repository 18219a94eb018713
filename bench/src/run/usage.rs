//! What this process uses.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::record::Sample;

/// How far samples are apart.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Linux counts a process's time in ticks of this length, whatever its own clock is.
const MILLIS_PER_TICK: u64 = 10;
/// Fields between the program's name and its user time, which the system's time follows.
const USER_TIME: usize = 11;

/// Processor time of all threads of this process since it began, to a hundredth of a second.
pub(super) fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may have blanks in it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split_whitespace().skip(USER_TIME).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * MILLIS_PER_TICK)
}

/// Lets the kernel count the most memory anew; one that does not allow that goes on from before.
pub(super) fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most resident memory since [`forget_peak`].
pub(super) fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

fn status(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Samples of what this process uses, taken by a thread of its own until it is stopped.
pub(super) struct Watch {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sample>>>,
}

impl Watch {
    /// Begins, when what is measured runs in this process.
    pub fn start(in_this_process: bool) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = in_this_process.then(|| std::thread::spawn(move || sample_until(&seen)));
        Self { ended, thread }
    }

    /// The samples.
    pub fn stop(mut self) -> Vec<Sample> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn sample_until(ended: &AtomicBool) -> Vec<Sample> {
    let start = Instant::now();
    let (mut then, mut cpu) = (start, cpu_time());
    let mut samples = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        std::thread::sleep(SAMPLE_INTERVAL);
        let (now, used) = (Instant::now(), cpu_time());
        let cpu_cores = (used - cpu).as_secs_f64() / (now - then).as_secs_f64();
        let memory_bytes = status("VmRSS:").unwrap_or(0);
        samples.push(Sample { at: (now - start).as_secs_f64(), cpu_cores, memory_bytes });
        (then, cpu) = (now, used);
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let watch = Watch::start(true);
        let (start, cpu) = (Instant::now(), cpu_time());
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_millis(600) {
            sum = std::hint::black_box(sum.wrapping_mul(3) + 1);
        }
        assert!(cpu_time() > cpu);
        assert!(peak_memory().unwrap() > 0);
        let samples = watch.stop();
        assert!(!samples.is_empty() && samples.iter().any(|sample| sample.cpu_cores > 0.0));
        assert!(samples.iter().all(|sample| sample.memory_bytes > 0));
    }
}
