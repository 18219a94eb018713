//! `firesteel submit`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use firesteel_base::{JobId, UserError};
use firesteel_engine::session::split_statements;

use crate::args::{Flags, Global};
use crate::cluster::{Cluster, fetch_result, has_ended};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::progress::Display;
use crate::output::results::{Output, OutputArgs, print};
use crate::query::{Runner, unless_stopped};
use crate::session::{self, Place};
use crate::signals::{Stop, interrupted};
use crate::{commands, runtime};

const EXAMPLES: &str = "\
Examples:
  # The cluster runs the job's driver; wait for the result and show it
  firesteel submit report.sql --manager head:7400

  # Hand it over and go; ask for the result later
  firesteel submit report.sql --detach
  firesteel jobs wait job7
  firesteel jobs result job7 --output report.parquet

  # The driver stays in this process, which needs to reach the workers
  firesteel submit report.sql --deploy-mode client

Ctrl-C cancels the job on the cluster. Without --manager the job goes to FIRESTEEL_MANAGER, or to 127.0.0.1:7400.
Paths in the SQL are those of the cluster's hosts.";

/// Send a job to a cluster
///
/// The job is the statements of FILE, run one after the other; its result is that of the last one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SubmitArgs {
    /// The SQL to run, `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The cluster's manager; of several all, separated by commas [env: FIRESTEEL_MANAGER] [default: 127.0.0.1:7400]
    #[arg(long, value_name = "HOST:PORT,..")]
    manager: Option<String>,
    /// Where the job's driver runs
    #[arg(long, value_enum, default_value = "cluster")]
    deploy_mode: DeployMode,
    /// The name under which the job is listed [default: the name of FILE]
    #[arg(long)]
    name: Option<String>,
    /// The queue whose share of the cluster the job draws on [env: FIRESTEEL_CLIENT_QUEUE] [default: the one without a name]
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Set a session setting, such as datafusion.execution.batch_size=4096; may be given several times
    #[arg(long = "conf", value_name = "KEY=VALUE")]
    conf: Vec<String>,
    /// Print the job's id and do not wait for its end (cluster mode only)
    #[arg(long, conflicts_with_all = ["format", "output", "max_rows"])]
    detach: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Where a job's driver runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeployMode {
    /// In this process: the job ends when this process does
    Client,
    /// On a worker of the cluster, which keeps the result
    Cluster,
}

impl SubmitArgs {
    fn job_name(&self) -> String {
        let of_file = || self.file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        self.name.clone().or_else(of_file).filter(|name| name != "-").unwrap_or_else(|| "sql".to_owned())
    }
}

/// Runs the command.
pub fn run(global: &Global, args: SubmitArgs) -> Result<Exit, Failure> {
    let mut flags = Flags::default();
    flags.put("client.manager", "--manager", args.manager.as_ref());
    flags.put("client.queue", "--queue", args.queue.as_ref());
    let context = Context::load(global, flags.0, Role::Command)?;
    if args.detach && args.deploy_mode == DeployMode::Client {
        return Err(Failure::usage(
            UserError::new("--detach needs --deploy-mode cluster")
                .detail("in client mode this process is the job's driver and has to stay"),
        ));
    }
    let output = Output::of(&args.output)?;
    let conf = session::conf(&args.conf)?;
    let sql = commands::sql::read(&args.file)?;
    // What does not parse is not worth a place in the queue.
    let statements = split_statements(&sql)?;
    if statements.is_empty() {
        return Err(Failure::usage(UserError::new(format!("{} holds no statement", args.file.display()))));
    }
    let client = context.client()?;
    let name = args.job_name();
    runtime::run(async {
        let mut stop = Stop::listen()?;
        match args.deploy_mode {
            DeployMode::Client => {
                let session = session::open(&Place::Cluster(client), &name, conf).await?;
                let runner = Runner::new(session, context.quiet);
                let outcome = runner.run_all(&statements, &output, &mut stop).await;
                runner.close().await;
                outcome.map(drop)
            }
            DeployMode::Cluster => {
                let cluster = Cluster::connect(&client).await?;
                let job = cluster.submit(&name, &sql, conf).await?;
                if args.detach {
                    print(&format!("{job}\n"))
                } else {
                    context.note(&format!("submitted as {job}"));
                    follow(&cluster, job, &output, context.quiet, &mut stop).await
                }
            }
        }
    })?;
    Ok(Exit::Done)
}

/// How long one question for the job's state waits for its end.
const POLL: Duration = Duration::from_millis(500);

/// Waits for a cluster-mode job, showing how far it is, and writes its result. A signal cancels the job.
async fn follow(
    cluster: &Cluster,
    id: JobId,
    output: &Output,
    quiet: bool,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let display = Display::start(quiet);
    let job = loop {
        let job = tokio::select! {
            job = cluster.wait(id, POLL) => job.inspect_err(|_| display.hide())?,
            signal = stop.next() => {
                display.hide();
                cluster.cancel(id).await?;
                return Err(interrupted(&id.to_string(), signal));
            }
        };
        if has_ended(&job) {
            break job;
        }
        display.show(&commands::jobs::snapshot(&job));
    };
    display.hide();
    commands::jobs::outcome(&job)?;
    let rows = fetch_result(&job, cluster.security()).await?;
    if rows.schema.fields().is_empty() {
        return Ok(());
    }
    let writer = output.clone();
    let written = unless_stopped(async move { writer.write(rows).await }, stop, || ()).await;
    // The job has ended and its result stays on the cluster, whatever becomes of this.
    let written = written.map_err(|stopped| stopped.failure("writing the result"))?;
    if !quiet {
        eprintln!("{}", written.summary(display.elapsed()));
    }
    Ok(())
}
