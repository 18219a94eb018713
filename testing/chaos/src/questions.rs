//! What is asked, and whether an answer is right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::command::{Ended, run_within};

/// How long holding an answer against the right one may take.
const CHECK_MAX: Duration = Duration::from_secs(60);

const TABLES: [&str; 8] =
    ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

macro_rules! queries {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../bench/queries/tpch/", $name, ".sql")))),*]
    };
}

/// The queries of TPC-H: name and text.
pub const QUERIES: [(&str, &str); 22] = queries!(
    "q01" "q02" "q03" "q04" "q05" "q06" "q07" "q08" "q09" "q10" "q11" "q12" "q13" "q14" "q15" "q16" "q17" "q18" "q19" "q20"
    "q21" "q22"
);

/// TPC-H data of a scale for which there are right answers.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The program that holds answers against the right ones: `firesteel bench check`.
    binary: PathBuf,
    data: PathBuf,
    scale: f64,
    /// Right answers in place of the stored ones, `q01.csv` and so on.
    answers: Option<PathBuf>,
}

impl Questions {
    /// Those about the data in a folder that `firesteel bench gen tpch` made.
    ///
    /// # Errors
    /// When there is no such data.
    pub fn about(binary: &Path, data: &Path, answers: Option<PathBuf>) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Recipe {
            benchmark: String,
            scale: f64,
        }
        #[derive(Deserialize)]
        struct Manifest {
            recipe: Recipe,
        }
        let data = data.canonicalize().with_context(|| format!("there is no folder {}", data.display()))?;
        let path = data.join("manifest.json");
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}; `firesteel bench gen tpch --scale 0.1 --out DIR` makes data",
                path.display()
            )
        })?;
        let Manifest { recipe } = serde_json::from_str(&text)
            .with_context(|| format!("{} is no manifest of data", path.display()))?;
        if recipe.benchmark != "tpch" {
            bail!("{} holds data of {}, not of tpch", data.display(), recipe.benchmark);
        }
        Ok(Self { binary: binary.to_owned(), data, scale: recipe.scale, answers })
    }

    /// The statements that make the tables known and ask a query.
    #[must_use]
    pub fn script(&self, sql: &str) -> String {
        let table = |name: &&str| {
            let folder = self.data.join(name).display().to_string().replace('\'', "''");
            format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{folder}/';\n")
        };
        TABLES.iter().map(table).collect::<String>() + sql
    }

    /// Holds an answer, CSV with a header in a file, against the right one. Returns the difference, if there is one.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn difference(&self, query: &str, answer: &Path) -> anyhow::Result<Option<String>> {
        let right = self.answers.as_ref().map(|folder| folder.join(format!("{query}.csv")));
        self.difference_from(query, answer, right.as_deref())
    }

    /// Holds an answer against the one in a file, or the stored one.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn difference_from(
        &self,
        query: &str,
        answer: &Path,
        right: Option<&Path>,
    ) -> anyhow::Result<Option<String>> {
        #[derive(Deserialize)]
        #[serde(tag = "is", rename_all = "kebab-case")]
        enum Verdict {
            Right,
            Wrong { difference: String },
        }
        let mut command = Command::new(&self.binary);
        command.args(["bench", "check", "tpch", query, "--answer"]).arg(answer);
        match right {
            Some(right) => command.arg("--right").arg(right),
            None => command.args(["--scale", &self.scale.to_string()]),
        };
        match run_within(command, CHECK_MAX)? {
            Ended::WithCode(0, said) => match serde_json::from_str(&said.stdout)? {
                Verdict::Right => Ok(None),
                Verdict::Wrong { difference } => Ok(Some(difference)),
            },
            other => bail!("`firesteel bench check` {other}"),
        }
    }
}
