//! Other processes.
//!
//! A test starts its own program once more, for that test alone and with a role in its environment, and is then that
//! role there.
#![allow(dead_code)] // each test program uses its part
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// What a process that was started as a role finds in its environment: the role's argument.
const ROLE: &str = "FIRESTEEL_TEST_ROLE";

/// The argument of the role that this process plays; none in the test itself.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Another process, killed when dropped.
pub struct Other {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Other {
    pub fn start(test: &str, argument: &str) -> Self {
        Self::start_by(&[], test, argument)
    }

    /// The same, by a program that starts another one.
    pub fn start_by(program: &[&str], test: &str, argument: &str) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut words = program.iter().map(AsRef::as_ref).chain([own.as_os_str()]);
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ROLE, argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    /// What follows `word` in the next line that has it.
    pub fn hear(&mut self, word: &str) -> String {
        let line = self.said.by_ref().map(Result::unwrap).find(|line| line.contains(word));
        line.expect("it says that before it ends").split_once(word).unwrap().1.trim().to_owned()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says a line to it.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tells the test.
pub fn say(text: &str) {
    println!("\n{text}");
    std::io::stdout().flush().unwrap();
}

/// Waits until the process that started this one ends it, or ends itself.
pub fn wait_to_be_killed() {
    std::io::stdin().lines().for_each(drop);
}
