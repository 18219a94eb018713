//! Test data: made once, shared by all test processes.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use firesteel_bench::progress::Silent;
use firesteel_bench::{Benchmark, GenerateOptions, generate};

use crate::oracle::tpch::Scale;

/// The folder with the TPC-H tables of `scale`, which the first caller makes while the others wait for it.
///
/// # Errors
/// When it cannot be written.
pub fn tpch(scale: Scale) -> anyhow::Result<PathBuf> {
    ensure(Benchmark::Tpch, scale.factor())
}

/// The folder with the TPC-DS tables at scale 1, made in the same way.
///
/// # Errors
/// When it cannot be written.
pub fn tpcds() -> anyhow::Result<PathBuf> {
    ensure(Benchmark::Tpcds, 1.0)
}

fn ensure(benchmark: Benchmark, scale: f64) -> anyhow::Result<PathBuf> {
    let root = root();
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let out = root.join(format!("{benchmark}-{scale}"));
    let lock = File::create(out.with_extension("lock"))?;
    // Held until the data is complete; a process that dies gives it up and leaves what it did to the next.
    lock.lock()?;
    generate(&GenerateOptions::new(benchmark, scale, &out), &Silent)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(out)
}

/// `testdata` in the target folder: it outlives a test run and goes with `cargo clean`.
fn root() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
        || {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .parent()
                .expect("the package is in a workspace")
                .join("target")
        },
        PathBuf::from,
    );
    target.join("testdata")
}
