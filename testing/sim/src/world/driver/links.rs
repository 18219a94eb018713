//! The links to executors: a model of `driver/src/shell/links.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use firesteel_base::{AttemptKey, StageKey, Timestamp};
use firesteel_driver::machine::{Event, Launch, Life, MapOutput};
use firesteel_manager::machine::message::DriverEvent;

use super::Driver;
use crate::channel::{Conn, Located, Message, Stated};
use crate::world::Scene;

const BEAT: Duration = Duration::from_secs(2);
/// An executor that was not heard for so long is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(5);
/// An executor that was not heard for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The driver's end of a link.
#[derive(Debug)]
pub struct Link {
    /// The connection, once it was called.
    pub conn: Option<Conn>,
    /// Said before that.
    pub unsaid: Vec<Message>,
    /// It has answered the greeting.
    pub attached: bool,
    /// It was connected once and broke, and this is the second try.
    pub is_retry: bool,
    /// When it was heard last.
    pub heard: Timestamp,
    /// Plans that are there.
    pub put: BTreeSet<StageKey>,
    /// Attempts whose end was not reported.
    pub launched: BTreeMap<AttemptKey, Located<Launch>>,
    /// Outputs that it was asked to take over, and has not reported.
    pub taking: BTreeMap<AttemptKey, Located<MapOutput>>,
}

impl Driver {
    /// The link to an executor, called if there is none.
    pub(super) fn link(&mut self, life: &Life, now: Timestamp) {
        if !self.links.contains_key(life) {
            let link = Link {
                conn: None,
                unsaid: Vec::new(),
                attached: false,
                is_retry: false,
                heard: now,
                put: BTreeSet::new(),
                launched: BTreeMap::new(),
                taking: BTreeMap::new(),
            };
            self.links.insert(life.clone(), link);
            self.calls.push((life.clone(), self.refs[life].control_address.clone()));
        }
    }

    /// A call to an executor was made.
    pub fn called(&mut self, life: &Life, conn: Conn, scene: &mut Scene) {
        let Some(link) = self.links.get_mut(life) else { return scene.close(conn, 0) };
        link.conn = Some(conn);
        for message in std::mem::take(&mut link.unsaid) {
            scene.send(conn, 0, message);
        }
    }

    /// Says something to an executor; what concerns one that is gone is settled.
    pub(super) fn say(&mut self, life: &Life, message: Message, scene: &mut Scene) {
        let Some(link) = self.links.get_mut(life) else { return };
        match link.conn {
            Some(conn) => scene.send(conn, 0, message),
            None => link.unsaid.push(message),
        }
    }

    /// Has nobody wait for blocks of an executor that is gone with them.
    pub(super) fn holder_gone(&mut self, gone: &Life, scene: &mut Scene) {
        self.gone.insert(gone.clone());
        for (number, query) in &mut self.queries {
            Self::wake_reader(self.proc, *number, query, scene);
        }
        for life in self.links.keys().cloned().collect::<Vec<_>>() {
            self.say(&life, Message::HolderGone(gone.clone()), scene);
        }
    }

    fn life_of(&self, conn: Conn) -> Option<Life> {
        self.links.iter().find(|(_, link)| link.conn == Some(conn)).map(|(life, _)| life.clone())
    }

    pub(super) fn executor_said(&mut self, conn: Conn, message: Message, scene: &mut Scene) {
        let Some(life) = self.life_of(conn) else { return };
        let link = self.links.get_mut(&life).expect("it was just seen");
        link.heard = scene.clock(self.proc);
        match message {
            Message::Attached => (link.attached, link.is_retry) = (true, false),
            Message::Pong => {}
            Message::Report(attempt, report) => {
                match report {
                    Stated::Finished(_) | Stated::Failed(_) => drop(link.launched.remove(&attempt)),
                    Stated::Taken | Stated::NotTaken => drop(link.taking.remove(&attempt)),
                    Stated::Started | Stated::Progress(..) => {}
                }
                self.report(attempt, life, report);
            }
            other => unreachable!("no executor says {other:?}"),
        }
    }

