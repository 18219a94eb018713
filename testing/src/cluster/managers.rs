//! The managers of a cluster: one on a port that the system chooses, or several that know each other.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::daemon::{self, Daemon, Signal};
use super::{ClusterOptions, ProcessCluster, READY_MAX, STOP_MAX, program};

/// Those that run, by their index.
pub(super) struct Managers {
    addresses: Vec<String>,
    running: BTreeMap<usize, Daemon>,
}

impl Managers {
    pub fn start(binary: &Path, folder: &Path, options: &ClusterOptions) -> anyhow::Result<Self> {
        if options.managers == 1 {
            let (manager, address) = start(binary, folder, options, &["127.0.0.1:0".to_owned()], 0)?;
            return Ok(Self { addresses: vec![address], running: BTreeMap::from([(0, manager)]) });
        }
        let addresses = free_addresses(options.managers)?;
        let mut running = BTreeMap::new();
        for index in 0..addresses.len() {
            running.insert(index, start(binary, folder, options, &addresses, index)?.0);
        }
        Ok(Self { addresses, running })
    }

    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub fn daemons(&mut self) -> impl Iterator<Item = &mut Daemon> {
        self.running.values_mut()
    }
}

/// What several managers must be told of each other before any of them listens.
fn free_addresses(count: usize) -> anyhow::Result<Vec<String>> {
    let taken: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    taken.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}

fn start(
    binary: &Path,
    folder: &Path,
    options: &ClusterOptions,
    addresses: &[String],
    index: usize,
) -> anyhow::Result<(Daemon, String)> {
    let mut command = program(binary, options, "manager");
    command.args(["manager", "--stop-with-input", "--bind", &addresses[index]]);
    if addresses.len() > 1 {
        command.args(["--peers", &addresses.join(",")]).arg("--state").arg(state_folder(folder, index));
    }
    let name = if addresses.len() > 1 { format!("manager-{index}") } else { "manager".to_owned() };
    let mut manager = Daemon::start(&name, command, folder)?;
    let line = manager.first_line(READY_MAX).with_context(|| daemon::log_tails(folder))?;
    let address = line.rsplit(' ').next().unwrap_or_default().to_owned();
    ensure!(address.contains(':'), "the manager said {line:?}");
    Ok((manager, address))
}

fn state_folder(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("manager-{index}-state"))
}

impl ProcessCluster {
    /// `host:port` of each manager.
    #[must_use]
    pub fn manager_addresses(&self) -> &[String] {
        self.managers.addresses()
    }

    /// The process of a manager that runs.
    #[must_use]
    pub fn manager_pid(&self, index: usize) -> u32 {
        self.managers.running[&index].pid()
    }

    /// The folder in which one of several managers keeps what it must.
    #[must_use]
    pub fn manager_state(&self, index: usize) -> PathBuf {
        state_folder(self.folder(), index)
    }

    /// What `firesteel managers --json` says.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn managers_shown(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.run(&["managers", "--json"])?.stdout)?)
    }

    /// What one of the managers says of itself.
    ///
    /// # Errors
    /// When nothing is said.
    pub fn manager_shown(&self, index: usize) -> anyhow::Result<Value> {
        let mut shown = self.managers_shown()?;
        let all = shown["managers"].as_array_mut().context("managers are listed")?;
        let address = &self.manager_addresses()[index];
        let found = all.iter_mut().find(|manager| manager["manager"] == address.as_str());
        Ok(found.context("all managers are listed")?.take())
    }

    /// The index of the manager that leads, once there is one.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn leader(&mut self) -> anyhow::Result<usize> {
        let mut leader = None;
        self.wait_for("a manager to lead", |cluster| {
            let shown = cluster.managers_shown()?;
            let mut addresses = cluster.manager_addresses().iter();
            leader = addresses.position(|address| shown["leader"] == address.as_str());
            Ok(leader.is_some())
        })?;
        leader.context("it was just found")
    }

    /// Kills a manager, as by a crash.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_manager(&mut self, index: usize) -> anyhow::Result<()> {
        let manager = self.managers.running.remove(&index).context("it runs")?;
        manager.signal_and_wait(Signal::Kill, STOP_MAX).map(drop)
    }

    /// Starts a manager that was killed, where it was.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start_manager(&mut self, index: usize) -> anyhow::Result<()> {
        let addresses = self.managers.addresses.clone();
        let (manager, _) = start(&self.binary, self.folder.path(), &self.options, &addresses, index)?;
        self.managers.running.insert(index, manager);
        Ok(())
    }

    /// Sends a signal to a manager.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_manager(&self, index: usize, signal: Signal) -> anyhow::Result<()> {
        self.managers.running.get(&index).context("it runs")?.signal(signal)
    }

    /// Has the only manager stand still for `span`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze_manager(&mut self, span: Duration) -> anyhow::Result<()> {
        self.signal_manager(0, Signal::Stop)?;
        thread::sleep(span);
        self.signal_manager(0, Signal::Continue)
    }

    /// Kills the only manager, as by a crash, and starts another one in its place after `away`.
    ///
    /// # Errors
    /// When it had ended already, or the new one is not ready in time.
    pub fn restart_manager(&mut self, away: Duration) -> anyhow::Result<()> {
        self.kill_manager(0)?;
        thread::sleep(away);
        self.start_manager(0)
    }
}
