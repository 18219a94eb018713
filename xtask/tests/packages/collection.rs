//! The Ansible collection.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::made::{Bench, VERSION, unpacked};

const ABOUT: &str = "\
namespace: firesteel
name: cluster
version: 0.0.0
readme: README.md
authors: [Somebody]
license:
  - Apache-2.0
build_ignore: ['tests/*']
";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("ansible/galaxy.yml", ABOUT);
    bench.write("ansible/README.md", "About it\n");
    bench.write("ansible/roles/worker/tasks/main.yml", "---\n[]\n");
    bench.write("ansible/roles/worker/files/check", "#!/bin/sh\n");
    bench.write("ansible/tests/run.sh", "#!/bin/sh\n");
    bench.write("ansible/plugins/__pycache__/a.pyc", "x");
    let check = bench.path("ansible/roles/worker/files/check");
    fs::set_permissions(check, fs::Permissions::from_mode(0o755)).unwrap();
    bench
}

#[test]
fn it_says_what_is_in_it_and_of_which_version() {
    let made = bench().made("out");
    let files = unpacked(&made[&format!("firesteel-cluster-{VERSION}.tar.gz")], "");
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let expected = [
        "FILES.json",
        "MANIFEST.json",
        "README.md",
        "roles/worker/files/check",
        "roles/worker/tasks/main.yml",
    ];
    assert_eq!(names, expected);
    assert_eq!(files["roles/worker/files/check"].mode, 0o755);
    let manifest: Value = serde_json::from_slice(&files["MANIFEST.json"].bytes).unwrap();
    let info = &manifest["collection_info"];
    assert_eq!(info["version"], VERSION);
    assert_eq!(info["license"], json!(["Apache-2.0"]));
    assert_eq!(info["dependencies"], json!({}));
    let listed: Value = serde_json::from_slice(&files["FILES.json"].bytes).unwrap();
    let listed: Vec<_> =
        listed["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    for name in [".", "roles", "roles/worker", "roles/worker/files/check", "README.md"] {
        assert!(listed.contains(&name), "{name} is not in {listed:?}");
    }
}

#[test]
fn the_digests_in_it_are_right() {
    let bench = bench();
    let made = bench.made("out");
    let folder = bench.path("unpacked");
    fs::create_dir(&folder).unwrap();
    let archive = bench.path("out").join(format!("firesteel-cluster-{VERSION}.tar.gz"));
    assert!(made.contains_key(archive.file_name().unwrap().to_str().unwrap()));
    assert!(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&folder).status().unwrap().success());
    let read = |name: &str| serde_json::from_slice::<Value>(&fs::read(folder.join(name)).unwrap()).unwrap();
    let (manifest, list) = (read("MANIFEST.json"), read("FILES.json"));
    let files = list["files"].as_array().unwrap().iter().chain([&manifest["file_manifest_file"]]);
    let mut checked = 0;
    for file in files.filter(|file| file["ftype"] == "file") {
        let told =
            Command::new("sha256sum").arg(folder.join(file["name"].as_str().unwrap())).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        assert_eq!(file["chksum_sha256"].as_str(), told.split_whitespace().next(), "{file}");
        checked += 1;
    }
    assert_eq!(checked, 4);
}

#[test]
fn without_a_name_it_is_no_collection() {
    let bench = bench();
    bench.write("ansible/galaxy.yml", "name: cluster\nreadme: README.md\n");
    assert!(bench.refused().contains("galaxy.yml names no namespace"));
    bench.write("ansible/galaxy.yml", "name: cluster\n- x\n");
    assert!(bench.refused().contains("galaxy.yml line 2"));
}
