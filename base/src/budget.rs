//! Memory: one number per executor, drawn on by grants.
//!
//! Operators, shuffle blocks, fetch buffers and caches take a [`Grant`] from one [`MemoryBudget`]; who gets none
//! spills, waits with a deadline, or fails with the names of those who hold the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::ByteSize;
use crate::sync::Mutex;

/// An executor's memory. Clones share one account.
#[derive(Clone)]
pub struct MemoryBudget {
    account: Arc<Account>,
}

struct Account {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    peak: u64,
    by_holder: BTreeMap<Arc<str>, u64>,
}

/// A request for memory that the budget could not meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{holder} asked for {} of memory, but {} of {} are in use ({})",
    ByteSize(*asked), ByteSize(*used), ByteSize(*limit), Holders(largest))]
pub struct OutOfBudget {
    /// Who asked.
    pub holder: String,
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes in use by all when it was asked.
    pub used: u64,
    /// The budget's limit in bytes.
    pub limit: u64,
    /// The largest holders and their bytes, largest first.
    pub largest: Vec<(String, u64)>,
}

struct Holders<'a>(&'a [(String, u64)]);

impl fmt::Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nobody holds any");
        }
        for (i, (holder, bytes)) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{holder} holds {}", ByteSize(*bytes))?;
        }
        Ok(())
    }
}

/// How many holders an [`OutOfBudget`] names.
const HOLDERS_NAMED_MAX: usize = 5;

impl MemoryBudget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: ByteSize) -> Self {
        Self { account: Arc::new(Account { limit: limit.0, state: Mutex::default() }) }
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.account.limit
    }

    /// Bytes granted and not yet given back.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.account.state.lock().used
    }

    /// The most bytes that were ever granted at one time.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.account.state.lock().peak
    }

    /// An empty grant in the name of `holder`, to be grown.
    #[must_use]
    pub fn open(&self, holder: &str) -> Grant {
        Grant { account: Arc::clone(&self.account), holder: holder.into(), bytes: 0 }
    }

    /// A grant of `bytes` in the name of `holder`.
    ///
    /// # Errors
    /// When the budget has not that much left.
    pub fn grant(&self, holder: &str, bytes: u64) -> Result<Grant, OutOfBudget> {
        let mut grant = self.open(holder);
        grant.try_grow(bytes)?;
        Ok(grant)
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryBudget({} of {})", ByteSize(self.used()), ByteSize(self.limit()))
    }
}

/// Memory lent to one holder; given back when dropped.
pub struct Grant {
    account: Arc<Account>,
    holder: Arc<str>,
    bytes: u64,
}

impl Grant {
    /// Bytes of this grant.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Asks for `more` bytes on top.
    ///
    /// # Errors
    /// When the budget has not that much left; the grant is then as it was.
    pub fn try_grow(&mut self, more: u64) -> Result<(), OutOfBudget> {
        let mut state = self.account.state.lock();
        if state.used.saturating_add(more) > self.account.limit {
            return Err(refusal(&state, &self.holder, more, self.account.limit));
        }
        state.take(&self.holder, more);
        self.bytes += more;
        Ok(())
    }

    /// Takes `more` bytes even when that exceeds the limit: for memory that exists already and must be counted.
    pub fn grow_unchecked(&mut self, more: u64) {
        self.account.state.lock().take(&self.holder, more);
        self.bytes += more;
    }

    /// Gives `bytes` back; all, when the grant is smaller.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.account.state.lock().give(&self.holder, bytes);
        self.bytes -= bytes;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({}, {})", self.holder, ByteSize(self.bytes))
    }
}

impl State {
    fn take(&mut self, holder: &Arc<str>, bytes: u64) {
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        if bytes > 0 {
            *self.by_holder.entry(Arc::clone(holder)).or_default() += bytes;
        }
    }

    fn give(&mut self, holder: &Arc<str>, bytes: u64) {
        self.used -= bytes;
        if let Some(held) = self.by_holder.get_mut(holder) {
            *held -= bytes;
            if *held == 0 {
                self.by_holder.remove(holder);
            }
        }
    }
}

fn refusal(state: &State, holder: &str, asked: u64, limit: u64) -> OutOfBudget {
    let mut largest: Vec<_> =
        state.by_holder.iter().map(|(name, bytes)| (name.to_string(), *bytes)).collect();
    largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    largest.truncate(HOLDERS_NAMED_MAX);
    OutOfBudget { holder: holder.to_owned(), asked, used: state.used, limit, largest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_come_back_when_dropped() {
        let budget = MemoryBudget::new(ByteSize(100));
        let mut sort = budget.grant("sort", 60).unwrap();
        sort.try_grow(40).unwrap();
        sort.shrink(30);
        assert_eq!(budget.used(), 70);
        drop(sort);
        assert_eq!((budget.used(), budget.peak()), (0, 100));
    }

    /// Two sorts and a block that is counted whatever the limit says; in every order the budget lends no more than it has.
    #[test]
    fn in_no_order_is_more_lent_than_there_is_or_kept_at_the_end() {
        firesteel_interleave::check(400, || {
            let budget = MemoryBudget::new(ByteSize(100));
            let sort = |budget: MemoryBudget| {
                move || {
                    let mut grant = budget.open("sort");
                    for more in [40, 30] {
                        let before = grant.bytes();
                        let granted = grant.try_grow(more).is_ok();
                        assert_eq!(grant.bytes(), before + if granted { more } else { 0 });
                        assert!(budget.used() >= grant.bytes());
                    }
                    grant.shrink(10);
                }
            };
            let threads = [(); 2].map(|()| firesteel_interleave::spawn(sort(budget.clone())));
            let mut block = budget.open("block");
            assert!(block.try_grow(101).is_err(), "nothing is refused in part");
            _ = block.try_grow(50);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(budget.peak() <= 100, "{} of 100", budget.peak());
            let held = block.bytes();
            assert_eq!(budget.used(), held);
            let largest = budget.grant("join", 101).unwrap_err().largest;
            assert_eq!(largest, if held > 0 { vec![("block".to_owned(), held)] } else { vec![] });
            block.grow_unchecked(200);
            drop(block);
            assert_eq!((budget.used(), budget.peak()), (0, held + 200));
        });
    }

    #[test]
    fn a_refusal_names_who_holds_what_and_changes_nothing() {
        let budget = MemoryBudget::new(ByteSize(4 << 20));
        let _join = budget.grant("join", 3 << 20).unwrap();
        let fault = budget.grant("sort", 2 << 20).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "sort asked for 2MiB of memory, but 3MiB of 4MiB are in use (join holds 3MiB)"
        );
        assert_eq!(budget.used(), 3 << 20);
    }
}
