//! Right answers by DuckDB, an engine that shares no code with this project. It runs as a process of its own over the same
//! files, and writes each answer as CSV: decimals as they are, doubles with as many digits as tell them apart.

use std::env;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use firesteel_base::{ByteSize, UserError};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;

use super::right::Question;
use super::stored::Expected;

/// What DuckDB may use of memory; what does not fit goes to a folder that is removed with it.
const MEMORY_SHARE: u64 = 4;
const MEMORY_MIN: ByteSize = ByteSize(512 << 20);

/// How a null is written: a line with nothing on it would be no row.
const NULL: &str = "\\N";

/// Has an answer written by the package, and no trace for a fault of the query.
const PYTHON: &str = "\
import duckdb, sys
try:
    duckdb.connect().execute(sys.stdin.read())
except duckdb.Error as fault:
    sys.exit(str(fault))";

/// The DuckDB of this machine.
#[derive(Debug, Clone)]
pub struct Duckdb {
    program: Program,
    version: String,
}

#[derive(Debug, Clone)]
enum Program {
    /// Its own shell.
    Shell(PathBuf),
    /// A Python that has its package.
    Python(PathBuf),
}

impl Duckdb {
    /// The one that `asked` is, its shell or a Python that has its package; without that the `duckdb` on the PATH, or the
    /// package in the environment that `bench/peers` makes.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(asked: Option<&Path>) -> Result<Self, UserError> {
        if let Some(path) = asked {
            return Self::probe(path).map_err(|why| {
                UserError::new(format!("{} is no DuckDB", path.display()))
                    .detail(why)
                    .hint("give the program `duckdb`, or a Python that has the package `duckdb`")
            });
        }
        candidates().iter().find_map(|path| Self::probe(path).ok()).ok_or_else(|| {
            UserError::new("there is no DuckDB on this machine")
                .detail("neither `duckdb` on the PATH nor the environment that bench/peers makes")
                .hint(
                    "install it (`pip install duckdb`, or the program from duckdb.org) and give that program, or the \
                     Python that has the package, with --duckdb PATH",
                )
        })
    }

    /// Finds out what program that is; why it is none otherwise.
    fn probe(path: &Path) -> Result<Self, String> {
        let told = first_line(Command::new(path).arg("--version"))?;
        let (program, told) = if told.starts_with("Python ") {
            let asks = "import duckdb; print(duckdb.__version__)";
            (Program::Python(path.to_owned()), first_line(Command::new(path).args(["-c", asks]))?)
        } else {
            (Program::Shell(path.to_owned()), told)
        };
        let version = told.split_whitespace().next().unwrap_or_default().trim_start_matches('v').to_owned();
        if version.starts_with(|first: char| first.is_ascii_digit()) {
            Ok(Self { program, version })
        } else {
            Err(format!("it says '{told}' when asked for its version"))
        }
    }

    /// Its answer to a question.
    ///
    /// # Errors
    /// When it fails, or takes longer than it may.
    pub(super) async fn answer(&self, question: &Question<'_>) -> Result<Expected, UserError> {
        let failed =
            |why: String| UserError::new(format!("{self} has no answer of {}", question.name)).detail(why);
        let folder = tempfile::Builder::new().prefix("firesteel-duckdb-").tempdir();
        let folder = folder.map_err(|fault| failed(format!("no temporary folder can be made: {fault}")))?;
        let file = folder.path().join("answer.csv");
        let script = script(question, folder.path(), &file, memory());
        let limit = question.time_max;
        match tokio::time::timeout(limit, self.run(&script)).await {
            Ok(ended) => ended.map_err(failed)?,
            Err(_) => return Err(failed(format!("stopped after {} s", limit.as_secs_f64()))),
        }
        let text = std::fs::read_to_string(&file).map_err(|fault| failed(format!("its file: {fault}")))?;
        let mut answer =
            Expected::from_csv(&text).map_err(|fault| failed(format!("its file is no CSV: {fault}")))?;
        answer.rows.iter_mut().flatten().filter(|cell| *cell == NULL).for_each(String::clear);
        Ok(answer)
    }

    /// Runs a script to its end; when this is given up, it is killed.
    async fn run(&self, script: &str) -> Result<(), String> {
        let mut command = match &self.program {
            Program::Shell(path) => {
                let mut command = tokio::process::Command::new(path);
                command.args(["-no-init", "-bail"]);
                command
            }
            Program::Python(path) => {
                let mut command = tokio::process::Command::new(path);
                command.args(["-c", PYTHON]);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|fault| format!("it cannot be started: {fault}"))?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)));
        if let Some(mut input) = child.stdin.take() {
            // One that ended before it read all says on standard error why.
            let _ = input.write_all(script.as_bytes()).await;
        }
        let ended = child.wait_with_output().await.map_err(|fault| format!("it is lost: {fault}"))?;
        group.0 = None;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let line = said.lines().map(str::trim).find(|line| !line.is_empty());
        Err(line.map_or_else(|| ended.status.to_string(), str::to_owned))
    }
}