    fn report(&mut self, attempt: AttemptKey, life: Life, report: Stated) {
        let owns = |query: &super::Query| {
            let machine = query.machine.as_ref();
            machine.is_some_and(|m| m.job() == attempt.job() && m.has_stage(attempt.stage()))
        };
        let Some(number) = self.queries.iter().find(|(_, query)| owns(query)).map(|(n, _)| *n) else {
            return;
        };
        let event = match report {
            Stated::Started => Event::AttemptStarted { attempt, life },
            Stated::Progress(rows, bytes) => Event::AttemptProgress { attempt, life, rows, bytes },
            Stated::Finished(lanes) => Event::AttemptFinished { attempt, life, lanes },
            Stated::Failed(failure) => Event::AttemptFailed { attempt, life, failure },
            Stated::Taken => Event::OutputTaken { producer: attempt, life },
            Stated::NotTaken => Event::OutputNotTaken { producer: attempt, life },
        };
        self.tell(number, event);
    }

    pub(super) fn link_unanswered(&mut self, conn: Conn, scene: &mut Scene) {
        let unanswered = self.life_of(conn).filter(|life| !self.links[life].attached);
        if unanswered.is_some() {
            scene.close(conn, 0);
            self.link_down(conn, "it did not answer in time", scene);
        }
    }

    pub(super) fn link_down(&mut self, conn: Conn, reason: &str, scene: &mut Scene) {
        let Some(life) = self.life_of(conn) else { return };
        let link = &self.links[&life];
        if link.attached && !link.is_retry {
            self.try_link_again(&life, reason, scene);
        } else {
            self.lose_link(&life, reason, scene);
        }
    }

    /// The executor keeps everything for a moment: who is back in time goes on as if nothing had been.
    fn try_link_again(&mut self, life: &Life, reason: &str, scene: &mut Scene) {
        if !self.refs.contains_key(life) {
            return self.lose_link(life, reason, scene);
        }
        let Some(broken) = self.links.remove(life) else { return };
        scene.tell(self.proc, || format!("lost its link to {life} ({reason}) and calls once more"));
        self.link(life, scene.clock(self.proc));
        let put = broken.put.into_iter().filter_map(|key| Some((key, self.query_with(key)?)));
        for (key, number) in put.collect::<Vec<_>>() {
            let work = Rc::new(self.queries[&number].graph.work(key.stage));
            self.links.get_mut(life).expect("it was just called").put.insert(key);
            self.say(life, Message::PutStage(key, work), scene);
        }
        for launch in broken.launched.values() {
            self.say(life, Message::Launch(launch.clone()), scene);
        }
        for output in broken.taking.values() {
            self.say(life, Message::TakeOutput(output.clone()), scene);
        }
        let link = self.links.get_mut(life).expect("it was just called");
        link.is_retry = true;
        (link.launched, link.taking) = (broken.launched, broken.taking);
    }

    fn query_with(&self, key: StageKey) -> Option<u64> {
        let has = |query: &super::Query| {
            query.machine.as_ref().is_some_and(|m| m.job() == key.job && m.has_stage(key.stage))
        };
        self.queries.iter().find(|(_, query)| has(query)).map(|(number, _)| *number)
    }

    pub(super) fn lose_link(&mut self, life: &Life, reason: &str, scene: &mut Scene) {
        self.drop_link(life, scene);
        scene.tell(self.proc, || format!("cannot reach {life}: {reason}"));
        let blocks_kept = self.refs.get(life).is_some_and(|executor| !executor.keeper_address.is_empty());
        self.tell_all(&Event::LinkLost { life: life.clone(), reason: reason.to_owned(), blocks_kept });
    }

    pub(super) fn drop_link(&mut self, life: &Life, scene: &mut Scene) {
        if let Some(conn) = self.links.remove(life).and_then(|link| link.conn) {
            scene.close(conn, 0);
        }
    }

    /// What is said regularly.
    pub(super) fn beat(&mut self, now: Timestamp, scene: &mut Scene) {
        self.beat_at = now + BEAT;
        self.say_to_manager(DriverEvent::Heartbeat(Vec::new()), scene);
        let silent = |link: &Link, limit: Duration| now - link.heard >= limit;
        let lost: Vec<Life> =
            self.links.iter().filter(|(_, l)| silent(l, SILENCE_MAX)).map(|(l, _)| l.clone()).collect();
        for life in lost {
            self.lose_link(&life, "nothing was heard of it for too long", scene);
        }
        let asked: Vec<Life> =
            self.links.iter().filter(|(_, l)| silent(l, PING_AFTER)).map(|(l, _)| l.clone()).collect();
        for life in asked {
            self.say(&life, Message::Ping, scene);
        }
    }
}
