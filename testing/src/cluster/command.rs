//! A command that is expected to end by itself.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::daemon::{Signal, send};

/// How long any command of a test may run.
const COMMAND_MAX: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(5);

/// A command under way; killed when dropped.
pub struct Running {
    child: Child,
    output: Option<JoinHandle<String>>,
    errors: Option<JoinHandle<String>>,
    described: String,
}

/// How a command ended, and what it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    described: String,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let described = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {described}"))?;
        let output = child.stdout.take().map(collect);
        let errors = child.stderr.take().map(collect);
        Ok(Self { child, output, errors, described })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        send(self.pid(), signal)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn finish(mut self) -> anyhow::Result<Finished> {
        let Some(status) = wait_within(&mut self.child, COMMAND_MAX)? else {
            bail!("it did not end within {COMMAND_MAX:?}: {}", self.described);
        };
        let text = |reader: Option<JoinHandle<String>>| {
            reader.map_or_else(String::new, |reader| reader.join().unwrap_or_default())
        };
        Ok(Finished {
            status,
            stdout: text(self.output.take()),
            stderr: text(self.errors.take()),
            described: self.described.clone(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Finished {
    /// What it wrote to standard output.
    ///
    /// # Errors
    /// When it failed, with what it wrote to standard error.
    pub fn succeeded(self) -> anyhow::Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        bail!("{} ended with {}\n{}", self.described, self.status, self.stderr)
    }

    /// What it wrote to standard error.
    ///
    /// # Errors
    /// When it did not fail with this exit code.
    pub fn failed_with(self, code: i32) -> anyhow::Result<String> {
        if self.status.code() == Some(code) {
            return Ok(self.stderr);
        }
        bail!(
            "{} ended with {}, not with exit code {code}\n{}{}",
            self.described,
            self.status,
            self.stdout,
            self.stderr
        )
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before a pipe broke is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Its exit status, or nothing when it has not ended in that time.
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
