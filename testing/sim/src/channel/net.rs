//! Connections between processes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use firesteel_base::Timestamp;

use super::{Cuts, Host, Message, Proc, Processes};
use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::world::Due;

/// Silence after which an end gives a connection up: the interval of keep-alives, and their time-out.
const KEEP_ALIVE: (u64, u64) = (10_000, 15_000);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages in flight over one connection in one direction. More is a queue without a bound.
pub const IN_FLIGHT_MAX: usize = 5_000;

/// A connection, by its number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conn(pub u64);

/// One of a connection's ends: 0 called, 1 was called.
pub type Side = usize;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetDue {
    /// A message comes to this end.
    Arrive(Conn, Side),
    /// This end finds out that the connection is broken.
    Broken(Conn, Side),
    /// This end has heard nothing since then.
    Silent(Conn, Side, Timestamp),
    /// The connection should have been made.
    Connect(Conn),
}

#[derive(Debug)]
struct Connection {
    ends: [End; 2],
    /// The called end has taken the first message.
    is_made: bool,
    /// Since when nothing comes through.
    silent_since: Option<Timestamp>,
    /// Broken: nothing that is said now arrives.
    dead: bool,
}

#[derive(Debug)]
struct End {
    proc: Proc,
    host: Host,
    open: bool,
    inbox: VecDeque<(Timestamp, Message)>,
    latest: Timestamp,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Net {
    /// Who is there.
    pub processes: Processes,
    /// Which hosts cannot reach each other.
    pub cuts: Cuts,
    /// The longest that a message takes from host to host, in milliseconds.
    pub delay_max: u64,
    made: u64,
    all: BTreeMap<Conn, Connection>,
}

type Due_ = Agenda<Due>;

impl Net {
    /// Whether processes on these hosts reach each other.
    #[must_use]
    pub fn reaches(&self, one: Host, other: Host) -> bool {
        !self.cuts.between(one, other)
    }

    /// Calls a process and greets it. Whoever is not there any more refuses.
    pub fn call(
        &mut self,
        (from, from_host): (Proc, Host),
        (to, to_host): (Proc, Host),
        greeting: Message,
        agenda: &mut Due_,
        chance: &mut Chance,
    ) -> Conn {
        self.made += 1;
        let conn = Conn(self.made);
        let end = |proc, host| End { proc, host, open: true, inbox: VecDeque::new(), latest: agenda.now() };
        let ends = [end(from, from_host), end(to, to_host)];
        self.all.insert(conn, Connection { ends, is_made: false, silent_since: None, dead: false });
        if !self.reaches(from_host, to_host) || self.processes.is_frozen(to) {
            self.falls_silent(conn, agenda, chance);
        }
        agenda.after(CONNECT_TIMEOUT, Due::Net(NetDue::Connect(conn)));
        self.send(conn, 0, greeting, agenda, chance);
        conn
    }

    /// Says something over a connection; over one that this end has closed nothing is said.
    pub fn send(&mut self, conn: Conn, from: Side, message: Message, agenda: &mut Due_, chance: &mut Chance) {
        let delay_max = self.delay_max;
        let Some(connection) = self.all.get_mut(&conn) else { return };
        if !connection.ends[from].open || connection.dead {
            return;
        }
        let delay = delay(connection, delay_max, chance);
        let to = &mut connection.ends[1 - from];
        if to.open {
            to.latest = to.latest.max(agenda.now() + delay);
            to.inbox.push_back((to.latest, message));
            agenda.at(to.latest, Due::Net(NetDue::Arrive(conn, 1 - from)));
        }
    }

    /// The longest queue of messages in flight.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.all.values().flat_map(|c| &c.ends).map(|end| end.inbox.len()).max().unwrap_or(0)
    }

    /// Which process an end is of.
    #[must_use]
    pub fn process_at(&self, conn: Conn, side: Side) -> Option<Proc> {
        self.all.get(&conn).map(|connection| connection.ends[side].proc)
    }

    /// Takes the message that is due at an end, unless a cut holds it up.
    pub fn arrive(&mut self, conn: Conn, side: Side, now: Timestamp) -> Option<(Proc, Message)> {
        let is_cut = self.is_cut(conn)?;
        let connection = self.all.get_mut(&conn)?;
        let end = &mut connection.ends[side];
        let is_due = end.open && !is_cut && end.inbox.front().is_some_and(|(at, _)| *at <= now);
        let (_, message) = is_due.then(|| end.inbox.pop_front())??;
        let proc = end.proc;
        connection.is_made |= side == 1;
        Some((proc, message))
    }

