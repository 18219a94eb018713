//! `firesteel sql`

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use firesteel_base::UserError;
use firesteel_engine::session::split_statements;

use crate::args::{Global, PlaceArgs};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::{Output, OutputArgs};
use crate::query::Runner;
use crate::session;
use crate::signals::Stop;
use crate::{prompt, runtime};

const EXAMPLES: &str = "\
Examples:
  # A query over files, in this process
  firesteel sql -c \"select count(*) from 'data/orders/*.parquet'\"

  # Several statements of a file, the result of the last one as Parquet
  firesteel sql -f report.sql --output report.parquet

  # JSON for another program
  firesteel sql -c 'select 1 as one' --format jsonl | jq .one

  # The interactive shell (\\? lists its commands), on a cluster
  firesteel sql --manager head:7400

Tables are files and folders named in the query itself ('data/*.parquet'), or made with CREATE EXTERNAL TABLE. A
statement that writes (COPY ... TO) gives its file its name only when it is whole.";

/// Run SQL: one-shot, from a file, or in an interactive shell
///
/// Without -c and -f, statements are read from standard input: with line editing, history and completion when it is a
/// terminal. Queries run in this process, on all its cores, unless a manager is named by --manager, FIRESTEEL_MANAGER or
/// the configuration.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SqlArgs {
    /// Run these statements; may be given several times
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// Run the statements of FILE, `-` for standard input; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "commands")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
    /// The name under which the cluster lists the jobs
    #[arg(long, value_name = "NAME", default_value = "sql", help_heading = "Where it runs")]
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl SqlArgs {
    /// The texts to run; `None` asks for the interactive shell.
    fn texts(&self) -> Result<Option<Vec<String>>, Failure> {
        if !self.commands.is_empty() {
            return Ok(Some(self.commands.clone()));
        }
        if !self.files.is_empty() {
            return Ok(Some(self.files.iter().map(|file| read(file)).collect::<Result<_, _>>()?));
        }
        if std::io::stdin().is_terminal() {
            return Ok(None);
        }
        Ok(Some(vec![read(Path::new("-"))?]))
    }
}

/// The statements of all texts, each checked to parse before the first one runs.
fn statements(texts: &[String]) -> Result<Vec<String>, Failure> {
    let mut statements = Vec::new();
    for text in texts {
        statements.extend(split_statements(text)?);
    }
    Ok(statements)
}

/// The text of a file of SQL, or of standard input for `-`.
pub fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let (name, outcome) = if file == Path::new("-") {
        ("standard input".to_owned(), std::io::stdin().read_to_string(&mut text).map(drop))
    } else {
        (file.display().to_string(), std::fs::read_to_string(file).map(|read| text = read))
    };
    match outcome {
        Ok(()) => Ok(text),
        Err(fault) => Err(Failure::usage(
            UserError::new(format!("cannot read SQL from {name}"))
                .detail(fault.to_string())
                .hint("give a text file of SQL statements, each ended by a semicolon"),
        )),
    }
}

/// Runs the command.
pub fn run(global: &Global, args: SqlArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, args.place.flags().0, Role::Command)?;
    let output = Output::of(&args.output)?;
    let conf = session::conf(&args.place.conf)?;
    let place = args.place.place(&context)?;
    let Some(texts) = args.texts()? else {
        return prompt::run(&context, &place, &args.name, conf, output);
    };
    let statements = statements(&texts)?;
    runtime::run(async {
        let mut stop = Stop::listen()?;
        let session = session::open(&place, &args.name, conf).await?;
        let runner = Runner::new(session, context.quiet);
        let outcome = runner.run_all(&statements, &output, &mut stop).await;
        runner.close().await;
        outcome.map(|_| Exit::Done)
    })
}
