//! Binding a thread's memory to NUMA nodes, and reading back what the kernel made of it.
#![allow(unsafe_code)]

use std::fs;
use std::io;

use crate::cpu_list;

/// The most nodes that a mask here can name; Linux is built for 1024 at most.
const NODES_MAX: usize = 1024;
const WORD_BITS: usize = usize::BITS as usize;
type NodeMask = [usize; NODES_MAX / WORD_BITS];
const NO_NODES: NodeMask = [0; NODES_MAX / WORD_BITS];

/// What came of binding memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryBinding {
    /// New pages of the thread come from these nodes only, as read back.
    Bound(Vec<u32>),
    /// Nothing was bound.
    Skipped {
        /// Why there was nothing to bind.
        reason: String,
    },
}

/// Why a thread's memory could not be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The kernel refused.
    #[error("cannot bind memory to NUMA node {node}: {fault}; this machine has nodes {online}")]
    Refused {
        /// The node.
        node: u32,
        /// What the kernel says.
        fault: String,
        /// The nodes that are online.
        online: String,
    },
    /// The kernel took it, but the policy read back is another.
    #[error("memory was bound to NUMA node {node}, but the policy read back is {found}")]
    NotApplied {
        /// The node.
        node: u32,
        /// What was read back.
        found: String,
    },
}

/// Binds the calling thread's new memory to `node`; on a machine with one node there is nothing to bind. Pages that
/// exist already stay where they are, and threads that it starts later inherit the binding.
///
/// # Errors
/// When the kernel refuses, or the policy read back is another.
pub fn bind_thread(node: u32) -> Result<MemoryBinding, MemoryError> {
    match online_nodes().as_slice() {
        [] => Ok(MemoryBinding::Skipped { reason: "the kernel tells of no NUMA nodes".to_owned() }),
        [only] if *only == node => {
            Ok(MemoryBinding::Skipped { reason: "the machine has one NUMA node".to_owned() })
        }
        _ => bind_strictly(node).map(MemoryBinding::Bound),
    }
}

/// The nodes that are online.
#[must_use]
pub fn online_nodes() -> Vec<u32> {
    fs::read_to_string("/sys/devices/system/node/online")
        .ok()
        .and_then(|text| cpu_list::parse(&text))
        .unwrap_or_default()
}

fn bind_strictly(node: u32) -> Result<Vec<u32>, MemoryError> {
    let refused =
        |fault: String| MemoryError::Refused { node, fault, online: cpu_list::display(&online_nodes()) };
    let mask = mask_of(node).ok_or_else(|| refused(format!("node numbers go up to {}", NODES_MAX - 1)))?;
    set_policy(libc::MPOL_BIND, &mask).map_err(|fault| refused(fault.to_string()))?;
    let (mode, mask) = policy().map_err(|fault| refused(fault.to_string()))?;
    let nodes = nodes_of(&mask);
    if mode == libc::MPOL_BIND && nodes == [node] {
        Ok(nodes)
    } else {
        Err(MemoryError::NotApplied {
            node,
            found: format!("mode {mode}, nodes {}", cpu_list::display(&nodes)),
        })
    }
}

fn mask_of(node: u32) -> Option<NodeMask> {
    let node = node as usize;
    let mut mask = NO_NODES;
    *mask.get_mut(node / WORD_BITS)? |= 1 << (node % WORD_BITS);
    Some(mask)
}

fn nodes_of(mask: &NodeMask) -> Vec<u32> {
    let set = |node: &usize| mask[node / WORD_BITS] & (1 << (node % WORD_BITS)) != 0;
    (0..NODES_MAX).filter(set).map(|node| u32::try_from(node).expect("fewer than NODES_MAX")).collect()
}

fn set_policy(mode: libc::c_int, mask: &NodeMask) -> io::Result<()> {
    // SAFETY: the kernel reads NODES_MAX bits at the pointer, and the mask is that long and outlives the call. The kernel
    // takes one bit off the count, hence one more.
    let done = unsafe {
        libc::syscall(libc::SYS_set_mempolicy, libc::c_long::from(mode), mask.as_ptr(), NODES_MAX + 1)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The calling thread's policy: its mode and its nodes.
fn policy() -> io::Result<(libc::c_int, NodeMask)> {
    let mut mode: libc::c_int = 0;
    let mut mask = NO_NODES;
    // SAFETY: the kernel writes one int and at most NODES_MAX bits; both places are that large and outlive the call.
    // With no flags the address is not looked at.
    let done = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            std::ptr::from_mut(&mut mode),
            mask.as_mut_ptr(),
            NODES_MAX,
            std::ptr::null::<libc::c_void>(),
            0 as libc::c_ulong,
        )
    };
    if done == 0 { Ok((mode, mask)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    #[test]
    fn the_policy_is_read_back() {
        let node = online_nodes()[0];
        assert_eq!(on_own_thread(move || bind_strictly(node)), Ok(vec![node]));
    }

    #[test]
    fn a_thread_that_binds_nothing_has_the_default_policy() {
        let (mode, mask) = on_own_thread(policy).unwrap();
        assert_eq!((mode, nodes_of(&mask)), (libc::MPOL_DEFAULT, vec![]));
    }

    #[test]
    fn a_single_node_is_skipped_with_the_reason() {
        let nodes = online_nodes();
        let binding = on_own_thread({
            let node = nodes[0];
            move || bind_thread(node)
        });
        match nodes.as_slice() {
            [_] => assert!(
                matches!(binding, Ok(MemoryBinding::Skipped { reason }) if reason.contains("one NUMA node"))
            ),
            [first, ..] => assert_eq!(binding, Ok(MemoryBinding::Bound(vec![*first]))),
            [] => unreachable!("asserted by indexing"),
        }
    }

    #[test]
    fn a_node_that_is_not_there_is_refused_with_those_that_are() {
        for node in [1000, 5000] {
            let fault = on_own_thread(move || bind_thread(node)).unwrap_err().to_string();
            assert!(fault.contains(&format!("node {node}")) && fault.contains("has nodes"), "{fault}");
        }
    }
}
