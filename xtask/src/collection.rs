//! The Ansible collection, in the form that `ansible-galaxy collection install` takes.
//!
//! It is not made by `ansible-galaxy collection build`: that puts the time of each file into the archive, so that no two are alike, and
//! it would have to be installed where packages are built.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::archive::tar_gz;
use crate::galaxy;
use crate::sums::sha256;
use crate::tree::{READ, RUN, Tree};

/// What `MANIFEST.json` says of a collection, and whether it is a list.
const INFO: [(&str, bool); 14] = [
    ("namespace", false),
    ("name", false),
    ("version", false),
    ("authors", true),
    ("readme", false),
    ("tags", true),
    ("description", false),
    ("license", true),
    ("license_file", false),
    ("dependencies", false),
    ("repository", false),
    ("documentation", false),
    ("homepage", false),
    ("issues", false),
];

/// What lies in a collection's folder and is none of it, wherever it lies.
const NOT_OURS: [&str; 5] = ["galaxy.yml", ".git", "__pycache__", "*.pyc", "*.retry"];

/// Packs the collection in that folder, as that version: the name of the artefact, and its bytes.
pub fn pack(folder: &Path, version: &str, time: u64) -> Result<(String, Vec<u8>)> {
    let text = fs::read_to_string(folder.join("galaxy.yml"));
    let mut about =
        galaxy::read(&text.with_context(|| format!("cannot read galaxy.yml in {}", folder.display()))?)?;
    about.insert("version".to_owned(), json!(version));
    let mut files = Tree::default();
    collect(folder, "", &ignored(&about), &mut files)?;
    let list = pretty(&json!({ "files": listed(&files), "format": 1 }))?;
    let manifest = json!({
        "collection_info": info(&about)?,
        "file_manifest_file": {
            "name": "FILES.json", "ftype": "file", "chksum_type": "sha256", "chksum_sha256": sha256(list.as_bytes()), "format": 1,
        },
        "format": 1,
    });
    files.put("FILES.json", READ, list)?;
    files.put("MANIFEST.json", READ, pretty(&manifest)?)?;
    let named = |key: &str| about[key].as_str().unwrap_or_default();
    let name = format!("{}-{}-{version}.tar.gz", named("namespace"), named("name"));
    Ok((name, tar_gz(&files, "", time)?))
}

fn info(about: &BTreeMap<String, Value>) -> Result<Value> {
    for key in ["namespace", "name", "readme"] {
        ensure!(about.get(key).is_some_and(Value::is_string), "galaxy.yml names no {key}");
    }
    let value = |(key, is_list): (&str, bool)| {
        let none = match key {
            "dependencies" => json!({}),
            _ if is_list => json!([]),
            _ => Value::Null,
        };
        (key.to_owned(), about.get(key).filter(|value| !value.is_null()).cloned().unwrap_or(none))
    };
    Ok(Value::Object(INFO.into_iter().map(value).collect()))
}

fn ignored(about: &BTreeMap<String, Value>) -> Vec<String> {
    let own = about.get("build_ignore").and_then(Value::as_array);
    let own = own.into_iter().flatten().filter_map(Value::as_str);
    NOT_OURS.into_iter().chain(own).map(str::to_owned).collect()
}

fn collect(folder: &Path, below: &str, ignored: &[String], files: &mut Tree) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let inside = format!("{below}{name}");
        if ignored.iter().any(|pattern| fits(pattern, &name) || fits(pattern, &inside)) {
            continue;
        }
        if path.is_dir() {
            collect(&path, &format!("{inside}/"), ignored, files)?;
            continue;
        }
        let about = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // A file for nothing but its being there is none of the package; Ansible needs none.
        if about.len() > 0 {
            files.copy(&inside, if about.permissions().mode() & 0o100 == 0 { READ } else { RUN }, &path)?;
        }
    }
    Ok(())
}

/// Whether a name is one of a pattern with `*` for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(tail, &rest[at..]))
}

fn listed(files: &Tree) -> Vec<Value> {
    let folder = |name: &str| json!({ "name": name, "ftype": "dir", "chksum_type": null, "chksum_sha256": null, "format": 1 });
    let folders = std::iter::once(".").chain(files.folders()).map(folder);
    let contents = files.files().map(|(name, file)| {
        json!({
            "name": name, "ftype": "file", "chksum_type": "sha256", "chksum_sha256": sha256(&file.bytes), "format": 1,
        })
    });
    folders.chain(contents).collect()
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_stars() {
        assert!(
            fits("*.pyc", "a.pyc")
                && fits("tests/*", "tests/a/b")
                && fits("a*b*c", "aXbYc")
                && fits("a", "a")
        );
        assert!(!fits("*.pyc", "a.py") && !fits("a", "ab") && !fits("a*b", "a") && !fits("a*bb", "ab"));
    }
}
