//! `cargo xtask old-cpu`

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Args;

use crate::run::{firesteel, told};

/// Run queries by a build of firesteel on an emulated processor without AVX, as x86-64 processors of ten years ago may be
///
/// An instruction that such a processor does not have ends the program. It needs qemu-x86_64, on Debian of the package qemu-user.
#[derive(Debug, Args)]
pub struct OldCpuArgs {
    /// The program
    #[arg(long, value_name = "PATH", default_value = "target/release/firesteel")]
    binary: PathBuf,
    /// The folder of TPC-H data that `firesteel bench gen tpch` made, to run all of its queries over
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Has what x86-64-v2 asks for and nothing newer: neither AVX nor BMI, as the Atoms of 2016 have not.
const PROCESSOR: &str = "Nehalem";

/// Filter, hash aggregation, join, sort and texts, over rows that need no file.
const QUERY: &str = "\
    with t as (select value as v, value % 97 as k, cast(value as varchar) as s from generate_series(1, 50000)) \
    select k, count(*), sum(v), avg(v), min(s), max(md5(s)) from t join (select distinct v % 31 as j from t) on j = k \
    where s like '%7%' group by k order by k";

/// Runs the task.
pub fn run(args: &OldCpuArgs) -> Result<()> {
    let query = ["sql", "--cores", "2", "--memory", "512MiB", "--format", "csv", "-c", QUERY];
    let here = told(firesteel(&args.binary).args(query))?;
    let there = told(emulated(&args.binary).args(query))?;
    ensure!(
        here == there,
        "the {PROCESSOR} answers otherwise than this processor:\n{there}\ninstead of\n{here}"
    );
    println!(
        "old-cpu: the {PROCESSOR} gives the answer of this processor, {} rows",
        here.lines().count() - 1
    );
    if let Some(data) = &args.data {
        println!("old-cpu: TPC-H on the {PROCESSOR}");
        let said = told(emulated(&args.binary).args(["bench", "verify", "tpch", "--data"]).arg(data))?;
        print!("{said}");
    }
    Ok(())
}

fn emulated(binary: &Path) -> Command {
    let mut command = firesteel(Path::new("qemu-x86_64"));
    command.args(["-cpu", PROCESSOR]).arg(binary);
    command
}
