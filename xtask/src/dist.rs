//! `cargo xtask dist`

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::binary::{Level, Programs};
use crate::sums::sha256;
use crate::{archive, binary, collection, contents, deb, version};

/// Make the packages: a tarball, a .deb, the Ansible collection, and SHA256SUMS
///
/// What is in them follows from the program and the checkout alone: made twice, they are the same byte for byte.
#[derive(Debug, Args)]
pub struct DistArgs {
    /// The folder to put them in; packages that an earlier run left there are replaced
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
    /// Take this program, and its version, rather than to build one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// With it, take this one, compiled for x86-64-v3; without, there is none for such processors
    #[arg(long, value_name = "PATH", requires = "binary")]
    faster: Option<PathBuf>,
    /// What goes in beside the program
    #[arg(long, value_name = "DIR", hide = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging"))]
    packaging: PathBuf,
    /// The Ansible collection
    #[arg(long, value_name = "DIR", hide = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../ansible"))]
    ansible: PathBuf,
}

/// The list of artefacts, in the form of `sha256sum`.
const SUMS: &str = "SHA256SUMS";

/// Runs the task.
pub fn run(root: &Path, args: &DistArgs) -> Result<()> {
    let time = version::time(root)?;
    let programs = programs(root, args)?;
    let version = programs.version()?;
    let packaging = &args.packaging;
    let tree = step("collecting what goes in", || contents::collect(root, packaging, &programs, &version))?;
    let depends = programs.depends()?;
    let top = format!("firesteel-{version}/");
    let mut made = Vec::new();
    let tarball = step("packing the tarball", || archive::tar_gz(&tree, &top, time))?;
    made.push((format!("firesteel-{version}-x86_64-linux.tar.gz"), tarball));
    let package = step("packing the .deb", || deb::package(packaging, &tree, &version, &depends, time))?;
    made.push((format!("firesteel_{version}_amd64.deb"), package));
    if args.ansible.is_dir() {
        let pack = || collection::pack(&args.ansible, &version, time);
        made.push(step("packing the Ansible collection", pack)?);
    } else {
        println!("dist: there is no folder {}, so no Ansible collection", args.ansible.display());
    }
    step("writing them", || write(&args.out, made))
}

/// Those that are given, or both built.
fn programs(root: &Path, args: &DistArgs) -> Result<Programs> {
    if let Some(every) = &args.binary {
        return Ok(Programs { every: every.clone(), faster: args.faster.clone() });
    }
    let version = version::of_checkout(root)?;
    let build = |level| binary::build(root, &version, level);
    let every = step("building the release for every processor", || build(Level::Every))?;
    let faster = step("building the release for x86-64-v3", || build(Level::V3))?;
    Ok(Programs { every, faster: Some(faster) })
}

fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("dist: {what}");
    let start = Instant::now();
    let done = work().with_context(|| format!("failed while {what}"))?;
    println!("dist: {what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}

fn write(out: &Path, mut made: Vec<(String, Vec<u8>)>) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    remove_earlier(out)?;
    made.sort();
    let mut sums = String::new();
    for (name, bytes) in &made {
        put(&out.join(name), bytes)?;
        sums += &format!("{}  {name}\n", sha256(bytes));
        println!("dist: {} ({:.1} MiB)", out.join(name).display(), bytes.len() as f64 / f64::from(1 << 20));
    }
    // Last, so that what it lists is there.
    put(&out.join(SUMS), sums.as_bytes())
}

/// What the list of an earlier run names goes, and nothing else: one folder holds one version.
fn remove_earlier(out: &Path) -> Result<()> {
    let list = out.join(SUMS);
    let Ok(text) = fs::read_to_string(&list) else { return Ok(()) };
    for name in text.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name) {
        ensure!(!name.contains('/'), "{} names '{name}', which is no file beside it", list.display());
        let path = out.join(name);
        if path.is_file() {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    fs::remove_file(&list).with_context(|| format!("cannot remove {}", list.display()))
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
