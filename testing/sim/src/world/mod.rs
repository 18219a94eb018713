//! A whole cluster: its processes, what joins them, and what happens to them.
//!
//! ```text
//!                 ┌── manager (real machine) ──┐
//!      workers ───┤                            ├─── drivers (a real machine for each query), clients that submit
//!        │        └────────────────────────────┘        │
//!        └─► executors ◄── attempts, reports, frees ────┘
//!                └── blocks ──► executors, keepers, readers of results
//! ```
//!
//! One thing happens at a time, at one moment of virtual time. A party that acts has the [`Scene`] in its hands and no other
//! party; what one wants of another goes through a channel or through the world.

pub mod client;
pub mod driver;
mod due;
pub mod executor;
pub mod fetch;
mod journal;
pub mod manager;
mod office;
mod scene;
mod setup;
mod step;
mod store;
mod submissions;
pub mod worker;

use std::collections::BTreeMap;

use firesteel_base::{ExecutorId, WorkerId};

use crate::channel::{Host, Proc};
use client::Client;
use driver::{Driver, QueryPlan};
use executor::Executor;
use manager::Manager;
use worker::Worker;

pub use due::{Command, Due, Timer};
pub use journal::Journal;
pub use office::{Office, manager_host};
pub use scene::Scene;
pub use setup::MANAGER_HOST;
pub use store::{Store, Stored};

/// A cluster and its users.
#[derive(Debug)]
pub struct World {
    /// What all share.
    pub scene: Scene,
    /// Managers that run, by the numbers of their members: one, unless one of several does not know yet that it leads no more.
    pub managers: BTreeMap<u32, Manager>,
    /// How many managers there are.
    pub members: u32,
    /// Which of several leads.
    pub office: Option<Office>,
    /// Workers that run.
    pub workers: BTreeMap<WorkerId, Worker>,
    /// Executors that run.
    pub executors: BTreeMap<ExecutorId, Executor>,
    /// Clients that submit jobs.
    pub clients: BTreeMap<u32, Client>,
    /// Their hosts.
    pub client_hosts: Vec<Host>,
    /// What submitted texts do.
    pub texts: BTreeMap<String, QueryPlan>,
    /// Drivers that run.
    pub drivers: BTreeMap<u32, Driver>,
    /// Which workers keep blocks.
    pub keepers: BTreeMap<WorkerId, bool>,
    /// What workers are made of, in all of their lives.
    pub setups: BTreeMap<WorkerId, worker::Setup>,
    /// Hosts of drivers.
    pub driver_hosts: BTreeMap<u32, Host>,
    /// Epochs that the next manager must be above.
    pub epoch_seed: u64,
    /// What came for processes that are stopped.
    pub backlog: BTreeMap<Proc, Vec<Due>>,
    /// Whether a manager was killed.
    pub manager_was_restarted: bool,
    /// What lives of executors that are over have left, where a mutation has it served on.
    pub stale: BTreeMap<ExecutorId, Store>,
    /// Drivers that were started so far.
    pub drivers_started: u32,
}
