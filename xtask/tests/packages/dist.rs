//! The tarball, the .deb and the list of digests.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::made::{Bench, Packed, VERSION, members, root, unpacked};

const PROMISED: [&str; 18] = [
    "usr/bin/firesteel",
    "usr/lib/systemd/system/firesteel-manager.service",
    "usr/lib/systemd/system/firesteel-worker.service",
    "usr/lib/systemd/system/firesteel-worker@.service",
    "usr/lib/sysusers.d/firesteel.conf",
    "usr/share/bash-completion/completions/firesteel",
    "usr/share/doc/firesteel/VERSION",
    "usr/share/doc/firesteel/copyright",
    "usr/share/doc/firesteel/examples/numa-node.conf",
    "usr/share/doc/firesteel/firesteel.toml",
    "usr/share/doc/firesteel/third-party.txt",
    "usr/share/firesteel/observability/dashboard.json",
    "usr/share/firesteel/observability/rules.yml",
    "usr/share/firesteel/observability/scrape.yml",
    "usr/share/fish/vendor_completions.d/firesteel.fish",
    "usr/share/man/man1/firesteel-sql.1",
    "usr/share/man/man1/firesteel.1",
    "usr/share/zsh/vendor-completions/_firesteel",
];

fn tarball(made: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Packed> {
    unpacked(&made[&format!("firesteel-{VERSION}-x86_64-linux.tar.gz")], &format!("firesteel-{VERSION}/"))
}

fn deb(made: &BTreeMap<String, Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    members(&made[&format!("firesteel_{VERSION}_amd64.deb")])
}

#[test]
fn every_promised_file_is_there_with_its_mode_and_no_other() {
    let files = tarball(&Bench::new().made("out"));
    assert_eq!(files.keys().collect::<Vec<_>>(), PROMISED);
    for (name, file) in &files {
        assert_eq!(file.mode, if name == "usr/bin/firesteel" { 0o755 } else { 0o644 }, "{name}");
    }
    assert_eq!(files["usr/share/doc/firesteel/VERSION"].text(), format!("{VERSION}\n"));
    assert_eq!(files["usr/share/doc/firesteel/firesteel.toml"].text(), "# config --template\n");
    assert_eq!(files["usr/share/zsh/vendor-completions/_firesteel"].text(), "# completions zsh\n");
    let third_party = files["usr/share/doc/firesteel/third-party.txt"].text();
    for part in ["\ndatafusion ", "Apache-2.0", "\nclap ", "Permission is hereby granted"] {
        assert!(third_party.contains(part), "{part}");
    }
    assert!(!third_party.contains("\ncriterion "), "what is for development is not linked");
}

#[test]
fn the_program_runs_and_has_no_debug_information() {
    let bench = Bench::new();
    let files = tarball(&bench.made("out"));
    let program = bench.path("packed");
    fs::write(&program, &files["usr/bin/firesteel"].bytes).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let said = Command::new(&program).arg("--version").output().unwrap();
    assert!(String::from_utf8(said.stdout).unwrap().contains(VERSION));
    let sections = |file| {
        let told = Command::new("objdump").arg("-h").arg(file).output().unwrap();
        String::from_utf8(told.stdout).unwrap()
    };
    assert!(sections(bench.path("firesteel")).contains(".debug_info"));
    assert!(!sections(program).contains(".debug_info"));
}

#[test]
fn the_program_for_newer_processors_lies_in_a_folder_of_its_version() {
    let bench = Bench::new();
    let says = format!("firesteel {VERSION} (commit 0123456789ab, wire version 6, for x86-64-v3)");
    bench.compile_as("faster", &says, &[]);
    let files = tarball(&bench.made("out"));
    let path = format!("usr/lib/firesteel/{VERSION}/x86-64-v3/firesteel");
    let mut expected = PROMISED.map(str::to_owned).to_vec();
    expected.insert(1, path.clone());
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), expected);
    assert_eq!(files[&path].mode, 0o755);
    assert!(files[&path].bytes != files["usr/bin/firesteel"].bytes);
    // A program never makes way for one of another version, so such a package would have it for nothing.
    fs::remove_dir_all(bench.path("out")).unwrap();
    bench.compile_as("faster", "firesteel 0.2.0 (commit 0123456789ab, wire version 6, for x86-64-v3)", &[]);
    let said = bench.refused();
    assert!(said.contains("0.2.0") && said.contains(VERSION), "{said}");
    bench.compile_as("faster", &says, &["-ludev"]);
    assert!(bench.refused().contains("the other program"));
}

