//! `firesteel bench gen`

use std::path::PathBuf;

use clap::Args;
use firesteel_base::UserError;
use firesteel_bench::{Benchmark, Compression, Format, GenerateOptions, Progress, Skew, generate, progress};

use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  firesteel bench gen tpch --scale 1 --out data/tpch
  firesteel bench gen tpch --scale 10 --out data/tpch10 --files 16 --compression zstd
  firesteel bench gen tpcds --scale 1 --out data/tpcds

  # Text instead of Parquet; bench run and verify take such a folder too
  firesteel bench gen tpch --scale 1 --out data/tpch-csv --format csv --compression gzip

  # Rows in the order of their dates, and a few parts and customers that nearly all lines and orders are of
  firesteel bench gen tpch --scale 1 --out data/tpch-hard --sorted --skew zipf:1.2

The rows depend on the scale and the skew alone. A run that was stopped is taken up where it ended; a folder that is complete
is left as it is. Each table is a folder of files, to be queried as 'data/tpch/orders/*.parquet'; manifest.json says what is
in them.

--sorted orders lineitem by l_shipdate, orders by o_orderdate, sales and returns by the date they were sold or returned,
inventory by its date, and every other table by its key. Tables need not fit in memory; sorting writes temporary files to the
folder, about as large as the largest table is uncompressed.

--skew changes foreign keys of lineitem and orders, and of sales and returns; they still name rows that exist. No stored
answers hold for such data, so what is asked of it is not verified.";

/// Generate benchmark data: the tables of TPC-H or TPC-DS as Parquet or CSV files
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GenArgs {
    /// Whose tables: tpch (8 tables) or tpcds (24 tables)
    #[arg(value_parser = super::benchmark)]
    benchmark: Benchmark,
    /// The scale factor: 1 is about 300 MiB as Parquet, a gigabyte as CSV
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    scale: f64,
    /// The folder to write to; it gets a folder for each table
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The format of the files: parquet or csv
    #[arg(long, value_name = "NAME", default_value_t, value_parser = named::<Format>)]
    format: Format,
    /// How they are compressed: snappy, zstd, lz4 or none; of CSV none or gzip [default: snappy; of CSV none]
    #[arg(long, value_name = "NAME", value_parser = named::<Compression>)]
    compression: Option<Compression>,
    /// Files for each table; small tables get fewer
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::FILES)]
    files: u32,
    /// Rows in each row group of a Parquet file [default: 262144]
    #[arg(long, value_name = "N")]
    row_group_rows: Option<u64>,
    /// Sort each table by its date or its key, within files and across them
    #[arg(long)]
    sorted: bool,
    /// Draw foreign keys of fact tables by Zipf's law with the exponent A, as zipf:A, instead of evenly
    #[arg(long, value_name = "LAW", value_parser = named::<Skew>)]
    skew: Option<Skew>,
    /// Threads that write [default: one for each CPU]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// A value that is told by its name, or what may be given instead.
fn named<T: std::str::FromStr<Err = UserError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|fault: UserError| fault.hint.unwrap_or(fault.message))
}

/// Runs the command.
pub fn run(global: &Global, args: GenArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, Vec::new(), Role::Command)?;
    let options = GenerateOptions {
        benchmark: args.benchmark,
        scale: args.scale,
        out: args.out,
        format: args.format,
        compression: args.compression,
        files: args.files,
        row_group_rows: args.row_group_rows,
        sorted: args.sorted,
        skew: args.skew,
        threads: args.threads,
    };
    options.check().map_err(Failure::usage)?;
    let told: Box<dyn Progress + Send> =
        if context.quiet { Box::new(progress::Silent) } else { progress::stderr() };
    generate(&options, told.as_ref())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_says_how_many_rows_a_row_group_has() {
        let command = GenArgs::augment_args(clap::Command::new("gen"));
        let argument =
            command.get_arguments().find(|argument| argument.get_id() == "row_group_rows").unwrap();
        let help = argument.get_help().unwrap().to_string();
        assert!(help.contains(&GenerateOptions::ROW_GROUP_ROWS.to_string()), "{help}");
    }
}
