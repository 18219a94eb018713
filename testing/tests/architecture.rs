//! The architecture's invariants, checked against the packages' metadata and the sources.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    let offline = ["--offline".to_owned(), "--locked".to_owned()];
    MetadataCommand::new().current_dir(root()).other_options(offline).exec().unwrap()
});

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The crates of the project by the name of their folder, each with those of the project that it is built on.
fn directions() -> BTreeMap<String, BTreeSet<String>> {
    let folder = |name: &str| name.strip_prefix("firesteel-").map(str::to_owned);
    METADATA
        .workspace_packages()
        .iter()
        .map(|package| {
            let product =
                package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
            let ours = product.filter_map(|dependency| folder(&dependency.name)).collect();
            (folder(&package.name).expect("our packages are named alike"), ours)
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("base", &[] as &[&str]),
        ("hw", &["base"]),
        ("certs", &["base"]),
        ("metrics", &["base"]),
        ("protocol", &["base", "certs"]),
        ("shuffle", &["base", "hw"]),
        ("engine", &["base", "shuffle"]),
        ("manager", &["base", "hw", "certs", "metrics", "protocol"]),
        ("executor", &["base", "hw", "certs", "metrics", "protocol", "shuffle", "engine"]),
        // In local mode the driver starts a manager and an executor in its own process.
        ("driver", &["base", "hw", "certs", "protocol", "shuffle", "engine", "manager", "executor"]),
        (
            "cli",
            &[
                "base", "hw", "certs", "metrics", "protocol", "shuffle", "engine", "manager", "executor",
                "driver", "bench",
            ],
        ),
        ("bench", &["base", "hw", "engine", "driver"]),
        ("micro", &[]),
        ("interleave", &[]),
        ("testing", &["base", "bench", "certs"]),
        // It joins the machines of all roles.
        ("sim", &["base", "certs", "protocol", "shuffle", "engine", "manager", "executor", "driver"]),
        // What it tests is the built program.
        ("chaos", &["base"]),
        // It reads the sources of all.
        ("waits", &[]),
        // It packs the built program.
        ("xtask", &[]),
    ]);
    let found = directions();
    assert_eq!(found.keys().collect::<Vec<_>>(), allowed.keys().collect::<Vec<_>>(), "a crate came or went");
    for (package, dependencies) in found {
        let surplus: Vec<_> =
            dependencies.iter().filter(|name| !allowed[package.as_str()].contains(&name.as_str())).collect();
        assert!(surplus.is_empty(), "{package} must not depend on {surplus:?}");
    }
}

/// The names of all packages that end up in a build of `package`.
fn linked_into(package: &str) -> BTreeSet<String> {
    let resolve = METADATA.resolve.as_ref().unwrap();
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = METADATA.workspace_packages().into_iter().find(|p| p.name.as_str() == package).unwrap();
    let (mut seen, mut open) = (BTreeSet::from([&start.id]), vec![&start.id]);
    while let Some(id) = open.pop() {
        for dependency in &nodes[id].deps {
            let linked = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if linked && seen.insert(&dependency.pkg) {
                open.push(&dependency.pkg);
            }
        }
    }
    seen.into_iter().map(|id| METADATA[id].name.to_string()).collect()
}

fn assert_links_none_of(package: &str, families: &[&str]) {
    let named = |name: &String| {
        families.iter().any(|family| name == family || name.starts_with(&format!("{family}-")))
    };
    let found: Vec<_> = linked_into(package).into_iter().filter(named).collect();
    assert!(found.is_empty(), "{package} links {found:?}");
}

#[test]
fn the_manager_knows_neither_sql_nor_arrow() {
    assert_links_none_of("firesteel-manager", &["datafusion", "arrow", "parquet", "sqlparser"]);
}

#[test]
fn shuffle_knows_neither_the_wire_of_the_control_plane_nor_plans() {
    assert_links_none_of("firesteel-shuffle", &["tonic", "prost", "datafusion", "sqlparser"]);
}

#[test]
fn what_is_for_development_is_not_in_the_product() {
    let product = linked_into("firesteel-cli");
    let development = [
        "firesteel-testing",
        "firesteel-sim",
        "firesteel-chaos",
        "firesteel-waits",
        "firesteel-micro",
        "firesteel-interleave",
        "firesteel-xtask",
        "shuttle",
        "sqllogictest",
        "criterion",
        "proptest",
        "insta",
        "cargo_metadata",
    ];
    for package in development {
        assert!(!product.contains(package), "{package}");
    }
}

#[test]
fn every_micro_bench_is_among_the_tests_and_its_hashes_are_stored() {
    let packages = METADATA.workspace_packages();
    let benches: Vec<_> =
        packages.iter().flat_map(|package| &package.targets).filter(|target| target.is_bench()).collect();
    assert!(!benches.is_empty());
    for bench in benches {
        let main = bench.src_path.as_std_path();
        assert!(bench.test, "{}: its manifest has no `test = true`, so that no test runs it", main.display());
        let begins = format!("run(include_str!(\"{}.hashes\"), ", bench.name);
        assert!(fs::read_to_string(main).unwrap().contains(&begins), "{}: no {begins}..)", main.display());
    }
}

