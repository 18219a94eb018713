//! Real clusters under faults: a manager and workers of a built `firesteel` as processes, clients that ask TPC-H in a loop, and
//! faults at random times: processes killed and stopped, links cut and lossy, disks full, blocks corrupted. Every answer is checked.
//!
//! ```text
//!   seed --> schedule (faults, in time) --> strike   --> processes, links, disks
//!        \-> questions                  --> clients  --> answers, each checked     \
//!                                           watch    --> processes, nodes           >-- record --> report
//!                                           promise  --> which errors may be told  /
//! ```
//!
//! What is promised under which faults is in `docs/chaos.md`. The schedule follows from the seed alone; when it meets what of a
//! query does not, so a replay has the same faults at the same times and not the same interleaving.
//!
//! [`measure`] has each kind of fault hit a query once, and tells what that costs.
//!
//! Development only. It links nothing of Firesteel but `base`: what is under test is the program.

pub mod chance;
pub mod client;
pub mod cluster;
pub mod command;
pub mod gather;
pub mod host;
pub mod interrupt;
pub mod measure;
pub mod network;
pub mod proc;
pub mod promise;
pub mod questions;
pub mod record;
pub mod run;
pub mod schedule;
pub mod story;
pub mod strike;
pub mod watch;

pub use run::{Options, Report, run};
