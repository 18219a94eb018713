//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use firesteel_base::config::Flag;
use firesteel_base::version;

use crate::commands::{
    bench, certs, completions, config, doctor, driver, executor, jobs, local_cluster, man, manager, managers,
    nodes, probe, sql, submit, tokens, topology, worker,
};
use crate::context::Context;
use crate::exit::{EXIT_CODES_HELP, Failure};
use crate::processor::COMPILED_FOR;
use crate::session::Place;

const EXAMPLES: &str = "\
Examples:
  firesteel sql -c \"select count(*) from 'data/orders/*.parquet'\"
  firesteel bench gen tpch --scale 1 --out data/tpch
  firesteel local-cluster --workers 2
  firesteel submit job.sql --manager 127.0.0.1:7400
  firesteel jobs --manager 127.0.0.1:7400";

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{EXIT_CODES_HELP}")
}

/// This build, as packages of it are named: `0.1.0+gabcdef123456`, or what FIRESTEEL_BUILD said when it was made.
pub const BUILD: &str = env!("FIRESTEEL_BUILD");

/// The commit that it was made of, or `unknown`.
const COMMIT: &str = env!("FIRESTEEL_COMMIT");

/// `0.1.0+gabcdef123456 (commit abcdef123456, wire version 1, for x86-64)`
pub fn release() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| {
        format!("{BUILD} (commit {COMMIT}, wire version {}, for {COMPILED_FOR})", version::WIRE)
    })
}

/// Run SQL over files, on this machine or on a cluster of bare-metal hosts
///
/// `firesteel sql` runs queries inside the command itself and needs nothing set up. A cluster is a manager
/// (`firesteel manager`) and one worker on each host (`firesteel worker`); jobs go to it with `firesteel submit`, or with
/// `firesteel sql --manager HOST:PORT`.
#[derive(Debug, Parser)]
#[command(name = "firesteel", version = release(), after_help = after_help(), arg_required_else_help = true)]
#[command(infer_long_args = false, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Read the configuration from FILE [env: FIRESTEEL_CONFIG] [default: /etc/firesteel/firesteel.toml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace or off, or directives such as info,firesteel_shuffle=debug
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How to log: text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// No certificates and no TLS, even where they are configured: whoever reaches the cluster may run code on it
    #[arg(long, global = true)]
    pub insecure: bool,
    /// No progress and no notes on standard error; errors are still told
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

impl Global {
    /// The settings among them.
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Flags::default();
        flags.put("log.level", "--log-level", self.log_level.as_ref());
        flags.put("log.format", "--log-format", self.log_format.as_ref());
        let insecure = self.insecure.then(|| "true".to_owned());
        flags.put("security.insecure", "--insecure", insecure.as_ref());
        flags.0
    }
}

impl Global {
    /// The flags again, for a process of this program that this one starts.
    pub fn child_args(&self) -> Vec<String> {
        let config = self.config.as_ref().map(|file| file.to_string_lossy().into_owned());
        let given = [
            ("--config", config),
            ("--log-level", self.log_level.clone()),
            ("--log-format", self.log_format.clone()),
        ];
        given.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten().collect()
    }
}

/// Collects the settings given as flags.
#[derive(Debug, Default)]
pub struct Flags(pub Vec<Flag>);

impl Flags {
    /// Takes one in if it was given. Its text is checked together with the rest of the configuration.
    pub fn put(&mut self, key: &'static str, flag: &'static str, value: Option<&String>) {
        if let Some(value) = value {
            self.0.push(Flag { key, flag, value: value.clone() });
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Sql(sql::SqlArgs),
    Submit(submit::SubmitArgs),
    Jobs(jobs::JobsArgs),
    Nodes(nodes::NodesArgs),
    Managers(managers::ManagersArgs),
    Tokens(tokens::TokensArgs),
    LocalCluster(local_cluster::LocalClusterArgs),
    Manager(manager::ManagerArgs),
    Worker(worker::WorkerArgs),
    Certs(certs::CertsArgs),
    Topology(topology::TopologyArgs),
    Doctor(doctor::DoctorArgs),
    Probe(probe::ProbeArgs),
    Config(config::ConfigArgs),
    Bench(bench::BenchArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Man(man::ManArgs),
    #[command(hide = true)]
    Executor(executor::ExecutorArgs),
    #[command(hide = true)]
    Driver(driver::DriverArgs),
}

/// Where queries run, as commands that ask some are told.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where it runs")]
pub struct PlaceArgs {
    /// Run on the cluster of this manager; of several all, separated by commas [env: FIRESTEEL_MANAGER]
    #[arg(long, value_name = "HOST:PORT,..")]
    manager: Option<String>,
    /// The queue whose share of the cluster the jobs draw on [env: FIRESTEEL_CLIENT_QUEUE] [default: the one without a name]
    #[arg(long, value_name = "NAME", conflicts_with = "local")]
    queue: Option<String>,
    /// Run in this process even if a manager is configured
    #[arg(long, conflicts_with = "manager")]
    local: bool,
    /// Core threads of local mode [default: all cores of this machine]
    #[arg(long, value_name = "N", conflicts_with = "manager")]
    cores: Option<String>,
    /// Memory of local mode, such as 4GiB [default: most of this machine's]
    #[arg(long, value_name = "SIZE", conflicts_with = "manager")]
    memory: Option<String>,
    /// Folder of local mode for what does not fit in memory [default: the system's temporary folder]
    #[arg(long, value_name = "DIR", conflicts_with = "manager")]
    scratch: Option<String>,
    /// Set a session setting, such as datafusion.execution.batch_size=4096; may be given several times
    #[arg(long = "conf", value_name = "KEY=VALUE")]
    pub conf: Vec<String>,
}

impl PlaceArgs {
    /// Those that stand for settings.
    pub fn flags(&self) -> Flags {
        let mut flags = Flags::default();
        flags.put("client.manager", "--manager", self.manager.as_ref());
        flags.put("client.queue", "--queue", self.queue.as_ref());
        flags.put("local.cores", "--cores", self.cores.as_ref());
        flags.put("local.memory", "--memory", self.memory.as_ref());
        flags.put("local.scratch", "--scratch", self.scratch.as_ref());
        flags
    }

    /// The place they name.
    pub fn place(&self, context: &Context) -> Result<Place, Failure> {
        Ok(match context.client_if_set()? {
            Some(client) if !self.local => Place::Cluster(client),
            _ => Place::Local(context.config.local.clone()),
        })
    }
}