    /// Whether an end has closed, or was told that the other has.
    #[must_use]
    pub fn is_open(&self, conn: Conn, side: Side) -> bool {
        self.all.get(&conn).is_some_and(|connection| connection.ends[side].open)
    }

    /// Closes an end. The other is told after all that was said before.
    pub fn close(&mut self, conn: Conn, side: Side, agenda: &mut Due_, chance: &mut Chance) {
        let delay_max = self.delay_max;
        let Some(connection) = self.all.get_mut(&conn) else { return };
        connection.ends[side].open = false;
        connection.ends[side].inbox.clear();
        let delay = delay(connection, delay_max, chance);
        let other = &mut connection.ends[1 - side];
        if other.open {
            other.latest = other.latest.max(agenda.now() + delay);
            agenda.at(other.latest, Due::Net(NetDue::Broken(conn, 1 - side)));
        } else {
            self.all.remove(&conn);
        }
    }

    /// This end is about to learn that the connection is broken. Which process is told, unless it knows, or a cut keeps it
    /// from knowing.
    pub fn broken(&mut self, conn: Conn, side: Side) -> Option<Proc> {
        let is_told = self.all.get(&conn)?.dead || !self.is_cut(conn)?;
        if is_told { self.give_up(conn, side) } else { None }
    }

    /// This end has heard nothing since `since`. Which process gives up, if nothing has come since.
    pub fn silent(
        &mut self,
        conn: Conn,
        side: Side,
        since: Timestamp,
        agenda: &mut Due_,
        chance: &mut Chance,
    ) -> Option<Proc> {
        let connection = self.all.get(&conn)?;
        if connection.silent_since != Some(since) || !connection.ends[side].open {
            return None;
        }
        let is_cut = self.is_cut(conn)?;
        let proc = self.give_up(conn, side)?;
        if !is_cut && self.is_open(conn, 1 - side) {
            let delay = chance.millis(0, self.delay_max);
            agenda.after(delay, Due::Net(NetDue::Broken(conn, 1 - side)));
        }
        Some(proc)
    }

    /// The caller is told that nobody answers, when that is so.
    pub fn not_made(&mut self, conn: Conn) -> Option<Proc> {
        let connection = self.all.get(&conn)?;
        if connection.is_made || !connection.ends[0].open {
            return None;
        }
        // A process that is stopped has its kernel answer the call.
        if !self.is_cut(conn)? && self.processes.lives(self.all[&conn].ends[1].proc) {
            return None;
        }
        self.all.remove(&conn).map(|connection| connection.ends[0].proc)
    }

    fn give_up(&mut self, conn: Conn, side: Side) -> Option<Proc> {
        let connection = self.all.get_mut(&conn)?;
        let end = &mut connection.ends[side];
        let told = end.open.then_some(end.proc);
        end.open = false;
        end.inbox.clear();
        if !connection.ends[1 - side].open {
            self.all.remove(&conn);
        }
        told
    }

    /// Breaks a connection: what is in flight is lost, and each end finds out on its own.
    pub fn snap(&mut self, conn: Conn, agenda: &mut Due_, chance: &mut Chance) {
        let Some(connection) = self.all.get_mut(&conn) else { return };
        connection.dead = true;
        for side in 0..2 {
            connection.ends[side].inbox.clear();
            agenda.after(chance.millis(0, 2_000), Due::Net(NetDue::Broken(conn, side)));
        }
    }

    /// All connections that both ends hold open.
    #[must_use]
    pub fn open(&self) -> Vec<Conn> {
        let both = self.all.iter().filter(|(_, c)| c.ends.iter().all(|end| end.open));
        both.map(|(conn, _)| *conn).collect()
    }

