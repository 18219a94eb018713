//! Faults come true: each is begun at its time and ended at its time.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::process::Signal;

use crate::chance::Chance;
use crate::cluster::{Cluster, files_below};
use crate::network::{Broken, Network};
use crate::proc;
use crate::record::Record;
use crate::schedule::{Fault, Kind, Target};
use crate::story::About;

/// Bytes that a corrupted file has changed.
const FLIPS: u64 = 16;

/// What has to be done to end a fault.
#[derive(Debug)]
enum Undo {
    StartManager,
    StartWorker(u32),
    Continue(u32),
    Mend(Vec<Broken>),
    Remove(PathBuf),
}

/// What a fault came to.
enum Hit {
    /// It hit somebody, and is over.
    Done(String),
    /// It hit somebody, and lasts.
    Lasting(String, Undo),
    /// There was nobody to hit.
    Nobody(&'static str),
}

/// A fault under way.
#[derive(Debug)]
struct UnderWay {
    place: usize,
    until: Duration,
    fault: Fault,
    undo: Undo,
}

/// Has all faults come true, until the run ends; what lasts then is ended at once.
pub fn strike(cluster: &Cluster, record: &Record, faults: &[Fault]) {
    let mut under_way: Vec<UnderWay> = Vec::new();
    let mut next = faults.iter().enumerate().peekable();
    loop {
        let ends = under_way.iter().map(|one| one.until).min();
        let begins = next.peek().map(|(_, fault)| fault.at());
        let due = ends.into_iter().chain(begins).min().unwrap_or(Duration::MAX);
        let wait = due.saturating_sub(record.story.now()).min(Duration::from_secs(3600));
        if !record.pause(wait) {
            break;
        }
        let now = record.story.now();
        end_those(cluster, record, &mut under_way, |one| one.until <= now);
        if let Some((number, fault)) = next.next_if(|(_, fault)| fault.at() <= now) {
            // On a host that is short of time one may still be there that should have ended.
            end_those(cluster, record, &mut under_way, |one| meet(one.fault.target, fault.target));
            under_way.extend(begin(cluster, record, number, fault));
        }
    }
    end_those(cluster, record, &mut under_way, |_| true);
}

/// Whether two targets have a host in common.
fn meet(one: Target, other: Target) -> bool {
    let theirs = other.workers();
    one == other || one.workers().iter().any(|worker| theirs.contains(worker))
}

fn begin(cluster: &Cluster, record: &Record, number: usize, fault: &Fault) -> Option<UnderWay> {
    let place = record.befalls(fault);
    let (said, undo) = match hit(cluster, number, fault) {
        Ok(Hit::Nobody(why)) => {
            record.noted().counts.missed += 1;
            record.story.tell(About::Fault, format_args!("#{number} {fault}: {why}"));
            record.passes(place);
            return None;
        }
        Ok(Hit::Done(what)) => (what, None),
        Ok(Hit::Lasting(what, undo)) => (what, Some(undo)),
        Err(error) => {
            record.passes(place);
            record.breach(format!("fault #{number}, {fault}, cannot be made: {error:#}"));
            return None;
        }
    };
    record.noted().counts.faults += 1;
    record.story.tell(About::Fault, format_args!("#{number} {fault} ({said})"));
    let Some(undo) = undo else {
        record.passes(place);
        return None;
    };
    Some(UnderWay { place, until: record.story.now() + fault.lasts(), fault: fault.clone(), undo })
}

fn end_those(
    cluster: &Cluster,
    record: &Record,
    all: &mut Vec<UnderWay>,
    is_due: impl Fn(&UnderWay) -> bool,
) {
    for UnderWay { place, fault, undo, .. } in all.extract_if(.., |one| is_due(one)) {
        if let Err(error) = end(cluster, &undo) {
            record.breach(format!("{fault} cannot be ended: {error:#}"));
        }
        record.passes(place);
        record.story.tell(About::Fault, format_args!("over: {fault}"));
    }
}

fn hit(cluster: &Cluster, number: usize, fault: &Fault) -> anyhow::Result<Hit> {
    match fault.kind {
        Kind::Kill => Ok(kill(cluster, fault.target)),
        Kind::Stop => {
            let pid = process(cluster, fault.target).filter(|&pid| proc::send(pid, Signal::STOP));
            Ok(pid.map_or(Hit::Nobody("it is not there"), |pid| Hit::Lasting(of(pid), Undo::Continue(pid))))
        }
        Kind::Cut | Kind::Loss { .. } | Kind::Slow { .. } => harm(cluster, number, fault),
        Kind::DiskFull => fill(cluster, number, fault.target),
        Kind::Corrupt => corrupt(cluster, fault),
    }
}

fn of(pid: u32) -> String {
    format!("process {pid}")
}

/// The process that has this role now.
fn process(cluster: &Cluster, target: Target) -> Option<u32> {
    match target {
        Target::Manager => Some(cluster.manager()),
        Target::Worker(worker) => cluster.worker(worker),
        Target::Executor(worker) => cluster.executor(worker),
        Target::Driver(number) => {
            let drivers = cluster.drivers();
            drivers.get((number as usize).checked_rem(drivers.len())?).copied()
        }
        Target::Between(..) => None,
    }
}

fn kill(cluster: &Cluster, target: Target) -> Hit {
    let Some(pid) = process(cluster, target) else { return Hit::Nobody("it is not there") };
    match target {
        Target::Manager => {
            cluster.kill_manager();
            Hit::Lasting(of(pid), Undo::StartManager)
        }
        Target::Worker(worker) => {
            cluster.kill_worker(worker);
            Hit::Lasting(of(pid), Undo::StartWorker(worker))
        }
        Target::Executor(_) | Target::Driver(_) | Target::Between(..) => {
            if proc::send(pid, Signal::KILL) {
                Hit::Done(of(pid))
            } else {
                Hit::Nobody("it has just ended")
            }
        }
    }
}

fn harm(cluster: &Cluster, number: usize, fault: &Fault) -> anyhow::Result<Hit> {
    let network = needed(cluster)?;
    // The numbers tell apart what is broken at a time; few are.
    let broken = |host, towards| Broken { kind: fault.kind, host, towards, number: (number % 10_000) as u16 };
    let all = match fault.target {
        Target::Manager => vec![broken(0, None)],
        Target::Worker(worker) => vec![broken(worker + 1, None)],
        Target::Between(one, other) => vec![broken(one + 1, Some(other + 1))],
        Target::Executor(_) | Target::Driver(_) => return Ok(Hit::Nobody("it has no link of its own")),
    };
    all.iter().try_for_each(|broken| network.harm(*broken))?;
    Ok(Hit::Lasting("at the bridge".to_owned(), Undo::Mend(all)))
}

fn needed(cluster: &Cluster) -> anyhow::Result<&Network> {
    cluster.network().context("the daemons have no hosts of their own")
}

/// Takes all room that is left on the disk.
fn fill(cluster: &Cluster, number: usize, target: Target) -> anyhow::Result<Hit> {
    let Target::Worker(worker) = target else { return Ok(Hit::Nobody("it has no disk of its own")) };
    anyhow::ensure!(cluster.setup().disk.is_some(), "the workers have no disks of their own");
    let path = cluster.scratch(worker).join(format!("full-{number}"));
    let disk = statvfs(cluster.scratch(worker))?;
    let room = disk.f_bavail * disk.f_frsize;
    let file = File::create(&path)?;
    fallocate(&file, FallocateFlags::empty(), 0, room.max(1)).or_else(|error| {
        // Somebody took some of it meanwhile.
        if error == rustix::io::Errno::NOSPC { Ok(()) } else { Err(error) }
    })?;
    Ok(Hit::Lasting(format!("{} MiB were left", room >> 20), Undo::Remove(path)))
}

/// Changes bytes of the largest file of blocks.
fn corrupt(cluster: &Cluster, fault: &Fault) -> anyhow::Result<Hit> {
    let Target::Executor(worker) = fault.target else { return Ok(Hit::Nobody("it has no blocks")) };
    let largest = files_below(&cluster.scratch(worker))
        .unwrap_or_default()
        .into_iter()
        .filter(|path| is_of_blocks(path))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.len(), path)))
        .max();
    let Some((bytes, path)) = largest.filter(|(bytes, _)| *bytes > 0) else {
        return Ok(Hit::Nobody("it has no block in a file"));
    };
    let flipped = flip(&path, bytes, &mut Chance::new(fault.at_ms, 0));
    Ok(match flipped {
        Ok(()) => Hit::Done(format!("{FLIPS} of {bytes} bytes of {}", Shown(&path))),
        // It was freed meanwhile.
        Err(_) => Hit::Nobody("its file has just gone"),
    })
}

struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.file_name().unwrap_or_default().to_string_lossy())
    }
}

fn is_of_blocks(path: &Path) -> bool {
    let is_store = |part: &Path| {
        part.file_name().is_some_and(|name| name.to_string_lossy().starts_with("firesteel-blocks-"))
    };
    path.ancestors().skip(1).any(is_store) && path.file_name().is_none_or(|name| name != "lock")
}

fn flip(path: &Path, bytes: u64, chance: &mut Chance) -> std::io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    for _ in 0..FLIPS {
        let at = chance.below(bytes);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[!byte[0]], at)?;
    }
    Ok(())
}

fn end(cluster: &Cluster, undo: &Undo) -> anyhow::Result<()> {
    match undo {
        Undo::StartManager => cluster.start_manager(),
        Undo::StartWorker(worker) => cluster.start_worker(*worker),
        Undo::Continue(pid) => {
            // One that was killed meanwhile, by its worker for its silence, needs it no more.
            proc::send(*pid, Signal::CONT);
            Ok(())
        }
        Undo::Mend(all) => all.iter().try_for_each(|broken| needed(cluster)?.mend(*broken)),
        Undo::Remove(path) => Ok(fs::remove_file(path)?),
    }
}
