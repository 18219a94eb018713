//! Several managers: a model of what `manager/src/shell/replication` and the consensus library under it promise, and not of how
//! they do it.
//!
//! ```text
//!   members ── a majority hears the leader ─► it holds its office for 900 ms from then ─► acts
//!      └────── a majority has heard none for 1001 ms ─► one of them leads: a run begins, with all that was written
//! ```
//!
//! One leads at a time. What it had written a majority has, so the next one has it too; of what was under way all is kept or
//! nothing. A leader that a majority has not heard lately looks so before it takes anything in or lets anything out, and says
//! nothing.

use std::time::Duration;

use firesteel_base::Timestamp;

use super::manager::Manager;
use super::{Due, World};
use crate::channel::{Host, Party, Proc};
use crate::mutation::Kind;

/// How often the members are looked at.
const TURN: Duration = Duration::from_millis(100);
/// How long a leader acts after a majority has heard it.
const HELD: Duration = Duration::from_millis(900);
/// How long whoever has heard a leader votes for no other.
const LEASE: Duration = Duration::from_millis(1001);
/// How much longer than the one before it each member waits before it stands for election.
const RANK_WAIT: Duration = Duration::from_millis(200);
/// Of a hundred elections so many are in vain.
const IN_VAIN: u64 = 20;

/// Which of several managers leads.
#[derive(Debug)]
pub struct Office {
    leader: Option<u32>,
    /// When a majority has last heard it.
    heard: Timestamp,
}

/// Where a manager runs.
#[must_use]
pub fn manager_host(member: u32) -> Host {
    if member == 0 { super::MANAGER_HOST } else { Host(50 + member) }
}

impl World {
    /// Starts the members of a cluster with several managers.
    pub fn start_members(&mut self, members: u32) {
        self.members = members;
        self.office = Some(Office { leader: None, heard: Timestamp(0) });
        for member in 0..members {
            self.start_member(member);
        }
        self.scene.agenda.after(Duration::ZERO, Due::Members);
    }

    /// A member's process starts; it follows.
    pub fn start_member(&mut self, member: u32) {
        let proc = self.scene.net.processes.start(Party::Manager(member), manager_host(member));
        self.scene.tell(proc, || "starts as one of several".to_owned());
    }

    fn member(&self, member: u32) -> Option<Proc> {
        self.scene.net.processes.of(&Party::Manager(member))
    }

    /// Whether a member runs, and reaches a majority that does.
    fn has_majority(&self, member: u32) -> bool {
        let runs =
            |other: u32| self.member(other).is_some_and(|proc| !self.scene.net.processes.is_frozen(proc));
        let reached = (0..self.members).filter(|other| {
            runs(*other) && self.scene.net.reaches(manager_host(member), manager_host(*other))
        });
        runs(member) && reached.count() > self.members as usize / 2
    }

    /// Whether a manager may act. One that is alone always may.
    #[must_use]
    pub fn is_in_office(&self, member: u32) -> bool {
        let Some(office) = &self.office else { return true };
        if self.scene.mutation.as_ref().is_some_and(|mutation| mutation.kind == Kind::OldLeaderSpeaks) {
            return true;
        }
        office.leader == Some(member) && self.scene.now() < office.heard + HELD
    }

    /// The members' turn: the leader is heard, or another one leads.
    pub fn members_look(&mut self) {
        self.scene.agenda.after(TURN, Due::Members);
        let now = self.scene.now();
        let Some(office) = &self.office else { return };
        let (leader, heard) = (office.leader, office.heard);
        let leads = leader.filter(|leader| self.has_majority(*leader));
        if let Some(leader) = leads.filter(|_| now < heard + LEASE) {
            self.office = Some(Office { leader: Some(leader), heard: now });
            if !self.managers.contains_key(&leader) {
                self.begin_to_lead(leader);
            }
            return;
        }
        let stands = (0..self.members)
            .find(|&member| now >= heard + LEASE + RANK_WAIT * member && self.has_majority(member));
        if let Some(member) = stands
            && !self.scene.chance.percent(IN_VAIN)
        {
            self.office = Some(Office { leader: Some(member), heard: now });
            self.begin_to_lead(member);
        }
    }

    fn begin_to_lead(&mut self, member: u32) {
        self.step_down(member);
        let Some(proc) = self.member(member) else { return };
        self.manager_was_restarted |= self.scene.check.has_had_a_manager();
        // What runs begin with is in the log: past all that was given out.
        self.epoch_seed += 10_000;
        self.managers.insert(member, Manager::lead(proc, self.epoch_seed, &mut self.scene));
    }

    /// A manager that does not lead any more: whoever is with it is told.
    pub fn step_down(&mut self, member: u32) {
        let Some(manager) = self.managers.remove(&member) else { return };
        self.scene.tell(manager.proc, || "does not lead any more".to_owned());
        manager.leave(&mut self.scene);
    }

    /// Whom somebody on that host finds who looks for the manager.
    pub fn find_manager(&mut self, from: Host) -> (Proc, Host) {
        if self.office.is_none() {
            return self.address(&Party::Manager(0));
        }
        let reached: Vec<u32> = (0..self.members)
            .filter(|&member| {
                self.member(member).is_some() && self.scene.net.reaches(from, manager_host(member))
            })
            .collect();
        let serves = |member: &&u32| self.managers.contains_key(*member) && self.is_in_office(**member);
        let found = reached.iter().find(serves).copied().or_else(|| self.scene.chance.pick(&reached));
        found.map_or((Proc(0), Host(0)), |member| self.address(&Party::Manager(member)))
    }

    /// The manager that serves, or would if it were heard: the latest.
    #[must_use]
    pub fn manager(&self) -> Option<&Manager> {
        self.managers.values().max_by_key(|manager| manager.run)
    }
}

impl World {
    /// The journal has had its time to write what that manager gave it.
    pub(super) fn journal_written(&mut self, member: u32, run: u64) {
        let Some(manager) = self.managers.get(&member).filter(|manager| manager.run == run) else { return };
        let proc = manager.proc;
        if std::mem::take(&mut self.scene.journal.fails) {
            self.scene.tell(proc, || "cannot write its journal, and ends".to_owned());
            return self.end_manager(member);
        }
        if !self.is_in_office(member) {
            return self.step_down(member);
        }
        if self.office.is_some() && !self.has_majority(member) {
            return self.scene.wake(proc, TURN, super::Timer::JournalWritten(run));
        }
        self.managers.get_mut(&member).expect("it was just seen").written(&mut self.scene);
        self.resume(proc);
    }

    /// The manager that may be asked now, if there is one.
    pub fn manager_at_hand(&mut self) -> Option<(&mut Manager, &mut super::Scene)> {
        let processes = &self.scene.net.processes;
        let is_free = |manager: &Manager| !processes.is_frozen(manager.proc) && !manager.is_writing();
        let at_hand =
            self.managers.iter().find(|(member, manager)| self.is_in_office(**member) && is_free(manager));
        let member = *at_hand?.0;
        self.managers.get_mut(&member).map(|manager| (manager, &mut self.scene))
    }
}
