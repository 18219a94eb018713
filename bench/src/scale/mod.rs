//! How the times of a benchmark fall as a cluster grows, and how large a cluster must be to be worth having.
//!
//! [`scaling`] takes one [`RunRecord`](crate::record::RunRecord) for each size of the cluster and tells, relative to the
//! smallest size: the speed-up `T1 / Tn`, the parallel efficiency `T1 * n1 / (Tn * n)`, and the core-seconds `Tn * n` that a
//! query takes.
//!
//! A speed-up says nothing about whether the cluster is fast: a system that wastes nine tenths of every core scales well,
//! because the waste is spread over the cores too. McSherry, Isard and Murray, "Scalability! But at what COST?" (HotOS 2015),
//! therefore ask for the hardware with which a system first beats a competent program on one thread, the *configuration that
//! outperforms a single thread*, and find that published systems need hundreds of cores or never get there. [`Cost`] is that
//! question asked of a single-node engine: the fewest cores, among the sizes that were measured, whose time is below the
//! engine's. It is the authors' own measure when the engine ran on one core, and a harder one when it had more.
//!
//! Nothing is claimed beyond what was measured. A size with more core threads than the machine has cores is *oversubscribed*:
//! its times are told, but no efficiency, and it is no answer to [`Cost`]. A query that failed at one size is left out at all
//! of them and named. [`Estimate`] extends the times beyond the sizes by Amdahl's law, and is always called an estimate.

mod against;
mod amdahl;
mod numbers;
mod page;
mod sizes;
mod table;
mod words;

#[cfg(test)]
mod tests;

pub use against::{Against, Cost, Estimate, require_comparable};
pub use amdahl::Amdahl;
pub use numbers::{LeftOut, Numbers, QueryScaling, Scaling, Size, scaling};
pub use page::page;
pub use sizes::{EXECUTORS_MAX, Measured, chosen_sizes};
