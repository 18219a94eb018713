//! The program that packages are made around: building it, stripping it, and what it needs of a host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{done, told};
use crate::version;

/// The processor family and wider ones are chosen by these; a release chooses none.
const FLAG_VARIABLES: [&str; 4] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
];

/// The programs of a package.
#[derive(Debug)]
pub struct Programs {
    /// The one that runs everywhere.
    pub every: PathBuf,
    /// The one that it makes way for where it can run.
    pub faster: Option<PathBuf>,
}

impl Programs {
    /// The version that they say they are of.
    pub fn version(&self) -> Result<String> {
        let version = version::of_binary(&self.every)?;
        if let Some(faster) = self.faster.as_deref().filter(|_| faster_runs_here()) {
            let other = version::of_binary(faster)?;
            ensure!(
                other == version,
                "{} is of version {other}, and the other program of {version}",
                faster.display()
            );
        }
        Ok(version)
    }

    /// The packages of Debian that they need, as a `Depends` line has them.
    pub fn depends(&self) -> Result<String> {
        let every = depends(&self.every)?;
        if let Some(faster) = &self.faster {
            let other = depends(faster)?;
            ensure!(other == every, "{} needs '{other}', and the other program '{every}'", faster.display());
        }
        Ok(every)
    }
}

/// Which processors a program is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Every x86-64.
    Every,
    /// Those of the level x86-64-v3, which has AVX2.
    V3,
}

/// Whether the faster program runs here: packages can be made on a machine where it does not.
fn faster_runs_here() -> bool {
    #[cfg(target_arch = "x86_64")]
    let runs = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2");
    #[cfg(not(target_arch = "x86_64"))]
    let runs = false;
    runs
}

/// Builds the release and says where it lies. hwloc is linked into it, so that hosts need none.
pub fn build(root: &Path, version: &str, level: Level) -> Result<PathBuf> {
    let flags = FLAG_VARIABLES.map(|name| (name, std::env::var(name).unwrap_or_default()));
    refuse_processors(&flags.each_ref().map(|(name, flags)| (*name, flags.as_str())))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let mut target = root.join(target);
    let mut command = Command::new(cargo);
    without_own_package(&mut command);
    command.current_dir(root).args(["build", "--release", "--locked", "--bin", "firesteel"]);
    if level == Level::V3 {
        // In a folder of its own: what is compiled otherwise is all built anew.
        target.push(V3);
        command.env("CARGO_ENCODED_RUSTFLAGS", flags_of_level()).env("CARGO_TARGET_DIR", &target);
    }
    done(command.env("FIRESTEEL_BUILD", version).env("FIRESTEEL_STATIC_HWLOC", "1"))?;
    Ok(target.join("release/firesteel"))
}

/// cargo tells this task which package it is of. Build scripts that look at such variables would find them changed, and what is built
/// already would be built again.
fn without_own_package(command: &mut Command) {
    let is_of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| is_of_package(name))
    {
        command.env_remove(name);
    }
}

/// The level of the faster program, as compilers call it.
pub const V3: &str = "x86-64-v3";

/// What the environment says, in the form that cargo reads first, and the level.
fn flags_of_level() -> String {
    let encoded = std::env::var("CARGO_ENCODED_RUSTFLAGS").ok();
    let plain = || {
        std::env::var("RUSTFLAGS")
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(ENCODED_SEPARATOR)
    };
    let given = encoded.unwrap_or_else(plain);
    let level = format!("-Ctarget-cpu={V3}");
    if given.is_empty() { level } else { format!("{given}{ENCODED_SEPARATOR}{level}") }
}

/// <https://doc.rust-lang.org/cargo/reference/environment-variables.html>
const ENCODED_SEPARATOR: &str = "\x1f";

/// A package says itself what is compiled for which processors.
fn refuse_processors(variables: &[(&str, &str)]) -> Result<()> {
    for (name, flags) in variables {
        ensure!(
            !flags.contains("target-cpu") && !flags.contains("target-feature"),
            "{name} = '{flags}' builds for some processors only, and packages are for all: take that out"
        );
    }
    Ok(())
}

