//! The commands, a file each.

pub mod bench;
pub mod certs;
pub mod completions;
pub mod config;
pub mod doctor;
pub mod driver;
pub mod executor;
pub mod jobs;
pub mod local_cluster;
pub mod man;
pub mod manager;
pub mod managers;
pub mod nodes;
pub mod probe;
pub mod sql;
pub mod submit;
pub mod tokens;
pub mod topology;
pub mod worker;

use crate::args::{Cli, Command};
use crate::exit::{Exit, Failure};

/// Runs the command that was asked for.
pub fn run(cli: Cli) -> Result<Exit, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Sql(args) => sql::run(&global, args),
        Command::Submit(args) => submit::run(&global, args),
        Command::Jobs(args) => jobs::run(&global, args),
        Command::Nodes(args) => nodes::run(&global, &args),
        Command::LocalCluster(args) => local_cluster::run(&global, args),
        Command::Manager(args) => manager::run(&global, args),
        Command::Managers(args) => managers::run(&global, &args),
        Command::Tokens(args) => tokens::run(&global, &args),
        Command::Worker(args) => worker::run(&global, args),
        Command::Certs(args) => certs::run(&args),
        Command::Topology(args) => topology::run(&global, &args),
        Command::Doctor(args) => doctor::run(&global, &args),
        Command::Probe(args) => probe::run(&global, args),
        Command::Config(args) => config::run(&global, &args),
        Command::Bench(args) => bench::run(&global, args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Executor(args) => executor::run(&global, args),
        Command::Driver(args) => driver::run(&global, args),
    }
}
