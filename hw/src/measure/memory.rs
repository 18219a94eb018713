//! Memory bandwidth: threads bound to the cores of one NUMA node, memory bound to the same or another one.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{MeasureError, Progress, Watcher, per_second};
use crate::pages::{PagePool, Pages};
use crate::topology::{NumaNode, Topology};
use crate::{memory, pin};

/// Bytes of each of the two buffers of a thread: those of all threads of a node are larger than its caches.
const BUFFER_BYTES: u64 = 64 << 20;
/// The smallest buffer that tells of memory more than of a core's own cache.
const BUFFER_MIN: u64 = 4 << 20;
/// A node's buffers take no more than this part of its free memory.
const FREE_PART: u64 = 4;
/// Between two looks at the clock.
const CHUNK_BYTES: usize = 1 << 20;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryFigures {
    /// From each node with cores to the memory of each node.
    pub paths: Vec<PathFigures>,
}

/// From the cores of one node to the memory of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathFigures {
    /// Where the threads ran, each bound to one core.
    pub from_node: u32,
    /// Where the memory was.
    pub memory_node: u32,
    /// How many threads: one on each core.
    pub threads: usize,
    /// Read, by all threads together.
    pub read_bytes_per_second: f64,
    /// Read and written by copying, both counted, by all threads together.
    pub copy_bytes_per_second: f64,
}

/// Measures each path for about twice `time`.
///
/// # Errors
/// When threads or memory cannot be bound, or there is no memory to measure with.
pub fn measure(
    topology: &Topology,
    time: Duration,
    watch: Watcher<'_>,
) -> Result<MemoryFigures, MeasureError> {
    let from: Vec<u32> = topology
        .node_numbers()
        .into_iter()
        .filter(|&node| topology.cores_of_node(node).next().is_some())
        .collect();
    let of: Vec<&NumaNode> = topology.numa_nodes.iter().filter(|node| has_memory(topology, node)).collect();
    let pairs = from.len() * of.len();
    let mut paths = Vec::with_capacity(pairs);
    for &from in &from {
        for node in &of {
            watch(Progress { step: "memory", done: paths.len() as f64 / pairs as f64 });
            paths.push(path(topology, from, node.index, time)?);
        }
    }
    Ok(MemoryFigures { paths })
}

/// A machine with one node may not tell how much it has.
fn has_memory(topology: &Topology, node: &NumaNode) -> bool {
    node.memory_bytes > 0 || topology.numa_nodes.len() == 1
}

fn path(topology: &Topology, from: u32, of: u32, time: Duration) -> Result<PathFigures, MeasureError> {
    let cpus: Vec<u32> = topology.cores_of_node(from).filter_map(|core| core.cpus.first().copied()).collect();
    let fault = |fault: String| MeasureError::Memory { from, of, fault };
    let bytes = buffer_bytes(free_bytes(of), cpus.len());
    if bytes < BUFFER_MIN {
        return Err(fault("there is too little free memory".to_owned()));
    }
    let measured = together(&cpus, of, bytes, time).map_err(fault)?;
    Ok(PathFigures {
        from_node: from,
        memory_node: of,
        threads: measured.len(),
        read_bytes_per_second: measured.iter().map(|rates| rates.read).sum(),
        copy_bytes_per_second: measured.iter().map(|rates| rates.copy).sum(),
    })
}

/// A thread on each CPU; all begin to measure when the last one has its memory.
fn together(cpus: &[u32], of: u32, bytes: u64, time: Duration) -> Result<Vec<Rates>, String> {
    let (ready, prepared) = mpsc::channel();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for &cpu in cpus {
            let (go, begin) = mpsc::channel();
            let ready = ready.clone();
            let body = move || thread(cpu, of, bytes, time, ready, &begin);
            // When one cannot be had, those before it hear of no begin, and end.
            let thread = std::thread::Builder::new().spawn_scoped(scope, body);
            threads.push((thread.map_err(|fault| fault.to_string())?, go));
        }
        drop(ready);
        while prepared.recv().is_ok() {}
        for (_, go) in &threads {
            // One that could not prepare has ended, and says why below.
            let _ = go.send(());
        }
        threads.into_iter().map(|(thread, _go)| thread.join().expect("it panics nowhere")).collect()
    })
}

fn buffer_bytes(free: Option<u64>, threads: usize) -> u64 {
    let part = free.map_or(BUFFER_BYTES, |free| free / FREE_PART / (2 * threads as u64).max(1));
    part.min(BUFFER_BYTES) / CHUNK_BYTES as u64 * CHUNK_BYTES as u64
}

