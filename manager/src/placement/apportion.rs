//! Dividing tasks among the parts of a cluster, one after the other to whoever deserves the next one most.
//!
//! Parts that hold input get tasks in proportion to its bytes, as long as they have room (the highest-averages
//! method of D'Hondt); parts that hold none fill up after them, in proportion to their room.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A part of the cluster that can take tasks: a rack, a host, a network card's surroundings, an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Tasks it has room for.
    pub room: u64,
    /// Bytes of input it holds.
    pub bytes: u64,
    /// What it gets relative to others with as many bytes.
    pub weight: u64,
    /// Tasks that count as given to it before, when only `weight` decides.
    pub busy: u64,
}

/// How many of `tasks` each part gets. Ties go to the earlier part. What exceeds all room is not given.
pub(super) fn apportion(tasks: u64, parts: impl ExactSizeIterator<Item = Part> + Clone) -> Vec<u64> {
    let mut given = vec![0; parts.len()];
    let room: u64 = parts.clone().map(|part| part.room).sum();
    if room <= tasks {
        return parts.map(|part| part.room).collect();
    }
    let mut turns: BinaryHeap<Turn> = parts
        .enumerate()
        .filter(|(_, part)| part.room > 0)
        .map(|(index, part)| Turn { index, part, given: 0 })
        .collect();
    for _ in 0..tasks {
        let mut turn = turns.pop().expect("there is room for more than all tasks");
        turn.given += 1;
        given[turn.index] = turn.given;
        if turn.given < turn.part.room {
            turns.push(turn);
        }
    }
    given
}

/// A part and what it has got; the greatest one gets the next task.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    index: usize,
    part: Part,
    given: u64,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.part, &other.part);
        quotient(a.bytes, self.given + 1, b.bytes, other.given + 1)
            .then_with(|| quotient(a.weight, a.busy + self.given + 1, b.weight, b.busy + other.given + 1))
            .then_with(|| other.index.cmp(&self.index))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares a / b with c / d.
fn quotient(a: u64, b: u64, c: u64, d: u64) -> Ordering {
    (u128::from(a) * u128::from(d)).cmp(&(u128::from(c) * u128::from(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apportion(tasks: u64, parts: &[Part]) -> Vec<u64> {
        super::apportion(tasks, parts.iter().copied())
    }

    fn part(room: u64, bytes: u64) -> Part {
        Part { room, bytes, weight: room, busy: 0 }
    }

    #[test]
    fn bytes_decide_in_proportion_while_there_is_room() {
        assert_eq!(apportion(10, &[part(100, 70), part(100, 30), part(100, 0)]), [7, 3, 0]);
        assert_eq!(apportion(10, &[part(4, 70), part(100, 30), part(100, 0)]), [4, 6, 0]);
        assert_eq!(apportion(10, &[part(4, 70), part(2, 30), part(100, 0)]), [4, 2, 4]);
    }

    #[test]
    fn without_bytes_the_room_decides() {
        assert_eq!(apportion(3, &[part(8, 0), part(8, 0), part(8, 0)]), [1, 1, 1]);
        assert_eq!(apportion(6, &[part(8, 0), part(4, 0)]), [4, 2]);
        assert_eq!(apportion(99, &[part(8, 0), part(0, 5), part(4, 0)]), [8, 0, 4]);
    }

    #[test]
    fn the_busy_wait_when_only_weight_decides() {
        let nic = |busy| Part { room: 8, bytes: 0, weight: 1, busy };
        assert_eq!(apportion(4, &[nic(3), nic(0)]), [1, 3]);
    }
}
