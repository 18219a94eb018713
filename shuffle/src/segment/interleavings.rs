//! Segments under all orders of those who take rooms, give them back, taint and trim (`interleave`).

use std::sync::Arc;

use firesteel_base::{ByteSize, JobId, MemoryBudget, StageId, StageKey};
use firesteel_interleave::{check, spawn, switch};

use super::{Room, STEP_BYTES, Segments};
use crate::format::FrameBuffer;

/// Segments of 2 MiB, and 4 MiB of spare memory that is not counted.
const MEMORY: u64 = 64 << 20;
const HALF: u64 = STEP_BYTES / 2;

fn pool() -> (Arc<Segments>, MemoryBudget) {
    let budget = MemoryBudget::new(ByteSize(MEMORY));
    (Segments::new(&budget, MEMORY, None), budget)
}

fn stage(number: u32) -> StageKey {
    StageKey { job: JobId(1), stage: StageId(number) }
}

/// A room of a stage; what counts it is let go of with it.
fn with_room<T>(
    segments: &Arc<Segments>,
    budget: &MemoryBudget,
    of: u32,
    bytes: u64,
    then: impl FnOnce(Room) -> T,
) -> T {
    let mut grant = budget.open("test");
    let room = segments.room(stage(of), bytes, &mut grant).unwrap();
    let done = then(room);
    drop(grant);
    done
}

/// Fills a room, lets others come, and looks whether they wrote into it.
fn fill(room: Room, fill: u8) {
    let bytes = room.as_slice().len();
    let mut buffer = FrameBuffer::within(room);
    buffer.put(&vec![fill; bytes]);
    let frame = buffer.freeze(None);
    switch();
    assert!(frame.bytes.iter().all(|byte| *byte == fill), "two have the same room");
}

/// All is given back, and what is counted is what is beyond the bound.
fn assert_empty(segments: &Segments, budget: &MemoryBudget) {
    let usage = segments.usage();
    assert_eq!(usage.used, 0);
    assert_eq!((budget.used(), segments.counted_spare()), (0, 0), "{usage:?}");
    segments.trim();
    assert_eq!(segments.usage(), super::SegmentUsage::default());
}

#[test]
fn in_every_order_rooms_are_apart_and_come_back() {
    check(150, || {
        let (segments, budget) = pool();
        let threads = [1_u8, 2, 3].map(|number| {
            let (segments, budget) = (Arc::clone(&segments), budget.clone());
            spawn(move || {
                for bytes in [64, 4096] {
                    with_room(&segments, &budget, u32::from(number % 2), bytes, |room| fill(room, number));
                }
            })
        });
        segments.trim();
        with_room(&segments, &budget, 1, 128, |room| fill(room, 9));
        segments.trim();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_empty(&segments, &budget);
    });
}

#[test]
fn in_every_order_no_room_is_in_a_segment_after_it_was_tainted() {
    check(150, || {
        let (segments, budget) = pool();
        let mut grant = budget.open("test");
        let first = segments.room(stage(1), 64, &mut grant).unwrap();
        let segment = Arc::clone(&first.home().segment);
        let writer = {
            let (segments, budget) = (Arc::clone(&segments), budget.clone());
            spawn(move || (0..2).for_each(|_| with_room(&segments, &budget, 1, 64, |room| fill(room, 1))))
        };
        segment.taint();
        let id = segment.id();
        with_room(&segments, &budget, 1, 64, |room| assert_ne!(room.home().segment.id(), id));
        drop(first);
        with_room(&segments, &budget, 2, 64, |room| {
            assert_ne!(room.home().segment.id(), id, "it is used again")
        });
        writer.join().unwrap();
        drop(grant);
        assert_empty(&segments, &budget);
    });
}

#[test]
fn in_every_order_spare_memory_beyond_the_bound_is_counted() {
    check(60, || {
        let (segments, budget) = pool();
        let mut grant = budget.open("test");
        // Five segments, each half of one room that stays and half of one that goes: 5 MiB of gaps.
        let mut room = || segments.room(stage(1), HALF, &mut grant).unwrap();
        let (kept, gone): (Vec<_>, Vec<_>) = (0..5).map(|_| (room(), room())).unzip();
        let threads = gone.into_iter().map(|room| spawn(move || drop(room)));
        let threads: Vec<_> = threads.collect();
        segments.trim();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let (spare, counted) = (segments.usage().spare_bytes, segments.counted_spare());
        assert_eq!((spare, counted), (5 * HALF, HALF));
        assert_eq!(budget.used(), grant.bytes() + counted);
        drop((kept, grant));
        segments.trim();
        assert_empty(&segments, &budget);
    });
}

#[test]
fn in_every_order_a_refusal_changes_nothing() {
    check(100, || {
        let budget = MemoryBudget::new(ByteSize(STEP_BYTES));
        let segments = Segments::new(&budget, STEP_BYTES, None);
        let threads = [1, 2, 3].map(|of| {
            let (segments, budget) = (Arc::clone(&segments), budget.clone());
            spawn(move || {
                let mut grant = budget.open("test");
                let room = segments.room(stage(of), HALF, &mut grant);
                assert_eq!(grant.bytes(), if room.is_ok() { HALF } else { 0 });
                switch();
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        segments.trim();
        assert_empty(&segments, &budget);
    });
}
