//! What an executor will leave behind, as far as it has told.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;

use firesteel_base::{AttemptKey, Epoch, ExecutorId};

use super::news::{KeptFrame, KeptLane, KeptPlace, Message};

/// The blocks of a living executor.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    /// Whose they are; nothing is told before that.
    pub owner: Option<(ExecutorId, Epoch)>,
    pub segments: HashMap<u64, OwnedFd>,
    pub attempts: BTreeMap<AttemptKey, Vec<KeptLane>>,
    /// Where in `attempts` each frame is.
    frames: HashMap<u64, FrameAt>,
}

#[derive(Debug, Clone, Copy)]
struct FrameAt {
    attempt: AttemptKey,
    lane: usize,
    block: usize,
    frame: usize,
}

impl Estate {
    /// Takes in what was told.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn hear(&mut self, message: Message, descriptor: Option<OwnedFd>) -> Result<(), &'static str> {
        match (message, descriptor) {
            (Message::Begun { executor, epoch }, None) => {
                // Segments go on from life to life of one process.
                self.owner = Some((executor, epoch));
                self.attempts.clear();
                self.frames.clear();
            }
            (Message::Segment { number }, Some(memory)) => {
                self.segments.insert(number, memory);
            }
            (Message::SegmentGone { number }, None) => {
                self.segments.remove(&number);
            }
            (Message::Committed { attempt, lanes }, None) => self.committed(attempt, lanes),
            (Message::Moved { frame, place }, None) => self.moved(frame, place),
            (Message::Freed { attempts }, None) => attempts.iter().for_each(|attempt| self.freed(attempt)),
            (Message::Segment { .. }, None) => return Err("a segment came without its memory"),
            (_, Some(_)) => return Err("a descriptor came with news of something else"),
        }
        Ok(())
    }

    fn committed(&mut self, attempt: AttemptKey, lanes: Vec<KeptLane>) {
        self.freed(&attempt);
        for (lane, kept) in lanes.iter().enumerate() {
            for (block, (_, frames)) in kept.blocks.iter().enumerate() {
                let at = |frame| FrameAt { attempt, lane, block, frame };
                self.frames.extend(frames.iter().enumerate().map(|(frame, kept)| (kept.frame, at(frame))));
            }
        }
        self.attempts.insert(attempt, lanes);
    }

    /// Of a frame that is not committed nothing is known yet: its commit tells where it lies.
    fn moved(&mut self, frame: u64, place: KeptPlace) {
        let Some(at) = self.frames.get(&frame) else { return };
        let lanes = self.attempts.get_mut(&at.attempt).expect("frames are those of known attempts");
        lanes[at.lane].blocks[at.block].1[at.frame].place = place;
    }

    fn freed(&mut self, attempt: &AttemptKey) {
        let lanes = self.attempts.remove(attempt).unwrap_or_default();
        for KeptFrame { frame, .. } in
            lanes.iter().flat_map(|lane| &lane.blocks).flat_map(|(_, frames)| frames)
        {
            self.frames.remove(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(text: &str) -> AttemptKey {
        text.parse().unwrap()
    }

    fn lanes(frames: [u64; 2]) -> Vec<KeptLane> {
        let place = KeptPlace::Segment { number: 1, offset: 64 };
        let kept = |frame| KeptFrame { frame, bytes: 10, place: place.clone() };
        vec![KeptLane { lane: 0, partitions: 3, blocks: vec![(2, frames.map(kept).to_vec())] }]
    }

    fn place_of(estate: &Estate, key: &str, frame: usize) -> KeptPlace {
        estate.attempts[&attempt(key)][0].blocks[0].1[frame].place.clone()
    }

    #[test]
    fn what_is_told_is_known_until_it_is_freed() {
        let mut estate = Estate::default();
        let mut hear = |message| estate.hear(message, None).unwrap();
        let (one, other) = (attempt("job1/s0/p0/a0"), attempt("job1/s0/p1/a0"));
        hear(Message::Moved { frame: 7, place: KeptPlace::Private });
        hear(Message::Committed { attempt: one, lanes: lanes([7, 8]) });
        hear(Message::Committed { attempt: other, lanes: lanes([9, 10]) });
        let file = KeptPlace::File { path: "/scratch/f".into(), offset: 4096, packing: None };
        hear(Message::Moved { frame: 8, place: file.clone() });
        assert_eq!(place_of(&estate, "job1/s0/p0/a0", 1), file);
        assert_eq!(place_of(&estate, "job1/s0/p0/a0", 0), KeptPlace::Segment { number: 1, offset: 64 });
        estate.hear(Message::Freed { attempts: vec![one] }, None).unwrap();
        estate.hear(Message::Moved { frame: 7, place: file }, None).unwrap();
        assert_eq!(estate.attempts.keys().collect::<Vec<_>>(), [&other]);
        assert_eq!(estate.frames.len(), 2);
        let (executor, epoch) = ("w/e0".parse().unwrap(), Epoch(4));
        estate.hear(Message::Begun { executor, epoch }, None).unwrap();
        assert!(estate.attempts.is_empty() && estate.frames.is_empty());
    }

    #[test]
    fn descriptors_belong_to_segments() {
        let mut estate = Estate::default();
        assert!(estate.hear(Message::Segment { number: 1 }, None).is_err());
        let descriptor = || std::fs::File::open("/dev/null").unwrap().into();
        assert!(estate.hear(Message::SegmentGone { number: 1 }, Some(descriptor())).is_err());
        estate.hear(Message::Segment { number: 1 }, Some(descriptor())).unwrap();
        estate.hear(Message::SegmentGone { number: 1 }, None).unwrap();
        assert!(estate.segments.is_empty());
    }
}
