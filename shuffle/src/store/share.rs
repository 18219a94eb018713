//! Which disk gets the next piece: each in proportion to its speed, those that failed not for a while. Pure logic.

use std::time::{Duration, Instant};

/// Bytes that a disk is given before it has written some, at most, and pieces: as many as its service has buffers.
const IN_FLIGHT_BYTES_MAX: u64 = 16 << 20;
const IN_FLIGHT_PIECES_MAX: usize = 8;
/// What a disk is taken for before it was measured: all are alike.
const SPEED_AT_START: f64 = 1e9;
/// The weight of a new measurement.
const WEIGHT: f64 = 0.3;
/// A disk is measured over this time, or until it has nothing to do.
const MEASURED_MIN: Duration = Duration::from_millis(20);
/// How long a disk that failed is left alone, unless somebody waits.
const REST: Duration = Duration::from_secs(1);

/// What a piece can do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Go to that disk.
    Disk(usize),
    /// Wait until some disk has less to do.
    Busy,
    /// Nothing: all disks have failed.
    Failed,
}

/// The disks of a store. Each has a *turn*, the time it would have needed for all that it was given: the one with the least
/// comes next, so that a disk of twice the speed gets twice the bytes.
#[derive(Debug)]
pub(super) struct Shares {
    disks: Vec<Share>,
    in_flight_max: u64,
    /// The turn of the piece that was given out last: who comes back later does not make up for its absence.
    turn: f64,
}

#[derive(Debug)]
struct Share {
    turn: f64,
    /// Bytes per second with something to do.
    speed: f64,
    is_measured: bool,
    bytes: u64,
    pieces: usize,
    /// Since when bytes are counted, and how many were written since.
    measured: Option<(Instant, u64)>,
    failed: Option<(Instant, String)>,
}

impl Share {
    /// One piece always fits.
    fn has_room(&self, in_flight_max: u64) -> bool {
        self.pieces == 0 || (self.bytes < in_flight_max && self.pieces < IN_FLIGHT_PIECES_MAX)
    }

    fn rests(&self, now: Instant) -> bool {
        self.failed.as_ref().is_some_and(|(at, _)| now < *at + REST)
    }

    fn measure(&mut self, now: Instant, bytes: u64) {
        let Some((since, before)) = self.measured else { return };
        let (elapsed, written) = (now - since, before + bytes);
        self.measured = Some((since, written));
        if elapsed < MEASURED_MIN && self.pieces > 0 {
            return;
        }
        self.measured = (self.pieces > 0).then_some((now, 0));
        if written > 0 && !elapsed.is_zero() {
            self.is_measured = true;
            self.speed += WEIGHT * (written as f64 / elapsed.as_secs_f64() - self.speed);
        }
    }
}

impl Shares {
    /// Disks of which each may have `in_flight_max` bytes in flight, if that is no more than any may.
    pub fn new(disks: usize, in_flight_max: u64) -> Self {
        let share = |_| Share {
            turn: 0.0,
            speed: SPEED_AT_START,
            is_measured: false,
            bytes: 0,
            pieces: 0,
            measured: None,
            failed: None,
        };
        let in_flight_max = in_flight_max.min(IN_FLIGHT_BYTES_MAX);
        Self { disks: (0..disks).map(share).collect(), in_flight_max, turn: 0.0 }
    }

    /// Where the next piece goes.
    pub fn choose(&self, now: Instant) -> Choice {
        let usable = || self.disks.iter().enumerate().filter(|(_, disk)| !disk.rests(now));
        let with_room = usable().filter(|(_, disk)| disk.has_room(self.in_flight_max));
        let next = with_room.min_by(|(_, a), (_, b)| a.turn.total_cmp(&b.turn));
        match next {
            Some((disk, _)) => Choice::Disk(disk),
            None if usable().next().is_some() => Choice::Busy,
            None => Choice::Failed,
        }
    }

    /// Notes that a disk has got a piece.
    pub fn begin(&mut self, disk: usize, bytes: u64, now: Instant) {
        let share = &mut self.disks[disk];
        self.turn = self.turn.max(share.turn);
        share.turn = self.turn + bytes as f64 / share.speed;
        share.bytes += bytes;
        share.pieces += 1;
        share.measured.get_or_insert((now, 0));
    }

    /// Notes that a disk has written a piece.
    pub fn written(&mut self, disk: usize, bytes: u64, now: Instant) {
        let share = self.end(disk, bytes);
        share.failed = None;
        share.measure(now, bytes);
    }

    /// Notes that a disk has failed to write a piece.
    pub fn failed(&mut self, disk: usize, bytes: u64, now: Instant, reason: String) {
        let share = self.end(disk, bytes);
        share.measure(now, 0);
        share.failed = Some((now, reason));
    }

    fn end(&mut self, disk: usize, bytes: u64) -> &mut Share {
        let share = &mut self.disks[disk];
        share.bytes -= bytes;
        share.pieces -= 1;
        share
    }

    /// Bytes per second that a disk writes, once that was measured.
    pub fn speed(&self, disk: usize) -> Option<f64> {
        let share = &self.disks[disk];
        share.is_measured.then_some(share.speed)
    }

