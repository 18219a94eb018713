//! `firesteel doctor`

use std::path::{Path, PathBuf};

use clap::Args;
use firesteel_base::config::{Config, SecuritySettings, WorkerSettings};
use firesteel_base::{ByteSize, UserError};
use firesteel_certs::{Reach, Security};
use firesteel_executor::worker::CgroupMode;
use firesteel_hw::cgroup::{self, Place};
use firesteel_hw::layout::plan_executors;
use firesteel_hw::probe::{Finding, State, examine, examine_scratch};
use firesteel_hw::topology::Topology;
use serde_json::json;

use super::worker::{cgroup_mode, layout_request};
use crate::args::{self, Global};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::{print, print_json};
use crate::output::text;
use crate::processor::{COMPILED_FOR, FASTER, processor_is_of_level};

const EXAMPLES: &str = "\
Examples:
  firesteel doctor
  firesteel doctor --json | jq '.findings[] | select(.state != \"ok\")'

The exit code is 0 when Firesteel can run here, however slowly, and 1 when it cannot.";

/// Say what this machine can and cannot do, and what to change
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(global: &Global, args: &DoctorArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, Vec::new(), Role::Command)?;
    let topology = Topology::discover().map_err(UserError::from)?;
    let mut findings = examine(&topology);
    let limits = findings.iter().rposition(|finding| finding.area == "limits").map_or(0, |last| last + 1);
    findings.insert(limits, groups(&context.config.worker));
    findings.insert(0, program());
    for folder in scratch_folders(&context.config) {
        findings.extend(examine_scratch(&folder));
    }
    findings.push(security(&context.config.security));
    let executors = executors(&topology, &context.config);
    if args.json {
        print_json(&json!({
            "can_run": executors.is_ok(),
            "executors": executors.as_ref().ok(),
            "fault": executors.as_ref().err().map(|fault| &fault.message),
            "findings": findings,
        }))?;
    } else {
        print(&report(&findings))?;
    }
    let executors = executors?;
    if !args.json {
        print(&format!("\nFiresteel can run here. A worker would start {executors}.\n"))?;
    }
    Ok(Exit::Done)
}

/// Which of the programs of a package this is.
fn program() -> Finding {
    let better = if COMPILED_FOR != FASTER && processor_is_of_level() {
        "; packages have a faster one for this processor"
    } else {
        ""
    };
    let found = format!("{} for {COMPILED_FOR}{better}", args::BUILD);
    Finding { area: "system", name: "program".to_owned(), state: State::Ok, found, advice: None }
}

/// Whether a worker that is started here could give its children control groups of their own.
fn groups(worker: &WorkerSettings) -> Finding {
    let (state, found, advice) =
        match (cgroup_mode(worker), cgroup::examine(&Place::of_this_process(), "doctor")) {
            (CgroupMode::Off, _) => (State::Ok, "worker.cgroups is off: executors get none".to_owned(), None),
            (_, Ok(folder)) => {
                (State::Ok, format!("a worker can make them, below {}", folder.display()), None)
            }
            (_, Err(fault)) => {
                let advice = fault.advice().to_owned();
                (
                    State::Warn,
                    format!("a worker that is started from here gives executors none: {fault}"),
                    Some(advice),
                )
            }
        };
    Finding { area: "limits", name: "control groups of executors".to_owned(), state, found, advice }
}

/// Whether what is started here would be secured.
fn security(settings: &SecuritySettings) -> Finding {
    let (state, found, advice) = match Security::of_client(settings) {
        Ok(Security::Tls(tls)) => {
            let certificate = tls.certificate();
            (State::Ok, format!("of a {}, until {}", tls.identity(), certificate.end()), None)
        }
        Ok(Security::Plain(Reach::Anywhere)) => (
            State::Warn,
            "none: security.insecure is set, and whoever reaches a manager or a worker may run code on it"
                .to_owned(),
            Some("make certificates with `firesteel certs`, and set security.folder".to_owned()),
        ),
        Ok(Security::Plain(Reach::ThisHost)) => (
            State::Warn,
            "none: managers and workers do not start, and commands talk to this host alone".to_owned(),
            Some("make certificates with `firesteel certs`, and set security.folder".to_owned()),
        ),
        Err(fault) => (
            State::Missing,
            fault.message,
            fault.hint.or_else(|| Some("`firesteel certs show` shows it".to_owned())),
        ),
    };
    Finding { area: "security", name: "certificate".to_owned(), state, found, advice }
}

/// What a worker would start here, as it is configured.
fn executors(topology: &Topology, config: &Config) -> Result<String, UserError> {
    let layouts = plan_executors(topology, &layout_request(&config.worker))?;
    let cores: usize = layouts.iter().map(|layout| layout.cores.len()).sum();
    let memory: u64 = layouts.iter().map(|layout| layout.memory_bytes).sum();
    Ok(format!(
        "{} with {} and {} of memory in all",
        text::count(layouts.len() as u64, "executor"),
        text::count(cores as u64, "core"),
        ByteSize(memory)
    ))
}

/// The folders that local mode and a worker would use; for one that is not there yet, where it would be made.
fn scratch_folders(config: &Config) -> Vec<PathBuf> {
    let local = config.local.scratch.clone().set().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut folders = Vec::new();
    for folder in std::iter::once(&local).chain(&config.worker.scratch) {
        let there = existing(folder).to_owned();
        if !folders.contains(&there) {
            folders.push(there);
        }
    }
    folders
}

fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(folder)
}

fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut area = "";
    for finding in findings {
        if finding.area != area {
            area = finding.area;
            text.push_str(&format!("{}{area}\n", if text.is_empty() { "" } else { "\n" }));
        }
        text.push_str(&format!("  [{:^7}] {}: {}\n", finding.state, finding.name, finding.found));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("            to change it: {advice}\n"));
        }
    }
    let faults = findings.iter().filter(|finding| finding.state != State::Ok).count();
    text.push_str(&format!("\n{} things looked at, {faults} could be better\n", findings.len()));
    text
}
