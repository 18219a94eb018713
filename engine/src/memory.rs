//! DataFusion's memory pool over an executor's one budget.
//!
//! Every reservation of every attempt on an executor draws on the same [`MemoryBudget`] as shuffle blocks do. Consumers
//! that can spill are held to equal shares of what the others leave, so that each is told to spill before one starves
//! the rest; consumers that cannot spill may take what is free, and an eighth is kept free for them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use firesteel_base::{ByteSize, Grant, MemoryBudget, OutOfBudget};
use firesteel_shuffle::BlockStore;
use parking_lot::Mutex;

/// The part of what is left that consumers which can spill do not take: one in so many.
const SPILLERS_LEAVE: u64 = 8;

/// One executor's operators drawing on its budget.
#[derive(Debug)]
pub struct GrantPool {
    budget: MemoryBudget,
    blocks: Option<Arc<BlockStore>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    spillers: usize,
    spillable: u64,
    grants: BTreeMap<String, Grant>,
}

impl GrantPool {
    /// A pool that draws on `budget`. When a consumer that cannot spill is refused, the coldest of `blocks`, which are
    /// counted in the same budget, go to files first.
    #[must_use]
    pub fn new(budget: MemoryBudget, blocks: Option<Arc<BlockStore>>) -> Self {
        Self { budget, blocks, state: Mutex::default() }
    }

    /// Writes blocks to files until `bytes` are free; whether that changed anything.
    fn make_room(&self, bytes: u64) -> bool {
        let Some(blocks) = &self.blocks else { return false };
        match blocks.make_room(bytes) {
            Ok(freed) => freed > 0,
            Err(fault) => {
                tracing::warn!(%fault, "blocks could not be written to files to make room for an operator");
                false
            }
        }
    }

    fn grow_within_limit(&self, consumer: &MemoryConsumer, additional: u64) -> Result<(), OutOfBudget> {
        let mut state = self.state.lock();
        state.grant(&self.budget, holder(consumer)).try_grow(additional)?;
        if consumer.can_spill() {
            state.spillable += additional;
        }
        Ok(())
    }

    /// The most bytes that one spillable consumer may hold now.
    fn spiller_share(&self, state: &State) -> u64 {
        let held_by_others = self.budget.used().saturating_sub(state.spillable);
        let left = self.budget.limit().saturating_sub(held_by_others);
        // A sort hands what it holds to its merge, which cannot spill and needs a little more for its cursors.
        (left - left / SPILLERS_LEAVE) / state.spillers.max(1) as u64
    }
}

impl State {
    fn grant<'a>(&'a mut self, budget: &MemoryBudget, holder: &str) -> &'a mut Grant {
        if !self.grants.contains_key(holder) {
            self.grants.insert(holder.to_owned(), budget.open(holder));
        }
        self.grants.get_mut(holder).expect("the grant was just opened")
    }
}

/// A consumer's name without its partition, so that holders are few and readable.
fn holder(consumer: &MemoryConsumer) -> &str {
    consumer.name().split(['[', '#']).next().unwrap_or("operator").trim_end()
}

impl MemoryPool for GrantPool {
    fn name(&self) -> &str {
        "grants"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.state.lock().spillers += 1;
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.state.lock().spillers -= 1;
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let mut state = self.state.lock();
        let consumer = reservation.consumer();
        state.grant(&self.budget, holder(consumer)).grow_unchecked(additional as u64);
        if consumer.can_spill() {
            state.spillable += additional as u64;
        }
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut state = self.state.lock();
        let consumer = reservation.consumer();
        state.grant(&self.budget, holder(consumer)).shrink(shrink as u64);
        if consumer.can_spill() {
            state.spillable -= shrink as u64;
        }
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer();
        let additional = additional as u64;
        if consumer.can_spill() {
            let share = self.spiller_share(&self.state.lock());
            let wanted = reservation.size() as u64 + additional;
            if wanted > share {
                return Err(resources_datafusion_err!(
                    "{} asked for {} of memory in all, but its share of the executor's {} is {}",
                    holder(consumer),
                    ByteSize(wanted),
                    ByteSize(self.budget.limit()),
                    ByteSize(share)
                ));
            }
        }
        let grown = match self.grow_within_limit(consumer, additional) {
            Err(_) if !consumer.can_spill() && self.make_room(additional) => {
                self.grow_within_limit(consumer, additional)
            }
            grown => grown,
        };
        grown.map_err(|refusal| resources_datafusion_err!("{refusal}"))
    }

    fn reserved(&self) -> usize {
        let state = self.state.lock();
        usize::try_from(state.grants.values().map(Grant::bytes).sum::<u64>()).unwrap_or(usize::MAX)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(usize::try_from(self.budget.limit()).unwrap_or(usize::MAX))
    }
}

impl fmt::Display for GrantPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grants of {}", ByteSize(self.budget.limit()))
    }
}

/// A pool that counts in another and refuses nothing: for what takes little, and without which nothing goes on.
#[derive(Debug)]
pub(crate) struct Unrefused(pub(crate) Arc<dyn MemoryPool>);

impl MemoryPool for Unrefused {
    fn name(&self) -> &str {
        "unrefused"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.0.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.0.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.0.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.0.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.0.grow(reservation, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.0.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.0.memory_limit()
    }
}

impl fmt::Display for Unrefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, refusing nothing", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(bytes: u64) -> (MemoryBudget, Arc<dyn MemoryPool>) {
        let budget = MemoryBudget::new(ByteSize(bytes));
        (budget.clone(), Arc::new(GrantPool::new(budget, None)))
    }

    #[test]
    fn spillers_share_what_the_others_leave() {
        let (budget, pool) = pool(100);
        let blocks = budget.grant("blocks", 20).unwrap();
        let table = MemoryConsumer::new("HashJoinInput[0]").register(&pool);
        table.try_grow(20).unwrap();
        let sort = MemoryConsumer::new("Sort[0]").with_can_spill(true).register(&pool);
        let group = MemoryConsumer::new("Group[0]").with_can_spill(true).register(&pool);
        // Of 60 an eighth is for those that cannot spill.
        sort.try_grow(26).unwrap();
        sort.try_grow(1).unwrap_err();
        group.try_grow(26).unwrap();
        let merge = MemoryConsumer::new("SortMerge[0]").register(&pool);
        merge.try_grow(8).unwrap();
        drop((group, merge));
        sort.try_grow(27).unwrap();
        assert_eq!(budget.used(), 93);
        drop((blocks, table, sort));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_refusal_names_the_holders() {
        let (_budget, pool) = pool(4 << 20);
        let join = MemoryConsumer::new("HashJoinInput[0]").register(&pool);
        join.try_grow(3 << 20).unwrap();
        let other = MemoryConsumer::new("Window#7").register(&pool);
        let fault = other.try_grow(2 << 20).unwrap_err().to_string();
        assert!(fault.contains("HashJoinInput holds 3MiB"), "{fault}");
    }
}
