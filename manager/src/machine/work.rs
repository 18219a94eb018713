//! What the machine counts of its own work, so that a test sees when it grows worse than what it is given.

/// How much was looked at to lend slots, all in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// How often there were stages that need slots.
    pub rounds: u64,
    /// How often the tasks of a stage were placed.
    pub stages: u64,
    /// Executors that were looked at for those.
    pub seats: u64,
    /// Jobs of which was looked at whose turn it is, or what they hold and want.
    pub jobs: u64,
    /// Leases that were looked at because some might be asked back.
    pub leases: u64,
}
