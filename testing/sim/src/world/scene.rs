//! What all parties share: time, chance, channels, the story and the checker.

use std::time::Duration;

use firesteel_base::{Class, Timestamp};

use super::journal::Journal;
use super::{Due, Timer};
use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::channel::{Conn, Host, Message, Net, Proc, Side};
use crate::check::Checker;
use crate::mutation::Mutation;
use crate::story::Story;

/// What a party has in its hands while it acts.
#[derive(Debug)]
pub struct Scene {
    /// What is due when.
    pub agenda: Agenda<Due>,
    /// All that is drawn.
    pub chance: Chance,
    /// The channels.
    pub net: Net,
    /// What has happened.
    pub story: Story,
    /// What must hold.
    pub check: Checker,
    /// What is broken on purpose.
    pub mutation: Option<Mutation>,
    /// Whether faults that are known are drawn too.
    pub shows_known: bool,
    /// What managers keep for those after them.
    pub journal: Journal,
    /// Hosts that are slow, and how many times slower than others.
    pub slow: Vec<(Host, u64)>,
    /// Executors whose disk is full.
    pub full_disks: Vec<Proc>,
    /// Of a hundred attempts so many fail by themselves at the moment.
    pub attempt_faults: u64,
}

impl Scene {
    /// The time, which no process knows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.agenda.now()
    }

    /// The time by a process's own clock.
    #[must_use]
    pub fn clock(&self, proc: Proc) -> Timestamp {
        self.net.processes.clock(proc, self.now())
    }

    /// Wakes a process later.
    pub fn wake(&mut self, proc: Proc, after: Duration, timer: Timer) {
        self.agenda.after(after, Due::Timer(proc, timer));
    }

    /// Wakes a process after a while that is drawn, in milliseconds.
    pub fn wake_within(&mut self, proc: Proc, (low, high): (u64, u64), timer: Timer) {
        let after = self.chance.millis(low, high);
        self.wake(proc, after, timer);
    }

    /// Says something over a connection.
    pub fn send(&mut self, conn: Conn, from: Side, message: Message) {
        self.net.send(conn, from, message, &mut self.agenda, &mut self.chance);
    }

    /// Closes an end of a connection.
    pub fn close(&mut self, conn: Conn, side: Side) {
        self.net.close(conn, side, &mut self.agenda, &mut self.chance);
    }

    /// Calls a process.
    pub fn call(&mut self, from: Proc, to: (Proc, Host), greeting: Message) -> Conn {
        let host = self.net.processes.host(from).expect("who calls lives");
        self.net.call((from, host), to, greeting, &mut self.agenda, &mut self.chance)
    }

    /// Notes what a process does.
    pub fn tell(&mut self, proc: Proc, what: impl FnOnce() -> String) {
        if self.story.is_kept() {
            let who = self.net.processes.party(proc).map_or_else(String::new, ToString::to_string);
            self.story.note(self.agenda.now(), who, what());
        }
    }

    /// Notes what happens to the world.
    pub fn tell_world(&mut self, what: impl FnOnce() -> String) {
        if self.story.is_kept() {
            self.story.note(self.agenda.now(), "world".to_owned(), what());
        }
    }

    /// Whether an attempt that would commit now fails instead, and how.
    pub fn attempt_fault(&mut self) -> Option<(Class, &'static str)> {
        if !self.chance.percent(self.attempt_faults) {
            return None;
        }
        let faults = [
            (Class::Transient, "it panicked"),
            (Class::Transient, "it panicked"),
            (Class::Resources, "out of memory"),
            (Class::Fetch, "a file that it reads is broken"),
        ];
        if self.chance.percent(4) {
            Some((Class::User, "division by zero"))
        } else {
            self.chance.pick(&faults)
        }
    }

    /// How many times slower a host is than others.
    #[must_use]
    pub fn slowness(&self, host: Host) -> u64 {
        self.slow.iter().filter(|(slow, _)| *slow == host).map(|(_, times)| *times).max().unwrap_or(1)
    }
}
