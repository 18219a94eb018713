//! Whether a path packs, and with what, by what was measured. Pure logic.
//!
//! A byte of a frame takes `1 / speed` on a path of that speed. When it is packed it takes the longer of what is left of it on the
//! path, `ratio / speed`, and of packing, for the path goes on while the next frame is packed. On top comes half of what
//! packing takes: the core that packs could do something else. Both are by the clock, so on a machine whose cores have
//! other work less is packed, or by a faster codec. Unpacking is left out: it takes less than half of packing, and is spread
//! over those who read.

use std::time::Duration;

use super::{Codec, Codecs, Compression, Sample};

/// No path that carries more is packed, in bytes per second: 4 Gbit/s.
const SPEED_MAX: f64 = 500e6;
/// Packing must bring a tenth.
const WORTH: f64 = 0.9;
/// What a core's time costs that packs, beside the time of the path.
const PRICE: f64 = 0.5;
/// The weight of a new measurement.
const WEIGHT: f64 = 0.3;
/// Frames in a row that were not packed, after which what was learnt of the codecs is found out anew.
const FORGET_AFTER: u32 = 64;
/// Packed frames in a row for which the path had nothing to do before, after which it is measured without packing.
const UNPROVEN_MAX: u32 = 16;
/// How many frames go as they are then.
const PROBES: u32 = 2;

/// What is known of a codec.
#[derive(Debug, Clone, Copy)]
struct Known {
    codec: Codec,
    /// What a frame shrinks to.
    ratio: f64,
    /// Bytes of frames that a core packs per second.
    speed: f64,
}

/// What codecs are taken for before they were measured: a little less than what TPC-H's line items come to.
const AT_START: [Known; 2] = [
    Known { codec: Codec::Lz4, ratio: 0.5, speed: 800e6 },
    Known { codec: Codec::Zstd, ratio: 0.4, speed: 350e6 },
];

impl Known {
    /// Seconds that a byte takes on a path of that speed.
    fn cost(&self, path: f64) -> f64 {
        let (sending, packing) = (self.ratio / path, 1.0 / self.speed);
        sending.max(packing) + PRICE * packing
    }
}

/// The codec that makes a path of that speed fastest; none when all slow it down, or bring next to nothing.
fn best(path: f64, known: impl Iterator<Item = Known>) -> Option<Codec> {
    if path >= SPEED_MAX {
        return None;
    }
    let worth = known.map(|known| (known.cost(path), known.codec)).filter(|(cost, _)| *cost * path <= WORTH);
    worth.min_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, codec)| codec)
}

/// Judges one path: a connection, or a disk.
#[derive(Debug)]
pub(crate) struct Judge {
    setting: Compression,
    accepted: Codecs,
    /// What the path carries, in bytes per second; nothing before that was measured.
    speed: Option<f64>,
    known: [Known; 2],
    /// Frames since anything was packed.
    plain: u32,
    unproven: u32,
    probes: u32,
}

impl Judge {
    /// Of a path whose other end understands these codecs.
    pub fn new(setting: Compression, accepted: Codecs) -> Self {
        Self { setting, accepted, speed: None, known: AT_START, plain: 0, unproven: 0, probes: 0 }
    }

    /// How the next frame is to be packed, if it is.
    pub fn choose(&mut self) -> Option<Codec> {
        if self.setting != Compression::Auto {
            return self.setting.forced().filter(|codec| self.accepted.has(*codec));
        }
        if self.probes > 0 {
            self.probes -= 1;
            return None;
        }
        let chosen = self.best();
        self.plain = if chosen.is_some() { 0 } else { self.plain + 1 };
        if self.plain < FORGET_AFTER {
            return chosen;
        }
        // Other rows may have come, that shrink, or the cores have less to do.
        (self.plain, self.known) = (0, AT_START);
        self.best()
    }

    fn best(&self) -> Option<Codec> {
        let accepted = self.known.into_iter().filter(|known| self.accepted.has(known.codec));
        best(self.speed?, accepted)
    }

    /// Takes in what packing took and brought.
    pub fn learn(&mut self, sample: Sample) {
        let Some(known) = self.known.iter_mut().find(|known| known.codec == sample.codec) else { return };
        if sample.frame_bytes == 0 || sample.spent.is_zero() {
            return;
        }
        let bytes = sample.frame_bytes as f64;
        known.ratio += WEIGHT * (sample.packed_bytes as f64 / bytes - known.ratio);
        known.speed += WEIGHT * (bytes / sample.spent.as_secs_f64() - known.speed);
    }

    /// The path carried so many bytes in that time, in which it always had something to do.
    pub fn carried(&mut self, bytes: u64, time: Duration) {
        if time.is_zero() {
            return;
        }
        let found = bytes as f64 / time.as_secs_f64();
        let before = self.speed.unwrap_or(found);
        self.speed = Some(before + WEIGHT * (found - before));
    }

    /// What the path carries, measured elsewhere.
    pub fn set_speed(&mut self, speed: Option<f64>) {
        self.speed = speed;
    }

