//! What is in a package, the same in the tarball and in the .deb.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::binary::{Programs, V3};
use crate::run::{done, firesteel, told};
use crate::tree::{READ, RUN, Tree};
use crate::{binary, licences};

/// Copied as they are: where to, and from where below `packaging/`.
const COPIES: [(&str, &str); 9] = [
    ("usr/lib/systemd/system/firesteel-manager.service", "systemd/firesteel-manager.service"),
    ("usr/lib/systemd/system/firesteel-worker.service", "systemd/firesteel-worker.service"),
    ("usr/lib/systemd/system/firesteel-worker@.service", "systemd/firesteel-worker@.service"),
    ("usr/lib/sysusers.d/firesteel.conf", "sysusers/firesteel.conf"),
    ("usr/share/doc/firesteel/copyright", "copyright"),
    ("usr/share/doc/firesteel/examples/numa-node.conf", "examples/numa-node.conf"),
    ("usr/share/firesteel/observability/dashboard.json", "observability/dashboard.json"),
    ("usr/share/firesteel/observability/rules.yml", "observability/rules.yml"),
    ("usr/share/firesteel/observability/scrape.yml", "observability/scrape.yml"),
];

/// Printed by the program: where to, and by which arguments.
const PRINTED: [(&str, &[&str]); 4] = [
    ("usr/share/bash-completion/completions/firesteel", &["completions", "bash"]),
    ("usr/share/zsh/vendor-completions/_firesteel", &["completions", "zsh"]),
    ("usr/share/fish/vendor_completions.d/firesteel.fish", &["completions", "fish"]),
    ("usr/share/doc/firesteel/firesteel.toml", &["config", "--template"]),
];

/// Everything, with copies of the programs without their debug information. The faster one lies where the other one looks for it: in a folder
/// of its version, for one is never to run the other of another release.
pub fn collect(root: &Path, packaging: &Path, programs: &Programs, version: &str) -> Result<Tree> {
    let mut tree = Tree::default();
    let program = &programs.every;
    tree.put("usr/bin/firesteel", RUN, binary::stripped(program)?)?;
    if let Some(faster) = &programs.faster {
        let path = format!("usr/lib/firesteel/{version}/{V3}/firesteel");
        tree.put(&path, RUN, binary::stripped(faster)?)?;
    }
    for (path, from) in COPIES {
        tree.copy(path, READ, &packaging.join(from))?;
    }
    for (path, arguments) in PRINTED {
        tree.put(path, READ, told(firesteel(program).args(arguments))?)?;
    }
    put_manual(&mut tree, program)?;
    tree.put("usr/share/doc/firesteel/VERSION", READ, format!("{version}\n"))?;
    tree.put("usr/share/doc/firesteel/third-party.txt", READ, licences::collect(root)?)?;
    Ok(tree)
}

fn put_manual(tree: &mut Tree, program: &Path) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    done(firesteel(program).args(["man", "--out"]).arg(folder.path()))?;
    let mut pages = 0;
    for entry in std::fs::read_dir(folder.path()).context("cannot read the manual pages")? {
        let path = entry.context("cannot read the manual pages")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tree.copy(&format!("usr/share/man/man1/{name}"), READ, &path)?;
        pages += 1;
    }
    ensure!(pages > 0, "{} has written no manual pages", program.display());
    Ok(())
}