/// What the kernel says of a node; where it tells of none, of the machine.
fn free_bytes(node: u32) -> Option<u64> {
    let of_node = std::fs::read_to_string(format!("/sys/devices/system/node/node{node}/meminfo")).ok();
    // Lines begin with `Node 0 `.
    let free = of_node.and_then(|text| {
        let line = text.lines().find(|line| line.contains(" MemFree:"))?;
        line.split_whitespace().nth(3)?.parse::<u64>().ok()
    });
    free.map(|kib| kib << 10).or_else(|| {
        crate::procfs::meminfo_bytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
    })
}

/// Bytes per second of one thread.
struct Rates {
    read: f64,
    copy: f64,
}

/// `ready` is dropped when it may begin, or cannot.
fn thread(
    cpu: u32,
    of: u32,
    bytes: u64,
    time: Duration,
    ready: mpsc::Sender<()>,
    begin: &mpsc::Receiver<()>,
) -> Result<Rates, String> {
    let (from, mut to) = buffers(cpu, of, bytes)?;
    drop(ready);
    begin.recv().map_err(|_| "the measurement was given up".to_owned())?;
    Ok(Rates {
        read: read_for(time, from.as_bytes()),
        copy: copy_for(time, from.as_bytes(), to.as_bytes_mut()),
    })
}

/// Two buffers whose pages were first touched by a thread that is bound.
fn buffers(cpu: u32, of: u32, bytes: u64) -> Result<(Pages, Pages), String> {
    pin::pin_thread(cpu).map_err(|fault| fault.to_string())?;
    memory::bind_thread(of).map_err(|fault| fault.to_string())?;
    let bytes = usize::try_from(bytes).map_err(|fault| fault.to_string())?;
    let buffer = || {
        let pool = PagePool::new(1, bytes).map_err(|fault| fault.to_string())?;
        let mut pages = pool.try_take(bytes).expect("nobody else has its one buffer");
        pages.as_bytes_mut().fill(0x5a);
        Ok::<_, String>(pages)
    };
    Ok((buffer()?, buffer()?))
}

fn read_for(time: Duration, from: &[u8]) -> f64 {
    let (start, mut bytes) = (Instant::now(), 0_u64);
    for chunk in from.chunks_exact(CHUNK_BYTES).cycle() {
        std::hint::black_box(sum(chunk));
        bytes += CHUNK_BYTES as u64;
        if start.elapsed() >= time {
            break;
        }
    }
    per_second(bytes, start.elapsed())
}

/// Several sums at a time, so that none waits for the one before.
fn sum(bytes: &[u8]) -> [u64; 8] {
    let mut sums = [0_u64; 8];
    for line in bytes.chunks_exact(64) {
        for (sum, word) in sums.iter_mut().zip(line.chunks_exact(8)) {
            *sum = sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("it has 8 bytes")));
        }
    }
    sums
}

fn copy_for(time: Duration, from: &[u8], to: &mut [u8]) -> f64 {
    let (start, mut bytes, mut at) = (Instant::now(), 0_u64, 0);
    loop {
        let range = at..at + CHUNK_BYTES;
        to[range.clone()].copy_from_slice(&from[range]);
        bytes += 2 * CHUNK_BYTES as u64;
        at = (at + CHUNK_BYTES) % from.len();
        if start.elapsed() >= time {
            std::hint::black_box(&*to);
            return per_second(bytes, start.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_nodes_is_measured() {
        let topology = Topology::discover().unwrap();
        let figures = measure(&topology, Duration::from_millis(20), &|_| ()).unwrap();
        let nodes = topology.numa_nodes.len();
        assert_eq!(figures.paths.len(), nodes * nodes);
        for path in figures.paths {
            assert_eq!(path.threads, topology.cores_of_node(path.from_node).count());
            assert!(path.read_bytes_per_second > 0.0 && path.copy_bytes_per_second > 0.0, "{path:?}");
        }
    }

    #[test]
    fn a_node_that_is_not_there_is_named() {
        let topology = Topology::discover().unwrap();
        let from = topology.cores[0].numa_node;
        let fault = path(&topology, from, 999, Duration::from_millis(1)).unwrap_err().to_string();
        assert!(fault.contains("memory of node 999: cannot bind memory to NUMA node 999"), "{fault}");
    }

    #[test]
    fn buffers_leave_room_for_others() {
        assert_eq!(buffer_bytes(Some(1 << 40), 8), BUFFER_BYTES);
        assert_eq!(buffer_bytes(Some(1 << 30), 8), 16 << 20);
        assert_eq!(buffer_bytes(None, 1), BUFFER_BYTES);
    }
}