    /// Whether the path had nothing to do before a packed frame came. When that goes on, it may be packing that holds it up, and
    /// what it carries is not known any more: some frames go as they are, to measure it.
    pub fn was_idle(&mut self, was_idle: bool) {
        self.unproven = if was_idle { self.unproven + 1 } else { 0 };
        if self.unproven >= UNPROVEN_MAX {
            (self.unproven, self.probes) = (0, PROBES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Megabits per second, as bytes.
    const MBIT: f64 = 1e6 / 8.0;

    fn auto(speed: f64) -> Judge {
        let mut judge = Judge::new(Compression::Auto, Codecs::ALL);
        judge.set_speed(Some(speed));
        judge
    }

    fn sample(codec: Codec, packed_bytes: u64, micros: u64) -> Sample {
        Sample { codec, frame_bytes: 1_000_000, packed_bytes, spent: Duration::from_micros(micros) }
    }

    #[test]
    fn fast_paths_stay_as_they_are_and_slow_ones_pack_the_more_the_slower_they_are() {
        let cases = [
            (100_000.0, None),
            (10_000.0, None),
            (4000.0, None),
            (2500.0, Some(Codec::Lz4)),
            (100.0, Some(Codec::Zstd)),
            (10.0, Some(Codec::Zstd)),
        ];
        for (mbit, expected) in cases {
            assert_eq!(auto(mbit * MBIT).choose(), expected, "{mbit} Mbit/s");
        }
        assert!(auto(1000.0 * MBIT).choose().is_some(), "by which codec, its measured speed says");
        let disks = [(3000e6, None), (500e6, None), (200e6, Some(Codec::Lz4)), (30e6, Some(Codec::Zstd))];
        for (speed, expected) in disks {
            assert_eq!(auto(speed).choose(), expected, "{speed} bytes/s");
        }
        assert_eq!(Judge::new(Compression::Auto, Codecs::ALL).choose(), None, "before anything was measured");
    }

    #[test]
    fn a_core_that_packs_slowly_packs_faster_or_not_at_all() {
        let mut judge = auto(1000.0 * MBIT);
        for _ in 0..20 {
            // 100 MB/s, as a core that others use would do.
            Codec::ALL.into_iter().for_each(|codec| judge.learn(sample(codec, 500_000, 10_000)));
        }
        assert_eq!(judge.choose(), None);
        judge.set_speed(Some(10.0 * MBIT));
        assert!(judge.choose().is_some(), "such a link is slower still");
    }

    #[test]
    fn cores_that_have_other_work_take_the_faster_codec() {
        let mut judge = auto(1000.0 * MBIT);
        let mut with_speeds = |lz4, zstd| {
            for _ in 0..20 {
                judge.learn(sample(Codec::Lz4, 540_000, lz4));
                judge.learn(sample(Codec::Zstd, 370_000, zstd));
            }
            judge.choose()
        };
        // A core to itself: 870 and 530 MB/s; a part of one: 250 and 110.
        assert_eq!(with_speeds(1150, 1890), Some(Codec::Zstd));
        assert_eq!(with_speeds(4000, 9000), Some(Codec::Lz4));
    }

    #[test]
    fn what_is_in_vain_is_left_alone_and_tried_again_later() {
        // It does not shrink; it shrinks, and takes too long.
        for (mbit, packed_bytes, micros) in [(100.0, 1_000_000, 1000), (1000.0, 400_000, 20_000)] {
            let mut judge = auto(mbit * MBIT);
            let mut packs = 0;
            for _ in 0..1000 {
                if let Some(codec) = judge.choose() {
                    packs += 1;
                    judge.learn(sample(codec, packed_bytes, micros));
                }
            }
            assert!((10..200).contains(&packs), "{packs} of 1000 frames in vain");
        }
    }

    #[test]
    fn what_is_set_is_done_as_far_as_the_other_end_understands_it() {
        let all = |setting| Judge::new(setting, Codecs::ALL).choose();
        assert_eq!(all(Compression::None), None);
        assert_eq!(all(Compression::Lz4), Some(Codec::Lz4));
        assert_eq!(all(Compression::Zstd), Some(Codec::Zstd));
        let lz4_alone = Compression::Lz4.accepted();
        assert_eq!(Judge::new(Compression::Zstd, lz4_alone).choose(), None);
        let mut judge = Judge::new(Compression::Auto, lz4_alone);
        judge.set_speed(Some(100.0 * MBIT));
        assert_eq!(judge.choose(), Some(Codec::Lz4));
        let mut judge = Judge::new(Compression::Auto, Codecs::NONE);
        judge.set_speed(Some(MBIT));
        assert_eq!(judge.choose(), None);
    }

    #[test]
    fn a_path_that_packing_holds_up_is_measured_without() {
        // Packing was begun while the path was slow; by now it carries much, and waits for what is packed.
        let mut judge = auto(50e6);
        let mut frames = 0;
        while frames < 1000 && judge.speed.unwrap() < SPEED_MAX {
            match judge.choose() {
                Some(_) => judge.was_idle(true),
                None => judge.carried(1 << 20, Duration::from_millis(1)),
            }
            frames += 1;
        }
        assert!(frames < 100, "{frames}");
        // One that is never idle is never left alone.
        let mut slow = auto(50e6);
        for _ in 0..1000 {
            assert!(slow.choose().is_some());
            slow.was_idle(false);
        }
    }

    #[test]
    fn speed_is_what_was_carried_of_late() {
        let mut judge = Judge::new(Compression::Auto, Codecs::ALL);
        judge.carried(12_500_000, Duration::from_secs(1));
        assert_eq!(judge.choose(), Some(Codec::Zstd));
        (0..20).for_each(|_| judge.carried(1_250_000_000, Duration::from_secs(1)));
        assert_eq!(judge.choose(), None);
        judge.carried(1, Duration::ZERO);
        assert_eq!(judge.choose(), None);
    }
}
