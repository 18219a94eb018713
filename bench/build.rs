//! Tells release builds which commit they are of, for the records that they keep.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Other builds are measured by nobody, and would be made anew after every commit.
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo::rustc-env=FIRESTEEL_COMMIT={commit}");
    }
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) =
            git(&["rev-parse", "--git-path", file]).map(PathBuf::from).filter(|path| path.exists())
        {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

/// What git says of the repository that the package lies in; none when it lies in none, or there is no git.
fn git(arguments: &[&str]) -> Option<String> {
    let package = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let output = Command::new("git").current_dir(Path::new(&package)).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