/// A source file of the project: its path below the root, and its text without comments.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn package(&self) -> &str {
        self.path.split('/').next().unwrap()
    }

    /// Whether it is part of the product rather than of its tests.
    fn is_product(&self) -> bool {
        !["testing", "bench", "micro", "xtask"].contains(&self.package())
            && !self.path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches")
    }

    /// Whether the code, its tests module aside, has `word` as a word of its own.
    fn names(&self, word: &str) -> bool {
        let code = self.code.split("#[cfg(test)]\nmod tests").next().unwrap();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        code.match_indices(word)
            .any(|(at, _)| !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part))
    }
}

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let mut sources = Vec::new();
    for package in directions().into_keys() {
        // The simulator lies among the tests, which are walked through as a whole.
        let folder = root().join(package);
        if folder.is_dir() {
            collect(&folder, &mut sources);
        }
    }
    assert!(sources.len() > 50, "only {} sources were found", sources.len());
    sources
});

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().display().to_string();
            sources.push(Source { code: without_comments(&text), path, text });
        }
    }
}

/// Line comments are what the project writes; a `//` in a literal cuts its line short, which hides nothing that is looked for
/// here but what follows on that line.
fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| match line.find("//") {
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    });
    code.collect::<Vec<_>>().join("\n")
}

fn assert_none(what: &str, wrong: impl Fn(&Source) -> bool) {
    let found: Vec<_> = SOURCES.iter().filter(|source| wrong(source)).map(|source| &source.path).collect();
    assert!(found.is_empty(), "{what}: {found:#?}");
}

#[test]
fn tonic_is_named_only_in_protocol_and_in_shells() {
    assert_none("tonic is named outside of protocol and of modules named shell", |source| {
        let in_shell = source.path.split('/').any(|part| part == "shell" || part == "shell.rs");
        source.is_product() && source.package() != "protocol" && !in_shell && source.names("tonic")
    });
}

#[test]
fn certificates_are_read_and_made_in_one_place() {
    for library in ["rcgen", "x509_cert"] {
        assert_none(&format!("{library} is named outside of certs"), |source| {
            source.is_product()
                && source.package() != "certs"
                && source.code.contains(&format!("{library}::"))
        });
    }
}

#[test]
fn the_consensus_library_is_named_only_where_managers_replicate() {
    assert_none("openraft is named outside of the manager's replication", |source| {
        source.path != "testing/tests/architecture.rs"
            && !source.path.starts_with("manager/src/shell/replication/")
            && source.code.contains("openraft::")
    });
}

#[test]
fn metrics_are_encoded_in_one_place() {
    for library in ["prometheus_client", "hyper"] {
        assert_none(&format!("{library} is named outside of metrics"), |source| {
            source.package() != "metrics" && source.code.contains(&format!("{library}::"))
        });
    }
}

#[test]
fn rings_and_runtimes_are_named_only_in_hw() {
    for ring in ["tokio_uring", "glommio", "io_uring"] {
        assert_none(&format!("{ring} is named outside of hw"), |source| {
            source.package() != "hw" && source.code.contains(&format!("{ring}::"))
        });
    }
    for package in
        METADATA.workspace_packages().iter().filter(|package| package.name.as_str() != "firesteel-hw")
    {
        for ring in ["tokio-uring", "glommio", "io-uring"] {
            assert!(
                package.dependencies.iter().all(|d| d.name != ring),
                "{} depends on {ring}",
                package.name
            );
        }
    }
}

#[test]
fn unsafe_code_is_where_it_is_listed_and_says_why_it_is_sound() {
    // The keyword as code has it; a page's policy may have the word in a text.
    let keyword =
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait", "unsafe(no_mangle"];
    let unsafe_block = |source: &Source| {
        source.path != "testing/tests/architecture.rs"
            && keyword.iter().any(|form| source.code.contains(form))
    };
    assert_none("unsafe code outside of hw, shuffle and engine", |source| {
        unsafe_block(source) && !["hw", "shuffle", "engine"].contains(&source.package())
    });
    assert_none("unsafe code in a file that does not begin by allowing it", |source| {
        unsafe_block(source) && !source.text.contains("#![allow(unsafe_code)]")
    });
    assert_none("an unsafe block without its SAFETY reason", |source| {
        let blocks = source.code.matches("unsafe {").count() + source.code.matches("unsafe impl").count();
        unsafe_block(source) && source.text.matches("SAFETY:").count() < blocks
    });
}

#[test]
fn nothing_is_left_to_do_or_skipped() {
    for word in ["todo!", "unimplemented!", "dbg!", "#[ignore"] {
        assert_none(&format!("{word} is left"), |source| {
            source.path != "testing/tests/architecture.rs" && source.code.contains(word)
        });
    }
    assert_none("it is allowed to be left unfinished", |source| {
        source.path != "testing/tests/architecture.rs" && source.code.contains("allow(clippy::todo")
    });
}
