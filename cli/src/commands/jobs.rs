//! `firesteel jobs`

use std::time::Duration;

use clap::{Args, Subcommand};
use firesteel_base::{JobId, UserError};
use firesteel_protocol::v1::{JobInfo, JobState};
use serde_json::{Value, json};

use crate::args::{Flags, Global};
use crate::cluster::{Cluster, fetch_result, has_ended};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::progress::{Snapshot, StageSnapshot};
use crate::output::results::{Output, OutputArgs, print, print_json};
use crate::output::text;
use crate::query::class_failure;
use crate::runtime;
use crate::signals::{Stop, interrupted};

const EXAMPLES: &str = "\
Examples:
  firesteel jobs                          # what runs and waits
  firesteel jobs list --all --json        # everything the manager remembers, for a script
  firesteel jobs show job7                # stages, tasks, and why it failed
  firesteel jobs cancel job7
  firesteel jobs wait job7 && firesteel jobs result job7 --output report.csv";

/// List, show, cancel and wait for the jobs of a cluster, and fetch their results
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    /// The cluster's manager; of several all, separated by commas [env: FIRESTEEL_MANAGER] [default: 127.0.0.1:7400]
    #[arg(long, global = true, value_name = "HOST:PORT,..")]
    manager: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Clone, Copy, Args)]
struct ListArgs {
    /// Those that have ended as well
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// List the jobs that run or wait (the default)
    List(ListArgs),
    /// Show a job: its SQL, its stages and how far they are, and why it failed
    Show {
        /// Its id, such as job7 or 7
        #[arg(value_parser = job_id)]
        job: JobId,
    },
    /// Cancel a job; its slots and blocks are freed
    Cancel {
        /// Its id, such as job7 or 7
        #[arg(value_parser = job_id)]
        job: JobId,
    },
    /// Wait for a job's end; the exit code tells how it ended (0, 1 failed, 4 cancelled)
    Wait {
        /// Its id, such as job7 or 7
        #[arg(value_parser = job_id)]
        job: JobId,
    },
    /// Fetch the result of a job that was submitted in cluster mode
    Result {
        /// Its id, such as job7 or 7
        #[arg(value_parser = job_id)]
        job: JobId,
        #[command(flatten)]
        output: OutputArgs,
    },
}

fn job_id(text: &str) -> Result<JobId, String> {
    let digits = text.strip_prefix("job").unwrap_or(text);
    digits.parse().map(JobId).map_err(|_| "not a job id such as job7 or 7".to_owned())
}

/// How long one question for a job's end waits for it.
const POLL: Duration = Duration::from_secs(10);

/// Runs the command.
pub fn run(global: &Global, args: JobsArgs) -> Result<Exit, Failure> {
    let mut flags = Flags::default();
    flags.put("client.manager", "--manager", args.manager.as_ref());
    let context = Context::load(global, flags.0, Role::Command)?;
    let json = args.json;
    runtime::run(async {
        let cluster = Cluster::connect(&context.client()?).await?;
        match args.command.unwrap_or(JobsCommand::List(args.list)) {
            JobsCommand::List(ListArgs { all }) => list(&cluster, all || args.list.all, json).await?,
            JobsCommand::Show { job } => show(&cluster.job(job).await?, json)?,
            JobsCommand::Cancel { job } => cancel(&cluster, job, json).await?,
            JobsCommand::Wait { job } => wait(&cluster, job, json).await?,
            JobsCommand::Result { job, output } => result(&context, &cluster, job, &output).await?,
        }
        Ok(Exit::Done)
    })
}

