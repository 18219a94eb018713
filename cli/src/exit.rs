//! How the command ends: exit codes, and failures as they are told on standard error.

use std::io::Write;

use firesteel_base::UserError;
use firesteel_base::config::ConfigError;

/// The exit code of the process. The table in `--help` and in docs/exit-codes.md says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was done.
    Done,
    /// The query, the job or the daemon failed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// The cluster cannot be reached, or speaks another version.
    Cluster,
    /// The job was cancelled by somebody else.
    Cancelled,
    /// The output could not be written.
    Output,
    /// Ctrl-C was pressed, or SIGTERM came.
    Interrupted,
    /// What a command that was run on the user's behalf ended with.
    OfCommand(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Cluster => 3,
            Self::Cancelled => 4,
            Self::Output => 5,
            Self::Interrupted => 130,
            Self::OfCommand(code) => code,
        }
    }
}

/// The part of `firesteel --help` about exit codes.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0    done
  1    the query or job failed, or the daemon could not go on
  2    the command line or the configuration is wrong; nothing was started
  3    the cluster cannot be reached, or is of another version
  4    the job was cancelled by somebody else
  5    the output could not be written
  130  interrupted by Ctrl-C or SIGTERM; what was running has been cancelled";

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What to tell; `None` ends quietly.
    pub error: Option<Box<UserError>>,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(exit: Exit, error: UserError) -> Self {
        Self { exit, error: Some(Box::new(error)) }
    }

    /// Nothing to tell: the code says all.
    pub fn quiet(exit: Exit) -> Self {
        Self { exit, error: None }
    }

    /// The command line asks for what makes no sense.
    pub fn usage(error: UserError) -> Self {
        Self::new(Exit::Usage, error)
    }

    /// The cluster is not there, or is of another version.
    pub fn cluster(error: UserError) -> Self {
        Self::new(Exit::Cluster, error)
    }

    /// The output could not be written.
    pub fn output(error: UserError) -> Self {
        Self::new(Exit::Output, error)
    }

    /// The error as it is told to somebody else.
    pub fn told(&self) -> UserError {
        self.error.as_deref().cloned().unwrap_or_else(|| UserError::new("the command ended early"))
    }

    /// Says on standard error what is wrong, where, and what to do.
    pub fn tell(&self) {
        let Some(error) = &self.error else { return };
        let mut text = format!("error: {}\n", error.message);
        for (label, part) in [("detail", &error.detail), ("hint", &error.hint)] {
            if let Some(part) = part {
                text.push_str(&format!("{label}: {part}\n"));
            }
        }
        // When standard error is gone as well there is nobody left to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.into())
    }
}
