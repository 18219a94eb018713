//! What is kept of a run that hangs: where every thread of every process is.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cluster::{Cluster, wait_within};
use crate::proc;

/// How long a debugger may take for a process.
const DEBUGGER_MAX: Duration = Duration::from_secs(60);

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
        for &pid in all.iter().filter(|&&pid| proc::arguments(pid).len() > 1) {
            let Ok(file) = File::create(folder.join(format!("stacks-{pid}"))) else { continue };
            let mut command = Command::new(&debugger);
            command.args(["--batch", "-ex", "thread apply all bt 40", "-p", &pid.to_string()]);
            command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
            let Ok(mut child) = command.spawn() else { continue };
            if !matches!(wait_within(&mut child, DEBUGGER_MAX), Ok(Some(_))) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
