//! `firesteel driver`: what a worker starts for each job in cluster deploy mode.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::Args;
use firesteel_base::{ByteSize, JobId, UserError};
use firesteel_driver::{ConnectOptions, Session};
use firesteel_engine::session::split_statements;
use firesteel_executor::worker::DriverRequest;
use firesteel_protocol::token::Credential;

use crate::args::Global;
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::Output;
use crate::query::Runner;
use crate::runtime;
use crate::signals::Stop;
use crate::supervision::input_end;

/// Run the driver of a cluster-mode job; `firesteel worker` starts it
///
/// What to run comes as a line of JSON on standard input; the driver gives up when that input ends. The result goes to a
/// file as an Arrow IPC stream. The last line of standard error tells a failure as JSON.
#[derive(Debug, Args)]
pub struct DriverArgs {
    /// The job's number
    #[arg(long, value_name = "N")]
    job: u64,
    /// The cluster's manager
    #[arg(long, value_name = "HOST:PORT")]
    manager: String,
    /// Where the result goes
    #[arg(long, value_name = "FILE")]
    result: PathBuf,
}

/// Runs the command.
pub fn run(global: &Global, args: DriverArgs) -> Result<Exit, Failure> {
    // Said as JSON instead: the worker reads it from there.
    drive(global, &args).map_err(|failure| {
        let line = serde_json::to_string(&failure.told()).expect("plain data becomes JSON");
        let _ = writeln!(std::io::stderr(), "{line}");
        Failure::quiet(Exit::Failed)
    })
}

fn drive(global: &Global, args: &DriverArgs) -> Result<Exit, Failure> {
    Context::load(global, Vec::new(), Role::Daemon)?;
    let request = read_request()?;
    let statements = split_statements(&request.sql)?;
    if statements.is_empty() {
        return Err(UserError::new("the job holds no statement").into());
    }
    runtime::run(async {
        let mut stop = Stop::listen()?;
        let options = ConnectOptions {
            name: request.name,
            security: request.security.accept()?,
            conf: request.conf,
            submitted_job: Some((JobId(args.job), request.launch)),
            memory: Some(ByteSize(request.memory_bytes)),
            credential: Credential::of(&request.secret)?,
            ..ConnectOptions::default()
        };
        let session = Session::connect(&args.manager, options).await.map_err(Failure::cluster)?;
        let output = Output::arrow_stream(&args.result);
        let runner = Runner::new(session.clone(), true);
        let whole = async {
            let outcome = runner.run_all(&statements, &output, &mut stop).await;
            session.conclude(match &outcome {
                Ok(written) => Ok(written.map_or(0, |written| written.rows)),
                Err(failure) => Err(failure.told()),
            });
            drop(session);
            runner.close().await;
            outcome.map(|_| Exit::Done)
        };
        tokio::select! {
            ended = whole => ended,
            () = input_end() => vanish(),
        }
    })
}

/// Ends at once. The worker that keeps this driver's result is gone, so the manager has another one launched: nothing is said of how
/// the job ends here.
fn vanish() -> ! {
    std::process::exit(i32::from(Exit::Failed.code()))
}

fn read_request() -> Result<DriverRequest, Failure> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).map_err(|fault| fault.to_string());
    read.and_then(|_| serde_json::from_str(&line).map_err(|fault| fault.to_string())).map_err(|fault| {
        UserError::new("the driver was not told what to run")
            .detail(fault)
            .hint("drivers are started by `firesteel worker`; send jobs with `firesteel submit`")
            .into()
    })
}
