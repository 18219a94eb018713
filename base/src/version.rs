//! Versions: of this build, and of what goes over the wire.

use std::sync::OnceLock;

/// The release.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

static BUILD: OnceLock<&str> = OnceLock::new();

/// Names this build, as in `firesteel --version`. The program does it first of all, once: only it knows its commit, so that no other
/// crate is made anew with each.
///
/// # Panics
/// When it has another name already.
pub fn name_build(build: &'static str) {
    assert_eq!(*BUILD.get_or_init(|| build), build, "a program is of one build");
}

/// This build, as others are told of it: two of one release are told apart by it while a cluster is brought from one to the other.
/// The release, where no program has named it.
#[must_use]
pub fn build() -> &'static str {
    BUILD.get().copied().unwrap_or(RELEASE)
}

/// The newest version of the messages between client, driver, manager, worker and executor that this build speaks.
pub const WIRE: u32 = 6;

/// The oldest one that it still understands. Two processes speak the newest that both understand, so the release before
/// works together with this one while a cluster is brought from one to the other.
pub const WIRE_OLDEST: u32 = 4;

/// From this version on workers are drained: map outputs move, and workers, drivers and executors say so.
pub const WIRE_DRAIN: u32 = 5;

/// From this version on a lane may be told to read some keys of a partition.
pub const WIRE_KEYS: u32 = 6;

/// From this version on what has changed is said alone: manager and driver say of a cluster who came and went, and of a demand by
/// how many tasks it is less.
pub const WIRE_CHANGES: u32 = 6;

/// From this version on executors are told of others that are gone for good, so that none waits for them.
pub const WIRE_GONE: u32 = 6;

/// The versions that this build speaks.
pub const SPOKEN: Spoken = Spoken { oldest: WIRE_OLDEST, newest: WIRE };

/// The versions that a process speaks, as its greeting says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Spoken {
    /// What a greeting says. Before version 5 none names a newest: its sender speaks one version alone.
    #[must_use]
    pub fn said(oldest: u32, newest: u32) -> Self {
        Self { oldest, newest: newest.max(oldest) }
    }

    /// The newest that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// The version that the answer to a greeting names; before version 5 none names any.
#[must_use]
pub fn agreed(said: u32) -> u32 {
    if said == 0 { WIRE_OLDEST } else { said.min(WIRE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_speak_the_newest_that_both_understand() {
        let both = |one: (u32, u32), other: (u32, u32)| {
            let (one, other) = (Spoken::said(one.0, one.1), Spoken::said(other.0, other.1));
            assert_eq!(one.common(other), other.common(one));
            one.common(other)
        };
        assert_eq!(both((4, 5), (4, 0)), Some(4));
        assert_eq!(both((4, 5), (4, 5)), Some(5));
        assert_eq!(both((4, 5), (5, 6)), Some(5));
        assert_eq!(both((4, 5), (6, 7)), None);
        assert_eq!(both((4, 5), (3, 0)), None);
        assert_eq!(both((4, 5), (u32::MAX, 0)), None);
    }

    #[test]
    fn a_build_has_the_name_of_its_release_until_it_is_named() {
        assert_eq!(build(), RELEASE);
        name_build("1.2.3+gabc");
        name_build("1.2.3+gabc");
        assert_eq!(build(), "1.2.3+gabc");
    }

    #[test]
    fn an_answer_without_a_version_is_of_the_oldest() {
        assert_eq!([0, 4, 5, 9].map(agreed), [4, 4, 5, WIRE]);
    }
}
