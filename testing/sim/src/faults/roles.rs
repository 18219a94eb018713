//! Faults of those who have a role: the manager that leads, its journal, drivers of submitted jobs and the workers that run them.

use std::time::Duration;

use super::Fault;
use super::befall::LASTS;
use crate::Options;
use crate::chance::Chance;
use crate::channel::{Host, Proc};
use crate::world::{World, manager_host};

/// How long after the start such faults come, in milliseconds.
const WHEN: (u64, u64) = (300, 20_000);
const FAULTS_MAX: u64 = 3;
/// A seed of its own: worlds without such a fault are as they were.
const OWN_CHANCE: u64 = 0x4071;

/// Draws them: of several managers always, of others in some worlds.
pub fn draw(seed: u64, options: &Options, members: u32) -> Vec<(Duration, Fault)> {
    let mut chance = Chance::new(seed ^ OWN_CHANCE);
    if options.is_calm {
        return Vec::new();
    }
    let mut faults = Vec::new();
    if members > 1 {
        for _ in 0..chance.between(1, FAULTS_MAX) {
            let kinds = [Fault::LeaderFrozen, Fault::LeaderIsolated, Fault::ManagerKilled];
            faults.extend(chance.pick(&kinds));
        }
    }
    if chance.percent(15) && options.restarts_manager {
        faults.push(Fault::JournalFails);
    }
    if chance.percent(40) {
        for _ in 0..chance.between(1, FAULTS_MAX) {
            let kinds = [Fault::LaunchedKilled, Fault::LaunchedIsolated, Fault::LaunchedIsolated];
            faults.extend(chance.pick(&kinds));
        }
    }
    faults.into_iter().map(|fault| (chance.millis(WHEN.0, WHEN.1), fault)).collect()
}

impl World {
    /// The manager that leads, or is the only one.
    fn leading(&self) -> Option<(u32, Proc)> {
        let latest = self.managers.iter().max_by_key(|(_, manager)| manager.run);
        latest.map(|(member, manager)| (*member, manager.proc))
    }

    pub(super) fn freeze_leader(&mut self) {
        if let Some((_, proc)) = self.leading() {
            self.freeze_process(proc);
        }
    }

    pub(super) fn isolate_leader(&mut self) {
        if let Some((member, _)) = self.leading() {
            self.isolate_host(manager_host(member));
        }
    }

    /// Drivers of submitted jobs that run, and their hosts.
    fn launched(&self) -> Vec<(u32, Host)> {
        let launched = self.drivers.iter().filter(|(_, driver)| driver.submitted.is_some());
        launched.map(|(number, _)| (*number, self.driver_hosts[number])).collect()
    }

    pub(super) fn kill_launched(&mut self) {
        let launched = self.launched();
        if let Some((number, _)) = self.scene.chance.pick(&launched) {
            self.kill_driver_of(number);
        }
    }

    pub(super) fn isolate_launched(&mut self) {
        let launched = self.launched();
        if let Some((_, host)) = self.scene.chance.pick(&launched) {
            self.isolate_host(host);
        }
    }

    fn isolate_host(&mut self, host: Host) {
        let span = self.scene.chance.pick(&LASTS).expect("there are spans");
        let lasts = self.scene.chance.between(span.0, span.1);
        for other in self.hosts().into_iter().filter(|other| *other != host) {
            self.cut_pair(host, other, (lasts, lasts));
        }
    }
}
