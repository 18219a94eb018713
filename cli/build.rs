//! Tells the command which build it is, and, for packages, links hwloc into it.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for variable in ["FIRESTEEL_BUILD", "FIRESTEEL_COMMIT", "FIRESTEEL_STATIC_HWLOC"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let commit = set("FIRESTEEL_COMMIT").or_else(commit).unwrap_or_else(|| "unknown".to_owned());
    let build = set("FIRESTEEL_BUILD").unwrap_or_else(|| match commit.as_str() {
        "unknown" => env!("CARGO_PKG_VERSION").to_owned(),
        commit => format!("{}+g{commit}", env!("CARGO_PKG_VERSION")),
    });
    println!("cargo::rustc-env=FIRESTEEL_BUILD={build}");
    println!("cargo::rustc-env=FIRESTEEL_COMMIT={commit}");
    if set("FIRESTEEL_STATIC_HWLOC").is_some() {
        link_hwloc();
    }
}

fn set(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The commit that is checked out, in twelve digits. Only this crate is built anew when it changes.
fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // The log has every change of HEAD; where there is none, HEAD or the branch that it names has.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let files = ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
    let paths = files.filter_map(|file| git(&["rev-parse", "--path-format=absolute", "--git-path", file]));
    for path in paths.map(PathBuf::from).filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    Some(commit)
}

/// What git says of the repository that the package lies in; none when it lies in none, or there is no git.
fn git(arguments: &[&str]) -> Option<String> {
    let package = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    told(Command::new("git").current_dir(Path::new(&package)).args(arguments))
}

fn told(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// A host that a package is installed on needs no hwloc of its own then. The linker takes what it finds first for `-lhwloc`: a folder
/// in which there is nothing but the archive.
fn link_hwloc() {
    let libraries = told(Command::new("pkg-config").args(["--variable=libdir", "hwloc"]));
    let archive = PathBuf::from(libraries.unwrap_or_else(|| "/usr/lib".to_owned())).join("libhwloc.a");
    assert!(
        archive.is_file(),
        "FIRESTEEL_STATIC_HWLOC is set, but there is no {}: install libhwloc-dev",
        archive.display()
    );
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("hwloc");
    let copied =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::copy(&archive, folder.join("libhwloc.a")));
    copied.unwrap_or_else(|fault| panic!("{} cannot be copied: {fault}", archive.display()));
    println!("cargo::rustc-link-search=native={}", folder.display());
    // What the archive itself is linked with.
    println!("cargo::rustc-link-arg-bins=-ludev");
}
