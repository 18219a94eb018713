//! The licences of what is linked into the program, which ask to go where it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::run::told;

/// How the names of files with licences and notices begin.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"];

/// One text: each package with its version and licence, and the texts that came with them, each once.
pub fn collect(root: &Path) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["metadata", "--format-version", "1", "--locked"]);
    let metadata = told(command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]))?;
    let metadata = serde_json::from_str(&metadata).context("what `cargo metadata` prints is no JSON")?;
    let packages =
        linked(&metadata, "firesteel-cli").context("`cargo metadata` is of another form than expected")?;
    page(&packages)
}

/// The packages from elsewhere that are linked into one, sorted.
fn linked<'a>(metadata: &'a Value, into: &str) -> Option<Vec<&'a Value>> {
    let packages = metadata["packages"].as_array()?;
    let by_id: BTreeMap<_, _> = packages.iter().map(|package| (package["id"].as_str(), package)).collect();
    let nodes = metadata["resolve"]["nodes"].as_array()?;
    let nodes: BTreeMap<_, _> = nodes.iter().map(|node| (node["id"].as_str(), node)).collect();
    let start = packages.iter().find(|package| package["name"] == into)?["id"].as_str();
    let (mut seen, mut open) = (BTreeSet::from([start]), vec![start]);
    while let Some(id) = open.pop() {
        for dependency in nodes.get(&id)?["deps"].as_array()? {
            let is_linked = dependency["dep_kinds"].as_array()?.iter().any(|kind| kind["kind"].is_null());
            if is_linked && seen.insert(dependency["pkg"].as_str()) {
                open.push(dependency["pkg"].as_str());
            }
        }
    }
    let mut found: Vec<_> = seen.iter().filter_map(|id| by_id.get(id).copied()).collect();
    found.retain(|package| !package["source"].is_null());
    found.sort_unstable_by_key(|package| (text(package, "name"), text(package, "version")));
    Some(found)
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

fn page(packages: &[&Value]) -> Result<String> {
    let mut page =
        "What is linked into firesteel, and the licences and notices that came with it.\n\n".to_owned();
    let mut texts = BTreeMap::<String, Vec<String>>::new();
    for package in packages {
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        let licence = package["license"].as_str().unwrap_or("see below");
        let _ = writeln!(page, "{name}: {licence} <{}>", text(package, "repository"));
        for text in texts_of(Path::new(text(package, "manifest_path")))? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    ensure!(!texts.is_empty(), "no licence was found beside any of {} packages", packages.len());
    for (text, names) in texts {
        let _ = write!(page, "\n{}\n{}:\n\n{}\n", "-".repeat(72), names.join(", "), text.trim());
    }
    Ok(page)
}

fn texts_of(manifest: &Path) -> Result<Vec<String>> {
    let folder = manifest.parent().context("a manifest lies in a folder")?;
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
        if path.is_file() && NAMES.iter().any(|begins| name.starts_with(begins)) {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    paths
        .iter()
        .map(|path| {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
        })
        .collect()
}
