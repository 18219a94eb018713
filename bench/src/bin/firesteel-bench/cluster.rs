//! A cluster on this machine for the time of a run.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

const READY_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(60);

/// `firesteel local-cluster` as a child.
pub struct LocalCluster {
    child: Child,
    manager: String,
}

impl LocalCluster {
    /// Starts a manager and so many workers, each with one executor of one core.
    pub fn start(program: &Path, workers: u32) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(["local-cluster", "--port", "0", "--cores-per-executor", "1", "--workers"])
            .arg(workers.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let mut cluster = Self { child, manager: String::new() };
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end even when nobody wants more lines, so that the writer never waits.
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let line = lines.recv_timeout(READY_MAX).context("the cluster did not become ready")?;
        let after = line.split_once("manager at ").map(|(_, rest)| rest);
        let address = after.and_then(|rest| rest.split([',', ' ']).next());
        cluster.manager = address.with_context(|| format!("the cluster said {line:?}"))?.to_owned();
        Ok(cluster)
    }

    /// `host:port` of its manager.
    pub fn manager(&self) -> String {
        self.manager.clone()
    }

    /// Ends it and all its processes.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.terminate()?;
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                anyhow::ensure!(status.success(), "the cluster ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the cluster did not end within {STOP_MAX:?}")
    }

    fn terminate(&self) -> anyhow::Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("it is no process id")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Its children end with their standard input, which is in its hands.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