impl fmt::Display for Duckdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "duckdb {}", self.version)
    }
}

/// The process group of a child, killed when this is dropped: the program may be a script that starts another one.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // All of it may have ended in this moment.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Where it is looked for.
fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<_> = env::split_paths(&path).map(|folder| folder.join("duckdb")).collect();
    let peers = env::var_os("HOME").map(|home| Path::new(&home).join(".cache/firesteel-peers"));
    let entries = peers.and_then(|folder| folder.read_dir().ok()).into_iter().flatten().flatten();
    let mut environments: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("duckdb-"))
        .map(|entry| entry.path().join("bin/python"))
        .collect();
    environments.sort();
    found.extend(environments.into_iter().rev());
    found.retain(|program| program.is_file());
    found
}

/// The first line that a command prints; why there is none otherwise.
fn first_line(command: &mut Command) -> Result<String, String> {
    let done = command.stdin(Stdio::null()).output().map_err(|fault| fault.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() {
        return Ok(text(&done.stdout).lines().next().unwrap_or_default().to_owned());
    }
    Err(text(&done.stderr).lines().last().map_or_else(|| done.status.to_string(), str::to_owned))
}

fn memory() -> ByteSize {
    let share = crate::run::memory_bytes() / MEMORY_SHARE;
    ByteSize(share.max(MEMORY_MIN.0))
}

/// What makes DuckDB write an answer to `file`.
fn script(question: &Question<'_>, folder: &Path, file: &Path, memory: ByteSize) -> String {
    let literal = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "''"));
    let mut script = format!("SET memory_limit = '{} MiB';\n", memory.0 >> 20);
    let mut add = |line: fmt::Arguments<'_>| writeln!(script, "{line}").expect("a string takes all");
    add(format_args!("SET temp_directory = {};", literal(folder)));
    for table in question.benchmark.table_names() {
        let files = literal(&question.data.join(table).join("*.parquet"));
        add(format_args!("CREATE VIEW {table} AS SELECT * FROM read_parquet({files});"));
    }
    let sql = question.sql.trim_end().trim_end_matches(';');
    // The query may end with a comment.
    add(format_args!("COPY (\n{sql}\n) TO {} (FORMAT csv, HEADER true, NULLSTR '{NULL}');", literal(file)));
    script
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::{Benchmark, queries};

    /// A shell script in place of DuckDB, in a folder of its own.
    fn fake(body: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("duckdb");
        let version = "[ \"$1\" = --version ] && { echo 'v9.8.7 (Fake) 0123456789'; exit; }";
        std::fs::write(&path, format!("#!/bin/sh\n{version}\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    /// Takes the name of the file out of the script that it reads.
    const INTO_FILE: &str = "file=$(sed -n \"s/^) TO '\\(.*\\)' (FORMAT.*/\\1/p\")";

    async fn ask(path: &Path, time_max: Duration) -> Result<Expected, UserError> {
        let query = queries::tpch("q06").unwrap();
        let data = Path::new("/data/it's");
        let (name, sql) = (query.name, query.sql);
        let question = Question { benchmark: Benchmark::Tpch, scale: 1.0, data, name, sql, time_max };
        Duckdb::find(Some(path)).unwrap().answer(&question).await
    }

    #[test]
    fn the_script_bounds_memory_and_names_all_tables_and_the_query() {
        let query = queries::tpch("q06").unwrap();
        let data = Path::new("/data/it's");
        let question = Question {
            benchmark: Benchmark::Tpch,
            scale: 1.0,
            data,
            name: query.name,
            sql: query.sql,
            time_max: Duration::from_secs(1),
        };
        let text = script(&question, Path::new("/tmp/x"), Path::new("/tmp/x/a.csv"), ByteSize(3 << 30));
        assert!(
            text.starts_with("SET memory_limit = '3072 MiB';\nSET temp_directory = '/tmp/x';\n"),
            "{text}"
        );
        let view = "CREATE VIEW orders AS SELECT * FROM read_parquet('/data/it''s/orders/*.parquet');\n";
        assert!(text.contains(view), "{text}");
        assert_eq!(text.matches("CREATE VIEW").count(), 8);
        assert!(
            text.ends_with("\n) TO '/tmp/x/a.csv' (FORMAT csv, HEADER true, NULLSTR '\\N');\n"),
            "{text}"
        );
        assert_eq!(text.matches(';').count(), 11, "the query's own is gone: {text}");
    }

    #[tokio::test]
    async fn what_it_writes_is_the_answer() {
        let (_folder, path) = fake(&format!("{INTO_FILE}\nprintf 'revenue\\n1.50\\n\\\\N\\n' > \"$file\""));
        assert_eq!(Duckdb::find(Some(&path)).unwrap().to_string(), "duckdb 9.8.7");
        let answer = ask(&path, Duration::from_secs(30)).await.unwrap();
        let rows = vec![vec!["1.50".to_owned()], vec![String::new()]];
        assert_eq!((answer.columns, answer.rows), (vec!["revenue".to_owned()], rows), "a lone null is a row");
    }

    #[tokio::test]
    async fn a_failure_is_told_in_its_own_words_and_a_slow_one_is_stopped() {
        let (_folder, path) =
            fake("cat > /dev/null\nprintf '\\nBinder Error: no such column\\nLINE 1\\n' >&2\nexit 1");
        let fault = ask(&path, Duration::from_secs(30)).await.unwrap_err();
        assert_eq!(fault.message, "duckdb 9.8.7 has no answer of q06");
        assert_eq!(fault.detail.unwrap(), "Binder Error: no such column");
        let (_folder, path) = fake("exit 0");
        let fault = ask(&path, Duration::from_secs(30)).await.unwrap_err();
        assert!(fault.detail.unwrap().contains("its file"), "it wrote none");
        let (folder, path) = fake("sleep 60 &\necho $! > \"${0%/*}/pid\"\nwait");
        let fault = ask(&path, Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(fault.detail.unwrap(), "stopped after 0.3 s");
        let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let ended = || state().is_empty() || state().contains(") Z");
        for _ in 0..1000 {
            if ended() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(ended());
    }

    #[test]
    fn what_is_no_duckdb_is_refused() {
        let fault = Duckdb::find(Some(Path::new("/bin/true"))).unwrap_err();
        assert_eq!(fault.message, "/bin/true is no DuckDB");
        let fault = Duckdb::find(Some(Path::new("/nowhere/duckdb"))).unwrap_err();
        assert!(fault.detail.unwrap().contains("No such file") && fault.hint.is_some());
    }
}