async fn list(cluster: &Cluster, all: bool, json: bool) -> Result<(), Failure> {
    let jobs = cluster.jobs(all).await?;
    if json {
        return print_json(&jobs.iter().map(as_json).collect::<Vec<_>>());
    }
    if jobs.is_empty() {
        return print(if all { "no jobs\n" } else { "no jobs run or wait (--all lists ended ones too)\n" });
    }
    let headers = [
        "JOB",
        "STATE",
        "NAME",
        "USER",
        "QUEUE",
        ">SLOTS",
        ">TASKS",
        ">TIME",
        "SUBMITTED",
        "WAITS FOR",
        "SQL",
    ];
    print(&text::columns(&headers, jobs.iter().map(row)))
}

fn row(job: &JobInfo) -> Vec<String> {
    vec![
        JobId(job.job).to_string(),
        state(job).to_owned(),
        job.name.clone(),
        job.user.clone(),
        or_dash(&job.queue),
        job.slots_held.to_string(),
        tasks(job),
        running_time(job),
        text::ago(job.submitted_unix_ms),
        or_dash(&text::brief(&job.waiting_for, 72)),
        text::brief(&job.sql, 40),
    ]
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn tasks(job: &JobInfo) -> String {
    let done: u64 = job.stages.iter().map(|stage| u64::from(stage.done)).sum();
    let all: u64 = job.stages.iter().map(|stage| u64::from(stage.tasks)).sum();
    format!("{done}/{all}")
}

fn running_time(job: &JobInfo) -> String {
    if job.started_unix_ms == 0 {
        return "-".to_owned();
    }
    let end = if job.ended_unix_ms == 0 { text::unix_ms_now() } else { job.ended_unix_ms };
    text::span(Duration::from_millis(end.saturating_sub(job.started_unix_ms)))
}

/// The state as one word.
pub fn state(job: &JobInfo) -> &'static str {
    match job.state() {
        JobState::Unspecified => "unknown",
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

fn show(job: &JobInfo, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(&as_json(job));
    }
    let driver = match (job.cluster_mode, job.driver_host.as_str()) {
        (true, "") => "on the cluster".to_owned(),
        (true, host) => format!("on the cluster, {host}"),
        (false, host) => format!("in the client, {host}"),
    };
    let mut shown = format!(
        "{}  {}  {}\n  submitted {} by {}, ran {}, holds {} slots\n  driver {driver}\n",
        JobId(job.job),
        state(job),
        job.name,
        text::ago(job.submitted_unix_ms),
        job.user,
        running_time(job),
        job.slots_held
    );
    if !job.queue.is_empty() {
        shown.push_str(&format!("  queue {}\n", job.queue));
    }
    if !job.waiting_for.is_empty() {
        shown.push_str(&format!("  waits for {}\n", job.waiting_for));
    }
    if job.state() == JobState::Succeeded {
        shown.push_str(&format!("  {} in the result\n", text::count(job.result_rows, "row")));
    }
    if let Some(failure) = &job.failure {
        shown.push_str(&format!("\nerror: {}\n", failure.user_error()));
    }
    shown.push_str(&format!("\n{}\n", job.sql.trim()));
    if !job.stages.is_empty() {
        let headers = ["STAGE", ">TASKS", ">RUNNING", ">DONE", ">FAILED", ">ROWS", ">BYTES"];
        shown.push('\n');
        shown.push_str(&text::columns(&headers, job.stages.iter().map(stage_row)));
    }
    print(&shown)
}

fn stage_row(stage: &firesteel_protocol::v1::StageProgress) -> Vec<String> {
    vec![
        format!("s{}", stage.stage),
        stage.tasks.to_string(),
        stage.running.to_string(),
        stage.done.to_string(),
        stage.failed_attempts.to_string(),
        text::number(stage.rows),
        firesteel_base::ByteSize(stage.bytes).to_string(),
    ]
}

async fn cancel(cluster: &Cluster, id: JobId, json: bool) -> Result<(), Failure> {
    let job = cluster.cancel(id).await?;
    if json { print_json(&as_json(&job)) } else { print(&format!("{id} {}\n", state(&job))) }
}

async fn wait(cluster: &Cluster, id: JobId, json: bool) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    let job = loop {
        let job = tokio::select! {
            job = cluster.wait(id, POLL) => job?,
            // Whoever waits may leave; the job goes on.
            signal = stop.next() => return Err(interrupted("waiting", signal)),
        };
        if has_ended(&job) {
            break job;
        }
    };
    if json {
        print_json(&as_json(&job))?;
    } else {
        print(&format!("{id} {}\n", state(&job)))?;
    }
    outcome(&job)
}