#[test]
fn no_text_names_a_path_of_the_machine_that_built_it() {
    let bench = Bench::new();
    let places = [root().canonicalize().unwrap(), bench.folder.path().to_owned()];
    for (name, file) in tarball(&bench.made("out")) {
        let Ok(text) = std::str::from_utf8(&file.bytes) else {
            assert_eq!(name, "usr/bin/firesteel");
            continue;
        };
        for place in &places {
            assert!(!text.contains(place.to_str().unwrap()), "{name} names {}", place.display());
        }
    }
}

#[test]
fn made_twice_they_are_the_same() {
    let bench = Bench::new();
    bench.write("ansible/galaxy.yml", "namespace: firesteel\nname: cluster\nreadme: README.md\n");
    bench.write("ansible/README.md", "About it\n");
    let first = bench.made("first");
    // Nothing but times and permissions differs.
    let unit = bench.path("packaging/systemd/firesteel-manager.service");
    let file = fs::File::options().append(true).open(&unit).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(86_400)).unwrap();
    fs::set_permissions(&unit, fs::Permissions::from_mode(0o600)).unwrap();
    let second = bench.made("second");
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    assert_eq!(first.len(), 4);
    for (name, bytes) in &first {
        assert!(*bytes == second[name], "{name} differs");
    }
}

#[test]
fn the_deb_has_the_same_files_and_says_what_it_needs() {
    let made = Bench::new().made("out");
    let deb = deb(&made);
    let names: Vec<_> = deb.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
    assert_eq!(deb[0].1, b"2.0\n");
    assert_eq!(unpacked(&deb[2].1, ""), tarball(&made));
    let about = unpacked(&deb[1].1, "");
    assert_eq!(about.keys().collect::<Vec<_>>(), ["control", "postinst", "postrm", "prerm"]);
    let control = about["control"].text();
    for line in ["Package: firesteel\n", "Architecture: amd64\n", &format!("Version: {VERSION}\n")] {
        assert!(control.contains(line), "{line} is not in\n{control}");
    }
    assert!(control.contains("\nDepends: libc6 (>= 2."), "{control}");
    assert!(!control.contains('{'), "{control}");
}

#[test]
fn the_scripts_of_the_deb_are_shell_and_start_nothing() {
    let made = Bench::new().made("out");
    for (name, script) in unpacked(&deb(&made)[1].1, "") {
        if name == "control" {
            continue;
        }
        assert_eq!(script.mode, 0o755, "{name}");
        let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), &script.bytes).unwrap();
        assert!(shell.wait().unwrap().success(), "{name}");
        for verb in ["systemctl start", "systemctl restart", "systemctl enable"] {
            assert!(!script.text().contains(verb), "{name}: {verb}");
        }
    }
}

#[test]
fn the_digests_are_those_of_all_artefacts() {
    let bench = Bench::new();
    let made = bench.made("out");
    let checked =
        Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(bench.path("out")).output();
    let checked = String::from_utf8(checked.unwrap().stdout).unwrap();
    assert_eq!(checked.lines().count(), made.len() - 1);
    assert!(checked.lines().all(|line| line.ends_with(": OK")), "{checked}");
}

#[test]
fn an_earlier_version_goes_and_what_is_no_package_stays() {
    let bench = Bench::new();
    bench.made("out");
    bench.write("out/notes.txt", "mine\n");
    bench.compile("firesteel 0.2.0 (commit 0123456789ab, wire version 6)", &[]);
    let names: Vec<_> = bench.made("out").into_keys().collect();
    let expected =
        ["SHA256SUMS", "firesteel-0.2.0-x86_64-linux.tar.gz", "firesteel_0.2.0_amd64.deb", "notes.txt"];
    assert_eq!(names, expected);
}

#[test]
fn what_cannot_be_packed_is_said() {
    let bench = Bench::new();
    bench.compile("firesteel 0.1.0 (commit 0123456789ab, wire version 6)", &["-lm", "-lresolv"]);
    assert!(bench.refused().contains("libresolv.so.2"));
    bench.compile("something else", &[]);
    assert!(bench.refused().contains("'something else'"));
    bench.compile("firesteel ../1 (commit 0123456789ab, wire version 6)", &[]);
    assert!(bench.refused().contains("'../1' is no version"));
    bench.compile(&format!("firesteel {VERSION} (commit 0123456789ab, wire version 6)"), &[]);
    fs::remove_file(bench.path("packaging/deb/prerm")).unwrap();
    assert!(bench.refused().contains("deb/prerm"));
    fs::remove_file(bench.path("firesteel")).unwrap();
    assert!(bench.refused().contains("is it installed?"));
}

#[test]
fn a_build_for_one_processor_is_refused_before_it_begins() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(["dist", "--out", "/no/such/folder"])
        .env("SOURCE_DATE_EPOCH", "1")
        .env("FIRESTEEL_BUILD", "1.0.0");
    let ended = command.env("RUSTFLAGS", "-C target-cpu=native").output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("RUSTFLAGS = '-C target-cpu=native'"), "{said}");
}