    /// Whether a disk has so little to do that the next piece may have come too late to keep it busy.
    pub fn is_nearly_idle(&self, disk: usize) -> bool {
        self.disks[disk].pieces < 2
    }

    /// Somebody waits: disks that failed are tried again.
    pub fn forgive(&mut self) {
        self.disks.iter_mut().for_each(|disk| disk.failed = None);
    }

    /// Why disks fail.
    pub fn reasons(&self) -> Vec<String> {
        self.disks.iter().filter_map(|disk| Some(disk.failed.as_ref()?.1.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const PIECE: u64 = 1 << 20;

    /// Keeps disks of these speeds, in MiB per second, busy for so many pieces; how many each got.
    fn share_out(speeds: &[u64], pieces: usize) -> Vec<usize> {
        let mut now = Instant::now();
        let mut shares = Shares::new(speeds.len(), u64::MAX);
        let mut queues = vec![Vec::new(); speeds.len()];
        let mut got = vec![0; speeds.len()];
        while got.iter().sum::<usize>() < pieces {
            while let Choice::Disk(disk) = shares.choose(now) {
                shares.begin(disk, PIECE, now);
                let last = queues[disk].last().copied().unwrap_or(now).max(now);
                queues[disk].push(last + Duration::from_secs(1) / speeds[disk] as u32);
                got[disk] += 1;
            }
            let firsts = queues.iter().enumerate().filter_map(|(disk, queue)| Some((*queue.first()?, disk)));
            let (at, disk) = firsts.min().unwrap();
            now = at;
            queues[disk].remove(0);
            shares.written(disk, PIECE, now);
        }
        got
    }

    #[test]
    fn disks_get_pieces_in_proportion_to_their_speed() {
        let got = share_out(&[1000, 250], 5000);
        assert!((3800..=4200).contains(&got[0]), "{got:?}");
        let got = share_out(&[500, 500, 500], 3000);
        assert!(got.iter().all(|pieces| (950..=1050).contains(pieces)), "{got:?}");
    }

    /// Has disks of these speeds, in MiB per second, write a piece every so often; how many each got.
    fn share_out_lightly(speeds: &[u64], every: Duration, pieces: usize) -> Vec<usize> {
        let mut now = Instant::now();
        let mut shares = Shares::new(speeds.len(), u64::MAX);
        let mut queues = vec![VecDeque::new(); speeds.len()];
        let mut got = vec![0; speeds.len()];
        for _ in 0..pieces {
            for (disk, queue) in queues.iter_mut().enumerate() {
                while let Some(at) = queue.pop_front_if(|at| *at <= now) {
                    shares.written(disk, PIECE, at);
                }
            }
            let Choice::Disk(disk) = shares.choose(now) else { panic!("they have little to do") };
            shares.begin(disk, PIECE, now);
            let last = queues[disk].back().copied().unwrap_or(now).max(now);
            queues[disk].push_back(last + Duration::from_secs(1) / speeds[disk] as u32);
            got[disk] += 1;
            now += every;
        }
        got
    }

    #[test]
    fn disks_that_have_little_to_do_get_pieces_in_proportion_to_their_speed_too() {
        // Two fifths of what both can do, and a tenth.
        for every in [2, 8].map(Duration::from_millis) {
            let got = share_out_lightly(&[1000, 250], every, 5000);
            assert!((3800..=4200).contains(&got[0]), "{got:?}");
        }
    }

    #[test]
    fn all_disks_start_alike() {
        let (mut shares, now) = (Shares::new(3, u64::MAX), Instant::now());
        let mut first = Vec::new();
        for _ in 0..6 {
            let Choice::Disk(disk) = shares.choose(now) else { panic!("all have room") };
            shares.begin(disk, PIECE, now);
            first.push(disk);
        }
        assert_eq!(first, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn what_is_in_flight_is_bounded() {
        let (mut shares, now) = (Shares::new(2, u64::MAX), Instant::now());
        let mut given = 0;
        while let Choice::Disk(disk) = shares.choose(now) {
            shares.begin(disk, PIECE, now);
            given += 1;
        }
        assert_eq!((given, shares.choose(now)), (2 * IN_FLIGHT_PIECES_MAX, Choice::Busy));
        let mut one = Shares::new(1, 0);
        one.begin(0, PIECE, now);
        assert_eq!(one.choose(now), Choice::Busy);
        one.written(0, PIECE, now);
        assert_eq!(one.choose(now), Choice::Disk(0));
    }

    #[test]
    fn a_disk_that_failed_rests_and_is_tried_again() {
        let (mut shares, now) = (Shares::new(2, u64::MAX), Instant::now());
        for disk in [0, 1] {
            assert_eq!(shares.choose(now), Choice::Disk(disk));
            shares.begin(disk, PIECE, now);
            shares.failed(disk, PIECE, now, format!("disk {disk} is full"));
        }
        assert_eq!((shares.choose(now), shares.reasons().len()), (Choice::Failed, 2));
        assert_eq!(shares.choose(now + REST), Choice::Disk(0));
        shares.forgive();
        assert_eq!((shares.choose(now), shares.reasons().len()), (Choice::Disk(0), 0));
    }
}
