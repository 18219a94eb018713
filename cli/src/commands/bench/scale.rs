//! `firesteel bench scale`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use firesteel_base::{ByteSize, UserError};
use firesteel_bench::queries::Query;
use firesteel_bench::record::RunRecord;
use firesteel_bench::run::{RunOptions, Target, Workload, WorkloadQuery, checked_manifest, chosen, describe};
use firesteel_bench::scale::{Measured, Scaling, chosen_sizes, page, require_comparable, scaling};
use firesteel_bench::verify::RightAnswers;
use firesteel_bench::{Benchmark, Progress, progress, queries};
use firesteel_hw::topology::Topology;

use crate::args::{Flags, Global};
use crate::context::{Client, Context, Role};
use crate::exit::{Exit, Failure};
use crate::local_cluster::{self, Plan, default_memory, shares};
use crate::runtime;
use crate::session::{self, Place};
use crate::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  # One, two and four executors of one core; a record of each in the folder scale
  firesteel bench scale tpch --data data/tpch --executors 1,2,4 --out scale

  # How many cores it takes to beat DuckDB, whose record bench/peers/run.py wrote on this machine
  firesteel bench scale tpch --data data/tpch --executors 1,2,4 --against peers/tpch-duckdb.json

It starts a cluster of its own for each size, as `firesteel local-cluster` does, one after the
other, and ends it. A running cluster is not measured: it has no way to use a part of its executors.

One machine tells what the software itself costs a larger cluster. It does not tell what a network
costs: loopback stands in for it, and executors share memory bandwidth, page cache and disk. Where
they have more core threads than the machine has cores, the size is marked as oversubscribed and no
efficiency is claimed for it.

COST is the fewest cores, of the sizes that were measured, that take less time than the engine of
--against; docs/scaling.md says more. A query that fails at one size is left out at all and named,
and the exit code is 1.";

/// Run a benchmark on clusters of several sizes: speed-up, efficiency, and the cores that beat another engine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ScaleArgs {
    /// The benchmark: tpch or tpcds
    #[arg(value_parser = super::benchmark)]
    benchmark: Benchmark,
    /// A folder made by `firesteel bench gen`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The sizes: numbers of executors, such as 1,2,4, measured in this order
    #[arg(long, value_name = "LIST")]
    executors: String,
    /// Core threads of each executor
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    cores_per_executor: u32,
    /// Memory of each executor, the same at every size [default: half of this machine's, shared out at the largest size]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// The folder for logs and scratch files, kept at the end [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The queries to ask, such as 1-5,7 [default: all]
    #[arg(long, value_name = "LIST")]
    queries: Option<String>,
    /// Measured runs of each query
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    iterations: u32,
    /// Runs of each query before those
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: u32,
    /// Give a query up after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = super::run::seconds)]
    timeout: Option<Duration>,
    /// Set a session setting, such as datafusion.execution.batch_size=4096; may be given several times
    #[arg(long = "conf", value_name = "KEY=VALUE")]
    conf: Vec<String>,
    /// The record of a single-node engine on the same data and machine: how many cores beat it?
    #[arg(long, value_name = "RECORD.json")]
    against: Option<PathBuf>,
    /// Keep a record of each size: in this folder, or beside FILE.json as FILE-1.json, FILE-2.json and so on
    #[arg(long, value_name = "DIR|FILE.json")]
    out: Option<PathBuf>,
    /// Show the scaling and the records on a page; it needs nothing else to be looked at
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(global: &Global, args: &ScaleArgs) -> Result<Exit, Failure> {
    let mut flags = Flags::default();
    flags.put("worker.memory", "--memory", args.memory.as_ref());
    let context = Context::load(global, flags.0, Role::Command)?;
    let mut experiment = Experiment::prepare(global, &context, args)?;
    if args.out.is_none() {
        context.note("the records are not kept; --out DIR keeps them");
    }
    let measured = runtime::run(experiment.measure_all(&context))?;
    let scaling = scaling(&measured, experiment.against.as_ref(), experiment.machine_cores)?;
    if let Some(file) = &args.html {
        super::report::write(file, &page(&scaling, &measured, experiment.against.as_ref())?)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&scaling).expect("a scaling is plain data"));
    } else {
        print!("{scaling}");
    }
    ended(&scaling)
}

/// How the command ends: well only when every query passed at every size.
fn ended(scaling: &Scaling) -> Result<Exit, Failure> {
    if scaling.left_out.is_empty() {
        return Ok(Exit::Done);
    }
    let told: Vec<String> =
        scaling.left_out.iter().map(|out| format!("{}, in {}: {}", out.query, out.run, out.why)).collect();
    Err(UserError::new("not every query passed at every size").detail(told.join("\n")).into())
}

/// All that is asked for, once nothing in it can be refused any more.
struct Experiment {
    /// The clusters, in the order in which they are measured.
    sizes: Vec<Cluster>,
    /// What is run on each; the record's file is set for each.
    options: RunOptions,
    out: Option<PathBuf>,
    against: Option<RunRecord>,
    /// Cores that executors can have to themselves.
    machine_cores: u32,
}

/// A cluster of one size.
struct Cluster {
    executors: u32,
    /// Core threads of all executors.
    cores: u32,
    plan: Plan,
}