async fn result(context: &Context, cluster: &Cluster, id: JobId, output: &OutputArgs) -> Result<(), Failure> {
    let output = Output::of(output)?;
    let job = cluster.job(id).await?;
    if has_ended(&job) {
        outcome(&job)?;
    }
    let rows = fetch_result(&job, cluster.security()).await?;
    if rows.schema.fields().is_empty() {
        context.note(&format!("the last statement of {id} has no rows to show"));
        return Ok(());
    }
    output.write(rows).await.map(drop)
}

/// Whether an ended job succeeded, and why not.
pub fn outcome(job: &JobInfo) -> Result<(), Failure> {
    let id = JobId(job.job);
    match (job.state(), &job.failure) {
        (JobState::Succeeded, _) => Ok(()),
        (JobState::Cancelled, failure) => {
            let mut error = UserError::new(format!("{id} was cancelled"));
            error.detail = failure.as_ref().map(|failure| failure.message.clone());
            Err(Failure::new(Exit::Cancelled, error))
        }
        (_, Some(failure)) => Err(class_failure(failure.base_class(), failure.user_error())),
        (_, None) => Err(UserError::new(format!("{id} {}", state(job))).into()),
    }
}

/// How far a job has come.
pub fn snapshot(job: &JobInfo) -> Snapshot {
    Snapshot {
        job: JobId(job.job).to_string(),
        waiting: None,
        waiting_for: job.waiting_for.clone(),
        stages: job.stages.iter().map(StageSnapshot::from).collect(),
    }
}

fn as_json(job: &JobInfo) -> Value {
    let time = |unix_ms: u64| if unix_ms == 0 { Value::Null } else { unix_ms.into() };
    json!({
        "job": JobId(job.job).to_string(),
        "name": job.name,
        "state": state(job),
        "user": job.user,
        "queue": job.queue,
        "waiting_for": (!job.waiting_for.is_empty()).then_some(&job.waiting_for),
        "sql": job.sql,
        "cluster_mode": job.cluster_mode,
        "driver_host": job.driver_host,
        "submitted_unix_ms": time(job.submitted_unix_ms),
        "started_unix_ms": time(job.started_unix_ms),
        "ended_unix_ms": time(job.ended_unix_ms),
        "slots_held": job.slots_held,
        "result_rows": job.result_rows,
        "failure": job.failure.as_ref().map(|failure| json!({
            "message": failure.message,
            "detail": failure.detail,
            "hint": failure.hint,
        })),
        "stages": job.stages.iter().map(|stage| json!({
            "stage": stage.stage,
            "tasks": stage.tasks,
            "running": stage.running,
            "done": stage.done,
            "failed_attempts": stage.failed_attempts,
            "rows": stage.rows,
            "bytes": stage.bytes,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_taken_with_and_without_their_prefix() {
        assert_eq!((job_id("job7"), job_id("7")), (Ok(JobId(7)), Ok(JobId(7))));
        assert!(job_id("jobs").is_err() && job_id("-1").is_err() && job_id("").is_err());
    }

    #[test]
    fn the_exit_code_tells_how_a_job_ended() {
        let job = |state: JobState| JobInfo { job: 7, state: state.into(), ..JobInfo::default() };
        assert!(outcome(&job(JobState::Succeeded)).is_ok());
        assert_eq!(outcome(&job(JobState::Failed)).unwrap_err().exit, Exit::Failed);
        assert_eq!(outcome(&job(JobState::Cancelled)).unwrap_err().exit, Exit::Cancelled);
    }
}