/// The program without debug information. Its symbols stay: traces and profiles have names by them.
pub fn stripped(binary: &Path) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let copy = folder.path().join("firesteel");
    told(Command::new("strip").args(["--strip-debug", "-o"]).arg(&copy).arg(binary))?;
    std::fs::read(&copy).with_context(|| format!("cannot read {}", copy.display()))
}

/// The packages of Debian that a program needs.
fn depends(binary: &Path) -> Result<String> {
    let mut command = Command::new("objdump");
    depends_of(&told(command.env("LC_ALL", "C").arg("-p").arg(binary))?)
}

/// Which package has each library that may be needed. More of them are more that a host must have: it is decided here.
const PACKAGES: [(&str, &str); 6] = [
    ("libc.so.6", "libc6"),
    ("libm.so.6", "libc6"),
    ("ld-linux-x86-64.so.2", "libc6"),
    ("libgcc_s.so.1", "libgcc-s1"),
    ("libudev.so.1", "libudev1"),
    ("libhwloc.so.15", "libhwloc15 (>= 2.8.0)"),
];

fn depends_of(headers: &str) -> Result<String> {
    let needed = headers.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim);
    let mut packages = BTreeMap::new();
    for library in needed {
        let Some((_, package)) = PACKAGES.iter().find(|(name, _)| *name == library) else {
            bail!(
                "the program needs {library}, and no package is known that has it: add it in xtask/src/binary.rs"
            );
        };
        packages.insert(*package, (*package).to_owned());
    }
    if let Some(libc) = packages.get_mut("libc6") {
        let (major, minor) = newest_libc(headers).context("the program needs libc6, but no version of it")?;
        *libc = format!("libc6 (>= {major}.{minor})");
    }
    ensure!(!packages.is_empty(), "the program needs no library: it is none of this system");
    Ok(packages.into_values().collect::<Vec<_>>().join(", "))
}

/// The newest version of the C library that a symbol is of.
fn newest_libc(headers: &str) -> Option<(u32, u32)> {
    let versions = headers.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_"));
    versions
        .filter_map(|version| {
            let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
            Some((parts.next()??, parts.next()??))
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: &str = "\
Dynamic Section:
  NEEDED               libudev.so.1
  NEEDED               libm.so.6
  NEEDED               libc.so.6
  FLAGS                0x8

Version References:
  required from libm.so.6:
    0x069691b5 0x00 21 GLIBC_2.9
  required from libc.so.6:
    0x09691972 0x00 16 GLIBC_2.3.2
    0x069691b4 0x00 02 GLIBC_2.34
    0x069691b4 0x00 02 GLIBC_PRIVATE
";

    #[test]
    fn packages_follow_from_libraries_and_the_newest_symbol() {
        assert_eq!(depends_of(HEADERS).unwrap(), "libc6 (>= 2.34), libudev1");
    }

    #[test]
    fn a_library_that_no_package_is_known_for_is_named() {
        let fault = depends_of(&HEADERS.replace("libudev.so.1", "libfancy.so.7")).unwrap_err();
        assert!(fault.to_string().contains("libfancy.so.7"));
        assert!(depends_of("").is_err());
    }

    #[test]
    fn a_release_is_built_for_no_processor() {
        refuse_processors(&[("RUSTFLAGS", "-D warnings"), ("CARGO_BUILD_RUSTFLAGS", "")]).unwrap();
        let fault = refuse_processors(&[("RUSTFLAGS", "-C target-cpu=native")]).unwrap_err();
        assert!(fault.to_string().contains("RUSTFLAGS"));
    }

    #[test]
    fn nothing_in_the_checkout_chooses_a_processor() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in [".cargo/config.toml", "Cargo.toml"] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            for flag in ["rustflags", "target-cpu", "target-feature"] {
                assert!(!text.contains(flag), "{file} has {flag}");
            }
        }
    }
}
