//! Cuts of the network: which hosts cannot reach each other.

use std::collections::BTreeMap;

use super::Host;

/// The cuts between pairs of hosts; several may lie over each other.
#[derive(Debug, Default)]
pub struct Cuts(BTreeMap<(Host, Host), u32>);

impl Cuts {
    /// Cuts two hosts off from each other.
    pub fn cut(&mut self, one: Host, other: Host) {
        *self.0.entry(pair(one, other)).or_default() += 1;
    }

    /// Takes one cut away. True when they reach each other again.
    pub fn heal(&mut self, one: Host, other: Host) -> bool {
        let Some(cuts) = self.0.get_mut(&pair(one, other)) else { return false };
        *cuts -= 1;
        let healed = *cuts == 0;
        if healed {
            self.0.remove(&pair(one, other));
        }
        healed
    }

    /// Whether they cannot reach each other.
    #[must_use]
    pub fn between(&self, one: Host, other: Host) -> bool {
        one != other && self.0.contains_key(&pair(one, other))
    }
}

fn pair(one: Host, other: Host) -> (Host, Host) {
    (one.min(other), one.max(other))
}
