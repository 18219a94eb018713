use super::*;
use crate::format::FrameBuffer;
use firesteel_base::{ByteSize, JobId, StageId};

const MEMORY: u64 = 256 << 20;
const MIB: u64 = 1 << 20;

fn stage(number: u32) -> StageKey {
    StageKey { job: JobId(1), stage: StageId(number) }
}

struct Pool {
    segments: Arc<Segments>,
    budget: MemoryBudget,
}

impl Pool {
    /// Segments of 2 MiB, and 16 MiB of spare memory that is not counted.
    fn new() -> Self {
        let budget = MemoryBudget::new(ByteSize(MEMORY));
        Self { segments: Segments::new(&budget, MEMORY, None), budget }
    }

    fn room(&self, of: u32, bytes: u64) -> (Room, Grant) {
        let mut grant = self.budget.open("test");
        (self.segments.room(stage(of), bytes, &mut grant).unwrap(), grant)
    }

    fn usage(&self) -> (usize, usize, u64) {
        let SegmentUsage { used, idle, spare_bytes } = self.segments.usage();
        (used, idle, spare_bytes)
    }
}

fn ids(rooms: &[(Room, Grant)]) -> Vec<u64> {
    rooms.iter().map(|(room, _)| room.home().segment.id()).collect()
}

#[test]
fn a_segment_holds_one_stage_and_is_used_again() {
    let pool = Pool::new();
    let rooms = [pool.room(1, MIB), pool.room(2, MIB), pool.room(1, MIB), pool.room(1, MIB)];
    assert_eq!(ids(&rooms), [0, 1, 0, 2]);
    assert_eq!((pool.budget.used(), pool.usage()), (4 * MIB, (3, 0, 0)));
    drop(rooms);
    assert_eq!((pool.budget.used(), pool.usage()), (0, (0, 3, 4 * MIB)));
    let again = [pool.room(3, MIB), pool.room(3, MIB)];
    assert!(ids(&again)[0] < 3 && pool.usage().0 == 1, "{again:?}");
    drop(again);
    pool.segments.trim();
    assert_eq!(pool.usage(), (0, 0, 0));
}

#[test]
fn a_tainted_segment_is_not_used_again() {
    let pool = Pool::new();
    let (first, second) = (pool.room(1, MIB / 2), pool.room(1, MIB / 2));
    first.0.home().segment.taint();
    drop(first);
    let third = pool.room(1, MIB / 2);
    assert_eq!((second.0.home().segment.id(), third.0.home().segment.id()), (0, 1));
    drop(second);
    assert_eq!(pool.usage(), (1, 0, 0), "it ended with its last frame");
    drop(third);
    assert_eq!((pool.usage(), pool.budget.used()), ((0, 1, MIB / 2), 0));
}

/// What a reader has mapped costs no memory once its owner is done with it, unless somebody may look at it.
#[test]
fn pages_go_back_with_the_segment_unless_it_is_tainted() {
    for is_tainted in [false, true] {
        let pool = Pool::new();
        let (room, grant) = pool.room(1, MIB);
        let passed = room.home().segment.memory().file().try_clone_to_owned().unwrap();
        let pages = || rustix::fs::fstat(&passed).unwrap().st_blocks as u64 * 512;
        let _mapped = map_foreign(&passed).unwrap();
        if is_tainted {
            room.home().segment.taint();
        }
        drop((room, grant));
        pool.segments.trim();
        assert_eq!((pool.usage(), pages() > 0), ((0, 0, 0), is_tainted));
    }
}

#[test]
fn spare_memory_beyond_the_bound_is_given_back_or_counted() {
    let pool = Pool::new();
    let rooms: Vec<_> = (0..40).map(|_| pool.room(1, MIB)).collect();
    // One room in each segment stays: gaps of 20 MiB, 4 more than the bound.
    let kept: Vec<_> =
        rooms.into_iter().enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, room)| room).collect();
    assert_eq!(pool.usage(), (20, 0, 20 * MIB));
    assert_eq!((pool.segments.counted_spare(), pool.budget.used()), (4 * MIB, 24 * MIB));
    let filled: Vec<_> = (0..20).map(|_| pool.room(1, MIB)).collect();
    assert_eq!((pool.usage(), pool.budget.used()), ((20, 0, 0), 40 * MIB));
    drop((kept, filled));
    let (used, idle, spare) = pool.usage();
    assert!(used == 0 && idle > 0 && spare <= 16 * MIB, "{idle} idle, {spare} spare");
    assert_eq!(pool.budget.used(), 0);
}

#[test]
fn a_full_budget_refuses_and_changes_nothing() {
    let pool = Pool::new();
    let _others = pool.budget.grant("join", MEMORY - MIB).unwrap();
    let mut grant = pool.budget.open("test");
    let refused = pool.segments.room(stage(1), 2 * MIB, &mut grant).unwrap_err();
    assert!(matches!(refused, NoRoom::Budget(_)) && grant.bytes() == 0);
    let room = pool.segments.room(stage(1), MIB, &mut grant).unwrap();
    assert!(pool.segments.room(stage(1), 64, &mut pool.budget.open("test")).is_err());
    drop(room);
    assert_eq!(pool.usage().0, 0);
}

#[test]
fn a_frame_larger_than_usual_gets_a_segment_of_its_own() {
    let pool = Pool::new();
    let large = pool.room(1, 5 * MIB);
    assert_eq!(large.0.home().segment.bytes(), 6 * MIB);
    drop(large);
    assert_eq!(pool.usage(), (0, 0, 0));
}

#[test]
fn what_is_written_stays_while_neighbours_come_and_go() {
    let pool = Pool::new();
    let write = |fill: u8| {
        let bytes = 4096 + usize::from(fill) * 64;
        let (room, grant) = pool.room(1, bytes as u64);
        let mut buffer = FrameBuffer::within(room);
        buffer.put(&vec![fill; bytes]);
        buffer.freeze(Some(grant))
    };
    let mut frames: Vec<_> = (0..50).map(write).collect();
    for round in 0..3 {
        frames = frames.into_iter().skip(round).step_by(2).collect();
        frames.extend((100..120).map(write));
    }
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    assert_eq!(pool.budget.used(), bytes as u64);
    for frame in frames {
        let fill = frame.bytes[0];
        assert_eq!(frame.bytes.len(), 4096 + usize::from(fill) * 64);
        assert!(frame.bytes.iter().all(|byte| *byte == fill));
    }
    assert_eq!(pool.budget.used(), 0);
}
