//! A long-running process, its log in a file.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, kill_process};

use super::command::wait_within;
use super::proc;

/// Lines of a log that a failure shows.
const LOG_LINES: usize = 40;

/// What a process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// It is asked to: SIGTERM.
    Terminate,
    /// It is made to, as by a crash: SIGKILL.
    Kill,
    /// It stands still: SIGSTOP.
    Stop,
    /// It goes on: SIGCONT.
    Continue,
}

/// A process that is killed when dropped.
pub struct Daemon {
    name: String,
    child: Child,
    /// Its end is the daemon's, should this process be killed.
    _input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Daemon {
    pub fn start(name: &str, mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        // One that is started again goes on in the log of the one before.
        let log = File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (sender, lines) = mpsc::channel();
        let output = child.stdout.take().context("its output is a pipe")?;
        thread::spawn(move || {
            // A receiver that is gone wants no more lines; they are read all the same, so that the writer never waits.
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        Ok(Self { name: name.to_owned(), _input: child.stdin.take(), child, lines })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line that it prints.
    pub fn first_line(&mut self, wait_max: Duration) -> anyhow::Result<String> {
        self.lines
            .recv_timeout(wait_max)
            .with_context(|| format!("{} did not say that it is ready", self.name))
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        send(self.pid(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    pub fn wait(&mut self, wait_max: Duration) -> anyhow::Result<ExitStatus> {
        match wait_within(&mut self.child, wait_max)? {
            Some(status) => Ok(status),
            None => bail!("{} did not end within {wait_max:?}", self.name),
        }
    }

    pub fn signal_and_wait(mut self, signal: Signal, wait_max: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(wait_max)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        // Its children first: killed itself, it can no longer end them.
        for child in proc::children(self.pid()).unwrap_or_default() {
            let _ = send(child, Signal::Kill);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of a test.
///
/// # Errors
/// When there is no such process.
pub fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let signal = match signal {
        Signal::Terminate => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Continue => rustix::process::Signal::CONT,
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("it is no process id")?;
    Ok(kill_process(pid, signal)?)
}

/// The ends of the logs in `folder`.
pub fn log_tails(folder: &Path) -> String {
    let mut text = String::new();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut logs: Vec<_> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    for log in logs {
        let all = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = all.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        writeln!(text, "--- {}\n{}", log.display(), tail.join("\n")).expect("a string takes all");
    }
    text
}
