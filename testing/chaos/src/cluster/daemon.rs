//! A manager or worker: started, hit, and started again.

use std::fs::File;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use crate::proc;

const POLL: Duration = Duration::from_millis(10);

/// A process that is killed when dropped, its log in a file.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    /// Its end is the daemon's, should this process be killed.
    _input: Option<ChildStdin>,
    is_expected_to_live: bool,
}

impl Daemon {
    /// Starts one; it goes on in the log of the one before.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take();
        Ok(Self { name: name.to_owned(), child, _input: input, is_expected_to_live: true })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended although nobody had it end; told once.
    pub fn ended_by_itself(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(status)) if self.is_expected_to_live => {
                self.is_expected_to_live = false;
                Some(format!("{} ended by itself with {status}", self.name))
            }
            Ok(_) => None,
            Err(error) => Some(format!("{} cannot be waited for: {error}", self.name)),
        }
    }

    /// Kills it, and those of its children that are named.
    pub fn kill(&mut self, also: &[u32]) {
        self.is_expected_to_live = false;
        proc::send(self.pid(), Signal::KILL);
        for &pid in also {
            proc::send(pid, Signal::KILL);
        }
        // It cannot refuse.
        let _ = self.child.wait();
    }

    /// Asks it to end.
    pub fn terminate(&mut self) {
        self.is_expected_to_live = false;
        proc::send(self.pid(), Signal::TERM);
    }

    /// Its exit status, when it ends in time.
    pub fn wait(&mut self, wait_max: Duration) -> anyhow::Result<ExitStatus> {
        match wait_within(&mut self.child, wait_max)? {
            Some(status) => Ok(status),
            None => bail!("{} did not end within {wait_max:?} of being asked to", self.name),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let children = proc::children(self.pid());
            self.kill(&children);
        }
    }
}

/// The exit status of a process, or nothing when it has not ended in that time.
pub fn wait_within(child: &mut Child, wait_max: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + wait_max;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}
