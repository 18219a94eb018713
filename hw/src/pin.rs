//! Binding threads to CPUs, and reading back what the kernel made of it.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::cpu_list;

/// Why a thread could not be pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The kernel refused, most often because the cgroup's cpuset excludes the CPU.
    #[error("cannot pin a thread to CPU {asked}: {fault}; this process may use CPUs {allowed}")]
    Refused {
        /// The CPUs asked for.
        asked: String,
        /// What the kernel says.
        fault: String,
        /// The CPUs that it may use.
        allowed: String,
    },
    /// The kernel took it, but the thread is bound to other CPUs.
    #[error("a thread was pinned to CPU {asked}, but it is bound to {found}")]
    NotApplied {
        /// The CPUs asked for.
        asked: String,
        /// What was read back.
        found: String,
    },
}

/// Binds the calling thread to one CPU; returns the binding as read back.
///
/// # Errors
/// When the kernel refuses, or the binding read back is another.
pub fn pin_thread(cpu: u32) -> Result<Vec<u32>, PinError> {
    pin_thread_to(&[cpu])
}

/// Binds the calling thread to `cpus` (ascending); returns the binding as read back. Threads that it starts later
/// inherit the binding.
///
/// # Errors
/// When the kernel refuses, or the binding read back is another.
pub fn pin_thread_to(cpus: &[u32]) -> Result<Vec<u32>, PinError> {
    let asked = cpu_list::display(cpus);
    let refused = |fault: String| PinError::Refused {
        asked: asked.clone(),
        fault,
        allowed: cpu_list::display(&allowed_cpus()),
    };
    let set =
        cpu_set(cpus).ok_or_else(|| refused(format!("CPU numbers go up to {}", CpuSet::MAX_CPU - 1)))?;
    sched_setaffinity(None, &set).map_err(|errno| refused(errno.to_string()))?;
    let found = allowed_cpus();
    if found == cpus {
        Ok(found)
    } else {
        Err(PinError::NotApplied { asked, found: cpu_list::display(&found) })
    }
}

fn cpu_set(cpus: &[u32]) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        let cpu = cpu as usize;
        if cpu >= CpuSet::MAX_CPU {
            return None;
        }
        set.set(cpu);
    }
    Some(set)
}

/// The CPUs that the calling thread is bound to, ascending; empty when the kernel does not tell.
#[must_use]
pub fn allowed_cpus() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    let bound = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu));
    bound.map(|cpu| u32::try_from(cpu).expect("fewer than MAX_CPU")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    #[test]
    fn the_binding_is_read_back() {
        let cpu = *allowed_cpus().last().unwrap();
        let (pinned, found) = on_own_thread(move || (pin_thread(cpu).unwrap(), allowed_cpus()));
        assert_eq!((pinned, found), (vec![cpu], vec![cpu]));
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused_with_those_that_are() {
        for cpu in [1023, 70_000] {
            let fault = on_own_thread(move || pin_thread(cpu)).unwrap_err().to_string();
            assert!(fault.contains(&format!("CPU {cpu}")), "{fault}");
            assert!(fault.contains(&cpu_list::display(&allowed_cpus())), "{fault}");
        }
    }
}
