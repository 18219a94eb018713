//! The hardware: what a machine is made of, which executor gets which part of it, threads and memory bound to it, the
//! loop that each core runs, what this machine can and cannot do, and how fast it is.
//!
//! ```text
//!   topology ──> layout ──> core_loop (pin, memory, ring)        probe: what `firesteel doctor` tells
//!   pages (buffers) ──> ring (of one thread) ──> scratch (files behind a service, by one of four engines)
//!   measure: what `firesteel probe` tells
//! ```
//!
//! It is *not* a place for work: nothing here knows of plans, blocks or messages.
//!
//! Invariants: the ring and runtime crates (io-uring, tokio-uring, glommio) are named nowhere else; what cannot be bound
//! is said with its reason, and every binding is read back from the kernel.

pub mod allocator;
pub mod cgroup;
pub mod core_loop;
pub mod cpu_list;
pub mod layout;
pub mod measure;
pub mod memory;
pub mod pages;
pub mod pin;
pub mod probe;
pub mod procfs;
pub mod ring;
pub mod scratch;
mod sync;
pub mod topology;
pub mod usage;

pub use core_loop::{CoreError, CoreHandle, CoreStopped, CoreThread, CoreThreadConfig, LoopChoice, LoopKind};
pub use layout::{ExecutorLayout, LayoutError, LayoutRequest, plan_executors};
pub use topology::{Topology, TopologyError};
