//! What this process uses of the machine.

use std::fs;
use std::iter::Sum;
use std::time::Duration;

/// Linux counts a process's time in ticks of this length, whatever its own clock is.
const MILLIS_PER_TICK: u64 = 10;
/// Fields between the program's name and its user time, which the system's time follows.
const USER_TIME: usize = 11;

/// What a process, or several together, use of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Processor time of all threads since the process began, to a hundredth of a second.
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub resident_bytes: u64,
    /// Memory of its own among it, that of no file and shared with nobody, in bytes.
    pub anonymous_bytes: u64,
    /// The most resident memory since the process began or [`forget_peak`] was called, in bytes.
    pub peak_bytes: u64,
}

impl ProcessUsage {
    /// That of this process. What the kernel does not tell is zero.
    #[must_use]
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |key| super::procfs::meminfo_bytes(&status, key).unwrap_or(0);
        Self {
            cpu: cpu_time(),
            resident_bytes: bytes("VmRSS"),
            anonymous_bytes: bytes("RssAnon"),
            peak_bytes: bytes("VmHWM"),
        }
    }
}

impl Sum for ProcessUsage {
    /// Of several processes together. Their peaks need not be at the same moment: the sum is the most that it can have been.
    fn sum<I: Iterator<Item = Self>>(processes: I) -> Self {
        processes.fold(Self::default(), |sum, one| Self {
            cpu: sum.cpu + one.cpu,
            resident_bytes: sum.resident_bytes + one.resident_bytes,
            anonymous_bytes: sum.anonymous_bytes + one.anonymous_bytes,
            peak_bytes: sum.peak_bytes + one.peak_bytes,
        })
    }
}

/// Lets the kernel count the most memory anew; one that does not allow that goes on from before.
pub fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may have blanks in it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split_whitespace().skip(USER_TIME).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * MILLIS_PER_TICK)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_and_memory_are_seen() {
        let before = ProcessUsage::now();
        let start = Instant::now();
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_millis(200) {
            sum = std::hint::black_box(sum.wrapping_mul(3) + 1);
        }
        let after = ProcessUsage::now();
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        assert!(
            after.resident_bytes > after.anonymous_bytes
                && after.anonymous_bytes > 0
                && after.peak_bytes >= after.resident_bytes,
            "{after:?}"
        );
    }

    #[test]
    fn processes_add_up() {
        let one = ProcessUsage {
            cpu: Duration::from_secs(1),
            resident_bytes: 2,
            anonymous_bytes: 1,
            peak_bytes: 3,
        };
        let sum: ProcessUsage = [one, one].into_iter().sum();
        assert_eq!(
            sum,
            ProcessUsage {
                cpu: Duration::from_secs(2),
                resident_bytes: 4,
                anonymous_bytes: 2,
                peak_bytes: 6
            }
        );
    }
}
