//! How far a long piece of work has come, told to a terminal or to a log.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Somebody who wants to know how far the work has come.
pub trait Progress: Sync {
    /// The work begins; it will come to about `total` steps.
    fn start(&self, total: u64);
    /// `steps` more are done.
    fn advance(&self, steps: u64);
    /// Something worth a line happened.
    fn note(&self, line: &str);
    /// The work ended, well or not.
    fn finish(&self);
}

/// The progress of this process's standard error: a bar on a terminal, plain lines in a log.
#[must_use]
pub fn stderr() -> Box<dyn Progress + Send> {
    if std::io::stderr().is_terminal() { Box::new(Bar::new()) } else { Box::new(Lines) }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _total: u64) {}
    fn advance(&self, _steps: u64) {}
    fn note(&self, _line: &str) {}
    fn finish(&self) {}
}

/// Notes as plain lines on standard error.
#[derive(Debug, Clone, Copy)]
pub struct Lines;

impl Progress for Lines {
    fn start(&self, _total: u64) {}
    fn advance(&self, _steps: u64) {}

    fn note(&self, line: &str) {
        // A log that cannot be written is no reason to stop the work it is about.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    fn finish(&self) {}
}

/// A bar that moves, with notes above it.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let style =
            ProgressStyle::with_template("{elapsed:>4} {wide_bar} {percent:>3}% {human_pos} rows {per_sec}")
                .expect("the template is valid");
        Self(ProgressBar::no_length().with_style(style))
    }
}

impl Progress for Bar {
    fn start(&self, total: u64) {
        self.0.set_length(total);
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&self, steps: u64) {
        self.0.inc(steps);
    }

    fn note(&self, line: &str) {
        self.0.println(line);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
