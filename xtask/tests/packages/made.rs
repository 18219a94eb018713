//! Making packages, and reading them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use tempfile::TempDir;

/// The time that all contents are of.
pub const TIME: u64 = 1_700_000_000;
/// The version that the program says it is of.
pub const VERSION: &str = "0.1.0+g0123456789ab";

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder with a program, with what is packed beside it, and with what comes out.
pub struct Bench {
    pub folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.compile(&format!("firesteel {VERSION} (commit 0123456789ab, wire version 6)"), &[]);
        copy(&root().join("packaging"), &bench.path("packaging"));
        for (name, text) in
            [("dashboard.json", "{}\n"), ("rules.yml", "groups: []\n"), ("scrape.yml", "a: b\n")]
        {
            let file = bench.path("packaging/observability").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the program anew, so that it says this of its version, and is linked with these.
    pub fn compile(&self, says: &str, links: &[&str]) {
        self.compile_as("firesteel", says, links);
    }

    /// Makes a program of that name. One that is called `faster` is packed for newer processors.
    pub fn compile_as(&self, name: &str, says: &str, links: &[&str]) {
        let source = root().join("xtask/tests/packages/fake.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-g", "-Wl,--no-as-needed", "-o"]).arg(self.path(name)).arg(source);
        compiler.arg(format!("-DVERSION_LINE=\"{says}\"")).args(links);
        assert!(compiler.status().unwrap().success());
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn dist(&self, out: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("dist").arg("--binary").arg(self.path("firesteel")).arg("--out").arg(self.path(out));
        command.arg("--packaging").arg(self.path("packaging")).arg("--ansible").arg(self.path("ansible"));
        if self.path("faster").exists() {
            command.arg("--faster").arg(self.path("faster"));
        }
        command.env("SOURCE_DATE_EPOCH", TIME.to_string()).output().unwrap()
    }

    /// The artefacts by name.
    #[track_caller]
    pub fn made(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let output = self.dist(out);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let entries = fs::read_dir(self.path(out)).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect()
    }

    /// What it says when it fails.
    #[track_caller]
    pub fn refused(&self) -> String {
        let output = self.dist("out");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: ") && !self.path("out/SHA256SUMS").exists(), "{said}");
        said
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

/// A file of an archive: its mode, and what is in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    pub mode: u32,
    pub bytes: Vec<u8>,
}

impl Packed {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }
}

/// The files of a compressed tar archive below `top`. That all is root's and of [`TIME`], and that names are sorted, is checked.
pub fn unpacked(bytes: &[u8], top: &str) -> BTreeMap<String, Packed> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    let (mut files, mut names) = (BTreeMap::new(), Vec::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let header = entry.header();
        assert_eq!(
            (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
            (0, 0, TIME),
            "{name}"
        );
        let (mode, is_file) = (header.mode().unwrap(), header.entry_type().is_file());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let inside = name.strip_prefix(top).unwrap_or_else(|| panic!("{name} is not below {top}")).to_owned();
        names.push(inside.clone());
        if is_file {
            files.insert(inside, Packed { mode, bytes });
        } else {
            assert!(mode == 0o755 && name.ends_with('/'), "{name}");
        }
    }
    assert!(names.is_sorted(), "{names:?}");
    files
}

/// The members of an `ar` archive.
pub fn members(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    bytes = bytes.strip_prefix(b"!<arch>\n").unwrap();
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(60);
        let head = std::str::from_utf8(head).unwrap();
        assert!(head.ends_with("`\n"), "{head}");
        let size: usize = head[48..58].trim().parse().unwrap();
        found.push((head[..16].trim().to_owned(), rest[..size].to_vec()));
        bytes = &rest[size + size % 2..];
    }
    found
}
