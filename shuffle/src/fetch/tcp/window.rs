//! How much a peer may send before it is allowed more. Pure accounting.
//!
//! A peer may begin a frame while its request has credit left, and sends it whole: so a window smaller than a frame
//! never stops a transfer, and a request holds at most its window and one frame. All windows of a connection share its
//! bound; a request that comes when that is used up gets one frame at a time.

use crate::wire::frame_cost;

/// The bounds of a connection and of each of its requests, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub connection: u64,
    pub request: u64,
}

/// What the requests of one connection may take, and have taken.
#[derive(Debug)]
pub struct Window {
    bounds: Bounds,
    /// Credit given and not used, and frames that nobody has taken yet.
    taken: u64,
}

/// One request's part of it.
#[derive(Debug)]
pub struct Share {
    /// What the peer may still begin; below zero by what the last frame was larger than that.
    credit: i64,
    /// Frames begun and not yet taken.
    held: u64,
}

/// A peer that began a frame without credit.
#[derive(Debug, PartialEq, Eq)]
pub struct Flood;

impl Share {
    fn taken(&self) -> u64 {
        u64::try_from(self.credit).unwrap_or(0) + self.held
    }
}

impl Window {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds: Bounds { request: bounds.request.max(1), ..bounds }, taken: 0 }
    }

    /// A new request's part, and the credit it begins with.
    pub fn open(&mut self) -> (Share, u64) {
        let credit = self.bounds.request.min(self.free()).max(1);
        self.taken += credit;
        (Share { credit: credit as i64, held: 0 }, credit)
    }

    /// The peer begins a frame.
    pub fn begin(&mut self, share: &mut Share, frame_bytes: u64) -> Result<(), Flood> {
        if share.credit <= 0 {
            return Err(Flood);
        }
        self.change(share, |share| {
            share.credit -= frame_cost(frame_bytes) as i64;
            share.held += frame_cost(frame_bytes);
        });
        Ok(())
    }

    /// A frame was taken; says how much more the peer may send: 0 when it need not be told yet.
    pub fn take(&mut self, share: &mut Share, frame_bytes: u64) -> u64 {
        self.change(share, |share| share.held -= frame_cost(frame_bytes));
        let wanted = self.bounds.request as i64 - share.credit - share.held as i64;
        let mut more = wanted.clamp(0, i64::try_from(self.free()).unwrap_or(i64::MAX));
        if share.held == 0 && share.credit + more <= 0 {
            // Without this it would wait for ever.
            more = 1 - share.credit;
        }
        let is_worth_a_message = share.credit <= 0 || more >= self.bounds.request as i64 / 2;
        if more == 0 || !is_worth_a_message || share.credit + more <= 0 {
            return 0;
        }
        self.change(share, |share| share.credit += more);
        more as u64
    }

    /// The peer sends no more.
    pub fn end(&mut self, share: &mut Share) {
        self.change(share, |share| share.credit = 0);
    }

    /// Nobody will take what is held.
    pub fn forget(&mut self, share: &mut Share) {
        self.change(share, |share| share.held = 0);
    }

    fn free(&self) -> u64 {
        self.bounds.connection.saturating_sub(self.taken)
    }

    fn change(&mut self, share: &mut Share, change: impl FnOnce(&mut Share)) {
        self.taken -= share.taken();
        change(share);
        self.taken += share.taken();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_request_begins_frames_until_its_window_is_used_and_goes_on_when_they_are_taken() {
        let mut window = Window::new(Bounds { connection: 64 * MIB, request: 4 * MIB });
        let (mut share, credit) = window.open();
        assert_eq!(credit, 4 * MIB);
        for _ in 0..4 {
            assert_eq!(window.begin(&mut share, MIB), Ok(()));
        }
        assert_eq!(window.begin(&mut share, MIB), Err(Flood));
        assert_eq!(window.take(&mut share, MIB), MIB);
        assert_eq!(window.begin(&mut share, MIB), Ok(()));
        // A frame that is larger than the window comes whole, and alone.
        let (mut large, _) = window.open();
        assert_eq!(window.begin(&mut large, 9 * MIB), Ok(()));
        assert_eq!(window.begin(&mut large, 1), Err(Flood));
        assert_eq!(window.take(&mut large, 9 * MIB), 9 * MIB);
    }

    #[test]
    fn when_the_connection_is_full_a_request_gets_one_frame_at_a_time() {
        let mut window = Window::new(Bounds { connection: 4 * MIB, request: 4 * MIB });
        let (mut first, _) = window.open();
        let (mut second, credit) = window.open();
        assert_eq!(credit, 1);
        for _ in 0..3 {
            window.begin(&mut second, MIB).unwrap();
            assert_eq!(window.begin(&mut second, MIB), Err(Flood));
            assert_eq!(window.take(&mut second, MIB), MIB, "it never stops for good");
        }
        window.end(&mut first);
        window.begin(&mut second, MIB).unwrap();
        assert_eq!(window.take(&mut second, MIB), 4 * MIB, "what another leaves is given on");
    }

    proptest! {
        #[test]
        fn what_is_taken_is_bounded_and_no_request_ever_stops(
            connection in 0..8 * MIB,
            request in 0..4 * MIB,
            steps in prop::collection::vec((0..6_usize, 1..3 * MIB, any::<bool>()), 1..300),
        ) {
            let mut window = Window::new(Bounds { connection, request });
            // Each with what a peer thinks its credit is, and the frames that came.
            let mut open: Vec<_> = (0..6).map(|_| {
                let (share, credit) = window.open();
                (share, credit as i64, Vec::<u64>::new())
            }).collect();
            for (index, bytes, is_sent) in steps {
                let (share, credit, frames) = &mut open[index];
                if is_sent {
                    prop_assert_eq!(window.begin(share, bytes).is_ok(), *credit > 0, "both ends count alike");
                    if *credit > 0 {
                        *credit -= frame_cost(bytes) as i64;
                        frames.push(bytes);
                    }
                } else if let Some(bytes) = frames.pop() {
                    *credit += window.take(share, bytes) as i64;
                }
                prop_assert!(*credit > 0 || !frames.is_empty(), "it can go on");
                let bound = connection + 6 * (3 * MIB + 1);
                prop_assert!(window.taken <= bound, "{} of {}", window.taken, bound);
            }
            for (share, _, _) in &mut open {
                window.end(share);
                window.forget(share);
            }
            prop_assert_eq!(window.taken, 0);
        }
    }
}
