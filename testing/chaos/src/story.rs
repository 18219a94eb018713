//! What happens, told as it happens: a line on standard output each, or an object, and progress on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

/// How a story is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A line for people.
    Lines,
    /// An object a line.
    Json,
    /// Not at all.
    Silent,
}

/// What is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The run itself.
    Run,
    /// A fault began or ended.
    Fault,
    /// A query ended.
    Query,
    /// A promise was not kept.
    Breach,
}

impl About {
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Fault => "fault",
            Self::Query => "query",
            Self::Breach => "BREACH",
        }
    }
}

/// The teller; its clock is the run's.
#[derive(Debug)]
pub struct Story {
    tone: Tone,
    begun: Mutex<Instant>,
    /// How often progress was shown, so that a terminal's line is cleared before another.
    shown: AtomicU64,
}

impl Story {
    /// One that begins now.
    #[must_use]
    pub fn begin(tone: Tone) -> Self {
        Self { tone, begun: Mutex::new(Instant::now()), shown: AtomicU64::new(0) }
    }

    /// How long the run has lasted.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begun().elapsed()
    }

    /// Has the clock begin again: faults are counted from when the cluster is up.
    pub fn restart(&self) {
        *self.begun() = Instant::now();
    }

    fn begun(&self) -> MutexGuard<'_, Instant> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells something.
    pub fn tell(&self, about: About, what: impl fmt::Display) {
        let at = self.now();
        let line = match self.tone {
            Tone::Silent => return,
            Tone::Json => {
                json!({"at_ms": millis(at), "about": about.name(), "what": what.to_string()}).to_string()
            }
            Tone::Lines => format!("{:>9.3} {:<6} {what}", at.as_secs_f64(), about.name()),
        };
        self.clear();
        // Who does not listen any more ends the run by a signal.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// Shows how far the run is, on a terminal in place of what was shown before.
    pub fn progress(&self, what: impl fmt::Display) {
        if self.tone != Tone::Lines {
            return;
        }
        self.clear();
        self.shown.fetch_add(1, Ordering::Relaxed);
        let end = if io::stderr().is_terminal() { "" } else { "\n" };
        let _ = write!(io::stderr().lock(), "{what}{end}");
    }

    fn clear(&self) {
        if self.shown.load(Ordering::Relaxed) > 0 && io::stderr().is_terminal() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// Milliseconds, as the log and the summary have them.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
