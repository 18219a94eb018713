//! Asking a query, and whether its answer is that of the undisturbed run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cluster::Cluster;
use crate::command::{Ended, Said, run_within};
use crate::questions::Questions;

/// How long a query may take.
const QUERY_MAX: Duration = Duration::from_secs(1800);

/// Who asks.
pub struct Asking<'a> {
    /// Whom.
    pub cluster: &'a Cluster,
    /// About which data.
    pub questions: &'a Questions,
    /// Where answers go.
    pub folder: &'a Path,
}

/// A query that was asked.
#[derive(Debug)]
pub struct Asked {
    /// How long it took, with the start of the command.
    pub took: Duration,
    ended: Ended,
}

impl Asked {
    /// The answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn answered(&self) -> anyhow::Result<&str> {
        match &self.ended {
            Ended::WithCode(0, Said { stdout, .. }) => Ok(stdout),
            other => bail!("a query that nothing befell {other}"),
        }
    }

    /// Why there is no answer.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match &self.ended {
            Ended::WithCode(0, _) => None,
            other => Some(other.to_string()),
        }
    }
}

impl Asking<'_> {
    /// Asks.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub fn ask(&self, name: &str, sql: &str, is_submitted: bool) -> anyhow::Result<Asked> {
        let script = self.questions.script(sql);
        let mut command = if is_submitted {
            let file = self.folder.join(format!("{name}.sql"));
            fs::write(&file, script)?;
            let mut command = self.cluster.client(&["submit"]);
            command.arg(file);
            command
        } else {
            self.cluster.client(&["sql", "-c", &script])
        };
        command.args(["--manager", self.cluster.address(), "--format", "csv", "-q", "--name", name]);
        let since = Instant::now();
        let ended = run_within(command, QUERY_MAX)?;
        Ok(Asked { took: since.elapsed(), ended })
    }

    /// Where the right answer of a query is.
    #[must_use]
    pub fn right(&self, name: &str) -> PathBuf {
        self.folder.join("right").with_extension(name)
    }

    /// Whether the answer is that of the undisturbed run. None when there is no answer.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn is_right(&self, name: &str, asked: &Asked) -> anyhow::Result<bool> {
        let Ended::WithCode(0, said) = &asked.ended else { return Ok(false) };
        let answer = self.folder.join(format!("{name}.csv"));
        fs::write(&answer, &said.stdout)?;
        let right = self.right(name);
        let difference = self.questions.difference_from(name, &answer, Some(&right));
        Ok(difference.with_context(|| format!("the answer of {name}"))?.is_none())
    }
}

/// The one in the middle, the later of two.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
