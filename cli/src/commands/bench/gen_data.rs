//! `firesteel bench gen`

use std::path::PathBuf;

use clap::Args;
use firesteel_base::UserError;
use firesteel_bench::{Benchmark, Compression, GenerateOptions, Progress, generate, progress};

use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  firesteel bench gen tpch --scale 1 --out data/tpch
  firesteel bench gen tpch --scale 10 --out data/tpch10 --files 16 --compression zstd
  firesteel bench gen tpcds --scale 1 --out data/tpcds

The rows depend on the scale alone. A run that was stopped is taken up where it ended; a folder that is complete is left as
it is. Each table is a folder of Parquet files, to be queried as 'data/tpch/orders/*.parquet'.";

/// Generate benchmark data: the tables of TPC-H or TPC-DS as Parquet files
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GenArgs {
    /// Whose tables: tpch (8 tables) or tpcds (24 tables)
    #[arg(value_parser = super::benchmark)]
    benchmark: Benchmark,
    /// The scale factor: 1 is about 300 MiB as Parquet
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    scale: f64,
    /// The folder to write to; it gets a folder for each table
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Files for each table; small tables get fewer
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::FILES)]
    files: u32,
    /// Rows in each row group
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::ROW_GROUP_ROWS)]
    row_group_rows: u64,
    /// How pages are compressed: snappy, zstd, lz4 or none
    #[arg(long, value_name = "NAME", default_value_t = Compression::default(), value_parser = compression)]
    compression: Compression,
    /// Threads that write [default: one for each CPU]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn compression(text: &str) -> Result<Compression, String> {
    text.parse().map_err(|fault: UserError| fault.hint.unwrap_or(fault.message))
}

/// Runs the command.
pub fn run(global: &Global, args: GenArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, Vec::new(), Role::Command)?;
    let options = GenerateOptions {
        benchmark: args.benchmark,
        scale: args.scale,
        out: args.out,
        files: args.files,
        row_group_rows: args.row_group_rows,
        compression: args.compression,
        threads: args.threads,
    };
    let told: Box<dyn Progress + Send> =
        if context.quiet { Box::new(progress::Silent) } else { progress::stderr() };
    generate(&options, told.as_ref())?;
    Ok(Exit::Done)
}
