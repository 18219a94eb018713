//! What is kept of a run that hangs: where every thread of every process is.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, wait_within};
use crate::proc;

/// How long a debugger may take for all processes together. Each stands still meanwhile.
const DEBUGGER_MAX: Duration = Duration::from_secs(90);

/// Writes down where the threads of all processes of a run are, beside the logs: as the system sees it, and as a debugger does where
/// there is one. `pid` is who hangs.
pub fn stacks(cluster: &Cluster, name: &str, pid: u32) {
    let folder = cluster.logs().join(format!("hang-{name}"));
    if let Err(error) = fs::create_dir_all(&folder) {
        eprintln!("warning: {} cannot be made: {error}", folder.display());
        return;
    }
    let all = proc::marked(&cluster.setup().mark);
    let mut lines = vec![format!("{pid} hangs")];
    lines.extend(all.iter().map(|&pid| proc::threads_at(pid)));
    lines.push(format!("nodes: {:#?}", cluster.nodes()));
    // What cannot be written is missed by whoever reads the rest.
    let _ = fs::write(folder.join("threads"), lines.join("\n"));
    if let Some(debugger) = proc::program("gdb") {
        let deadline = Instant::now() + DEBUGGER_MAX;
        // Who hangs comes first.
        for &pid in std::iter::once(&pid).chain(all.iter().filter(|&&other| other != pid)) {
            debug(&debugger, pid, &folder, deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// Has a debugger write where the threads of a process are.
fn debug(debugger: &Path, pid: u32, folder: &Path, wait_max: Duration) {
    if wait_max.is_zero() {
        return;
    }
    let Ok(file) = File::create(folder.join(format!("stacks-{pid}"))) else { return };
    let mut command = Command::new(debugger);
    command.args(["--batch", "-ex", "thread apply all bt 40", "-p", &pid.to_string()]);
    command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return };
    if !matches!(wait_within(&mut child, wait_max), Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
}
