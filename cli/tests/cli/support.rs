//! Running the command.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The command that is tested.
pub const FIRESTEEL: &str = env!("CARGO_BIN_EXE_firesteel");

/// How a run ended, and what it printed.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The command with these arguments, in an environment that sets nothing of ours.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(FIRESTEEL);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIRESTEEL_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Ended {
    command(arguments).output().unwrap().into()
}

/// Runs it with this text on its standard input.
pub fn run_with_input(arguments: &[&str], input: &str) -> Ended {
    let mut child = command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

/// `firesteel sql` on one core with little memory.
pub fn sql(arguments: &[&str]) -> Ended {
    run(&sql_arguments(arguments))
}

/// The arguments of [`sql`].
pub fn sql_arguments<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    ["sql", "--cores", "1", "--memory", "256MiB"].into_iter().chain(arguments.iter().copied()).collect()
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// What it printed, when it succeeded.
    #[track_caller]
    pub fn printed(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// What it said, when it failed with that code: one error, without a trace, that has all of `names` in it.
    #[track_caller]
    pub fn told(self, code: i32, names: &[&str]) -> String {
        let said = self.stderr;
        assert_eq!(self.code, Some(code), "{said}\n{}", self.stdout);
        let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{said}");
        assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
        for name in names {
            assert!(said.contains(name), "it does not name {name}:\n{said}");
        }
        said
    }
}

/// A child that is killed when the test is over.
pub struct Reaped(pub Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // It has ended already in a test that passes.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal, by the system's own `kill`.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The names in a folder, sorted, those that start with a dot as well.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