impl Experiment {
    fn prepare(global: &Global, context: &Context, args: &ScaleArgs) -> Result<Self, Failure> {
        let executors = chosen_sizes(&args.executors).map_err(Failure::usage)?;
        let queries = match &args.queries {
            Some(text) => chosen(args.benchmark, text).map_err(Failure::usage)?,
            None => queries::all(args.benchmark).to_vec(),
        };
        let conf = session::conf(&args.conf)?;
        let topology = Topology::discover().map_err(UserError::from)?;
        let sizes = clusters(global, context, args, &topology, &executors)?;
        let (data, machine) = describe(&args.data, args.benchmark)?;
        let against = args.against.as_deref().map(RunRecord::load).transpose()?;
        if let Some(record) = &against {
            require_comparable(record, args.benchmark, &data, &machine, &queries)?;
        }
        make_room(args)?;
        Ok(Self {
            sizes,
            options: options(args, queries, conf)?,
            out: args.out.clone(),
            against,
            // A quota of processor time may leave less than there is.
            machine_cores: u32::try_from(topology.cores.len()).unwrap_or(u32::MAX).min(machine.cpus),
        })
    }

    async fn measure_all(&mut self, context: &Context) -> Result<Vec<Measured>, Failure> {
        let told: Box<dyn Progress + Send> =
            if context.quiet { Box::new(progress::Silent) } else { progress::stderr() };
        let mut stop = Stop::listen()?;
        let mut measured = Vec::new();
        for size in &self.sizes {
            let name = self.options.workload.name();
            self.options.out = self.out.as_ref().map(|out| record_file(out, &name, size.executors));
            let record = measure(size, &self.options, &mut stop, told.as_ref()).await?;
            measured.push(Measured { executors: size.executors, record });
        }
        Ok(measured)
    }
}

async fn measure(
    size: &Cluster,
    options: &RunOptions,
    stop: &mut Stop,
    told: &dyn Progress,
) -> Result<RunRecord, Failure> {
    let work = async |manager: String| {
        let place = Place::Cluster(Client::of(manager));
        let session = session::open(&place, "bench scale", options.conf.clone()).await?;
        let outcome = measured_on(size, session.clone(), options, told).await;
        session.close().await;
        outcome
    };
    local_cluster::during(&size.plan, stop, "the benchmark", work).await
}

async fn measured_on(
    size: &Cluster,
    session: firesteel_driver::Session,
    options: &RunOptions,
    told: &dyn Progress,
) -> Result<RunRecord, Failure> {
    let target = Target::of(session).await?;
    if target.cores != size.cores {
        let (has, asked) = (target.cores, size.cores);
        return Err(UserError::new(format!("the cluster has {has} cores where {asked} were started")).into());
    }
    told.note(&target.mode);
    Ok(firesteel_bench::run::run(options, &target, told).await?)
}

fn options(
    args: &ScaleArgs,
    queries: Vec<Query>,
    conf: BTreeMap<String, String>,
) -> Result<RunOptions, UserError> {
    let (benchmark, data) = (args.benchmark, args.data.clone());
    let right = RightAnswers::available(&checked_manifest(&data, benchmark)?.recipe);
    Ok(RunOptions {
        workload: Workload::Tpc { benchmark, data, right },
        queries: queries.iter().map(WorkloadQuery::from).collect(),
        conf,
        iterations: args.iterations,
        warmup: args.warmup,
        streams: 1,
        cold: false,
        timeout: args.timeout,
        verify: true,
        out: None,
        command: std::env::args().collect(),
    })
}

fn clusters(
    global: &Global,
    context: &Context,
    args: &ScaleArgs,
    topology: &Topology,
    executors: &[u32],
) -> Result<Vec<Cluster>, Failure> {
    let most = executors.iter().copied().max().unwrap_or(1);
    let set = context.config.worker.memory.set();
    let memory = set.unwrap_or_else(|| default_memory(topology, most));
    let usable = topology.usable_memory_bytes();
    if memory.0.saturating_mul(u64::from(most)) > usable {
        return Err(Failure::usage(
            UserError::new(format!(
                "{most} executors with {memory} of memory each are asked for, but this machine has {}",
                ByteSize(usable)
            ))
            .hint("give less with --memory SIZE, or fewer executors"),
        ));
    }
    let cluster = |&executors: &u32| {
        let plan = Plan {
            port: 0,
            shares: shares(topology, executors, Some(args.cores_per_executor))?,
            memory,
            folder: args.dir.as_ref().map(|dir| dir.join(format!("executors-{executors}"))),
            global: global.child_args(),
        };
        Ok(Cluster { executors, cores: args.cores_per_executor * executors, plan })
    };
    executors.iter().map(cluster).collect()
}

/// Makes the folder of the records, and finds out before hours of measuring whether the page can be kept.
fn make_room(args: &ScaleArgs) -> Result<(), Failure> {
    let refused = |path: &Path, fault: &dyn std::fmt::Display| {
        Failure::output(UserError::new(format!("{} cannot be written: {fault}", path.display())))
    };
    let folder_of = |file: &Path| match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    if let Some(out) = &args.out {
        let folder = if is_file(out) { folder_of(out) } else { out.clone() };
        fs::create_dir_all(&folder).map_err(|fault| refused(&folder, &fault))?;
    }
    match args.html.as_deref() {
        Some(file) if !folder_of(file).is_dir() => Err(refused(file, &"there is no such folder")),
        _ => Ok(()),
    }
}

fn is_file(out: &Path) -> bool {
    out.extension().is_some_and(|extension| extension == "json")
}

/// Where the record of one size goes.
fn record_file(out: &Path, benchmark: &str, executors: u32) -> PathBuf {
    if !is_file(out) {
        return out.join(format!("{benchmark}-{executors}.json"));
    }
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-{executors}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_record_of_its_own() {
        let file = |out: &str| record_file(Path::new(out), "tpch", 4);
        assert_eq!(file("kept/scale"), Path::new("kept/scale/tpch-4.json"));
        assert_eq!(file("kept/scale.json"), Path::new("kept/scale-4.json"));
        assert_eq!(file("scale.json"), Path::new("scale-4.json"));
    }
}