    /// A process is gone. Its host tells all peers, unless the host is gone with it: then they find out by themselves. What it
    /// said last may still arrive, or not.
    pub fn process_ended(&mut self, proc: Proc, power_lost: bool, agenda: &mut Due_, chance: &mut Chance) {
        self.processes.end(proc);
        let of_proc = |c: &Connection| (0..2).find(|side| c.ends[*side].proc == proc);
        let ends: Vec<(Conn, Side)> =
            self.all.iter().filter_map(|(conn, c)| Some((*conn, of_proc(c)?))).collect();
        for (conn, side) in ends {
            let is_reset = power_lost || chance.percent(50);
            let connection = self.all.get_mut(&conn).expect("it was just seen");
            if is_reset {
                connection.ends[1 - side].inbox.clear();
            }
            if power_lost && connection.ends[1 - side].open {
                connection.ends[side].open = false;
                connection.dead = true;
                self.falls_silent(conn, agenda, chance);
            } else {
                self.close(conn, side, agenda, chance);
            }
        }
    }

    /// Nothing comes through between two hosts.
    pub fn cut(&mut self, one: Host, other: Host, agenda: &mut Due_, chance: &mut Chance) {
        self.cuts.cut(one, other);
        for conn in self.between(|a, b| (a.host, b.host) == (one, other) || (a.host, b.host) == (other, one))
        {
            self.falls_silent(conn, agenda, chance);
        }
    }

    /// A cut ends. What it held up comes now, and who was given up meanwhile is told.
    pub fn heal(&mut self, one: Host, other: Host, agenda: &mut Due_, chance: &mut Chance) {
        if self.cuts.heal(one, other) {
            for conn in
                self.between(|a, b| (a.host, b.host) == (one, other) || (a.host, b.host) == (other, one))
            {
                self.comes_through(conn, agenda, chance);
            }
        }
    }

    /// A process was stopped: its peers hear nothing of it.
    pub fn frozen(&mut self, proc: Proc, agenda: &mut Due_, chance: &mut Chance) {
        for conn in self.between(|a, b| a.proc == proc || b.proc == proc) {
            self.falls_silent(conn, agenda, chance);
        }
    }

    /// A process goes on.
    pub fn thawed(&mut self, proc: Proc, agenda: &mut Due_, chance: &mut Chance) {
        for conn in self.between(|a, b| a.proc == proc || b.proc == proc) {
            self.comes_through(conn, agenda, chance);
        }
    }

    fn between(&self, wanted: impl Fn(&End, &End) -> bool) -> Vec<Conn> {
        let found = self.all.iter().filter(|(_, c)| wanted(&c.ends[0], &c.ends[1]));
        found.map(|(conn, _)| *conn).collect()
    }

    fn falls_silent(&mut self, conn: Conn, agenda: &mut Due_, chance: &mut Chance) {
        let Some(connection) = self.all.get_mut(&conn) else { return };
        let since = *connection.silent_since.get_or_insert(agenda.now());
        for side in 0..2 {
            let patience = chance.millis(KEEP_ALIVE.0, KEEP_ALIVE.1);
            agenda.at(since + patience, Due::Net(NetDue::Silent(conn, side, since)));
        }
    }

    fn comes_through(&mut self, conn: Conn, agenda: &mut Due_, chance: &mut Chance) {
        let still = self.is_cut(conn).unwrap_or(true)
            || self.all[&conn].ends.iter().any(|end| self.processes.is_frozen(end.proc));
        if still {
            return;
        }
        let (now, delay_max) = (agenda.now(), self.delay_max);
        let connection = self.all.get_mut(&conn).expect("it was just seen");
        if connection.dead {
            return;
        }
        connection.silent_since = None;
        for side in 0..2 {
            let is_given_up = !connection.ends[1 - side].open;
            let end = &mut connection.ends[side];
            let mut latest = now;
            for (at, _) in &mut end.inbox {
                latest = latest.max(*at).max(now + chance.millis(0, delay_max));
                *at = latest;
                agenda.at(latest, Due::Net(NetDue::Arrive(conn, side)));
            }
            end.latest = end.latest.max(latest);
            if is_given_up && end.open {
                agenda.at(end.latest, Due::Net(NetDue::Broken(conn, side)));
            }
        }
    }

    fn is_cut(&self, conn: Conn) -> Option<bool> {
        let [one, other] = &self.all.get(&conn)?.ends;
        Some(self.cuts.between(one.host, other.host))
    }
}

fn delay(connection: &Connection, delay_max: u64, chance: &mut Chance) -> Duration {
    let [one, other] = &connection.ends;
    if one.host == other.host { chance.millis(0, 1) } else { chance.millis(1, delay_max.max(1)) }
}
