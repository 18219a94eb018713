//! How far a job has come: a live display on a terminal, a line now and then in a log.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firesteel_base::ByteSize;
use firesteel_protocol::v1;
use indicatif::{ProgressBar, ProgressStyle};

use super::text::{number, span};

/// A job that ends sooner than this shows no progress.
const QUIET_START: Duration = Duration::from_millis(400);
/// A job that runs longer than this has a line in a log, and another one each time as much has passed again.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Stages with a line of their own; the others are in the sums.
const STAGES_SHOWN_MAX: usize = 10;
const BAR_WIDTH: usize = 24;

/// How far a job has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name, once it has one.
    pub job: String,
    /// For how long it has had nothing running and waited for slots, when that is known.
    pub waiting: Option<Duration>,
    /// What it waits for, as the manager says; empty when it waits for nothing.
    pub waiting_for: String,
    /// Its stages that are known so far.
    pub stages: Vec<StageSnapshot>,
}

/// How far a stage has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageSnapshot {
    /// Its number.
    pub stage: u32,
    /// Tasks in all.
    pub tasks: u32,
    /// Of those, running.
    pub running: u32,
    /// Of those, done.
    pub done: u32,
    /// Attempts that failed and were or will be made again.
    pub failed: u32,
    /// Rows written.
    pub rows: u64,
    /// Bytes written.
    pub bytes: u64,
}

impl From<&v1::StageProgress> for StageSnapshot {
    fn from(stage: &v1::StageProgress) -> Self {
        Self {
            stage: stage.stage,
            tasks: stage.tasks,
            running: stage.running,
            done: stage.done,
            failed: stage.failed_attempts,
            rows: stage.rows,
            bytes: stage.bytes,
        }
    }
}

impl Snapshot {
    /// All on one line.
    fn line(&self, elapsed: Duration) -> String {
        let sum = |part: fn(&StageSnapshot) -> u64| self.stages.iter().map(part).sum::<u64>();
        let stages_done = self.stages.iter().filter(|stage| stage.done == stage.tasks).count();
        let mut line =
            format!("{}  {}", if self.job.is_empty() { "query" } else { &self.job }, span(elapsed));
        if self.stages.is_empty() && !self.waiting_for.is_empty() {
            line.push_str(&format!("  waiting for {}", self.waiting_for));
            return line;
        }
        if self.stages.is_empty() {
            line.push_str("  planning");
            return line;
        }
        line.push_str(&format!(
            "  stages {stages_done}/{}  tasks {}/{}",
            self.stages.len(),
            sum(|stage| stage.done.into()),
            sum(|stage| stage.tasks.into()),
        ));
        let (running, failed) = (sum(|stage| stage.running.into()), sum(|stage| stage.failed.into()));
        line.push_str(&format!(" ({running} running{})", failures(failed)));
        line.push_str(&format!(
            "  {} rows  {}",
            number(sum(|stage| stage.rows)),
            ByteSize(sum(|stage| stage.bytes))
        ));
        if let Some(waiting) = self.waiting {
            line.push_str(&format!("  waiting for slots for {}", span(waiting)));
        }
        line
    }

    /// The line of all, and one for each stage that is under way.
    fn screen(&self, elapsed: Duration) -> String {
        let mut text = self.line(elapsed);
        let under_way =
            self.stages.iter().filter(|stage| stage.done < stage.tasks && stage.running + stage.done > 0);
        for stage in under_way.take(STAGES_SHOWN_MAX) {
            text.push_str(&format!(
                "\n  {:<4} {} {}/{}{}  {} rows  {}",
                format!("s{}", stage.stage),
                bar(stage.done, stage.tasks),
                stage.done,
                stage.tasks,
                failures(stage.failed.into()),
                number(stage.rows),
                ByteSize(stage.bytes)
            ));
        }
        text
    }
}

fn failures(count: u64) -> String {
    if count == 0 { String::new() } else { format!(", {count} failed") }
}

fn bar(done: u32, of: u32) -> String {
    let filled = (u64::from(done) * BAR_WIDTH as u64).checked_div(of.into()).unwrap_or(0);
    let filled = usize::try_from(filled).unwrap_or(BAR_WIDTH).min(BAR_WIDTH);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR_WIDTH - filled))
}

/// Where progress is shown. Clones show on the same place.
#[derive(Debug, Clone)]
pub struct Display {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    started: Instant,
    hidden: AtomicBool,
    bar: Option<ProgressBar>,
    lines: bool,
    next_line: std::sync::Mutex<Duration>,
}

impl Display {
    /// A display for one job that starts now.
    pub fn start(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (!quiet && terminal).then(|| {
            let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
            ProgressBar::new_spinner().with_style(style)
        });
        Self {
            inner: Arc::new(Inner {
                started: Instant::now(),
                hidden: AtomicBool::new(false),
                bar,
                lines: !quiet && !terminal,
                next_line: std::sync::Mutex::new(LINE_INTERVAL),
            }),
        }
    }

    /// The time since the job started.
    pub fn elapsed(&self) -> Duration {
        self.inner.started.elapsed()
    }

    /// Shows how far it has come.
    pub fn show(&self, snapshot: &Snapshot) {
        let elapsed = self.elapsed();
        if self.inner.hidden.load(Ordering::Relaxed) || elapsed < QUIET_START {
            return;
        }
        if let Some(bar) = &self.inner.bar {
            bar.set_message(snapshot.screen(elapsed));
        }
        if self.inner.lines && self.line_is_due(elapsed) {
            eprintln!("{}", snapshot.line(elapsed));
        }
    }

    fn line_is_due(&self, elapsed: Duration) -> bool {
        let mut next = self.inner.next_line.lock().expect("nothing panics with this lock held");
        let due = elapsed >= *next;
        if due {
            *next = elapsed + LINE_INTERVAL;
        }
        due
    }

    /// Takes the display off the screen, for good.
    pub fn hide(&self) {
        if !self.inner.hidden.swap(true, Ordering::Relaxed)
            && let Some(bar) = &self.inner.bar
        {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_sums_and_a_screen_has_the_stages_under_way() {
        let stage = |stage, running, done| StageSnapshot {
            stage,
            tasks: 8,
            running,
            done,
            failed: u32::from(stage == 1),
            rows: 1000,
            bytes: 1 << 20,
        };
        let snapshot = Snapshot {
            job: "job7".to_owned(),
            waiting: None,
            waiting_for: String::new(),
            stages: vec![stage(0, 0, 8), stage(1, 2, 2), stage(2, 0, 0)],
        };
        let line = "job7  12.0s  stages 1/3  tasks 10/24 (2 running, 1 failed)  3,000 rows  3MiB";
        assert_eq!(snapshot.line(Duration::from_secs(12)), line);
        let expected = format!("{line}\n  s1   [######------------------] 2/8, 1 failed  1,000 rows  1MiB");
        assert_eq!(snapshot.screen(Duration::from_secs(12)), expected);
        assert_eq!(Snapshot::default().line(Duration::from_secs(1)), "query  1.0s  planning");
        let queued = Snapshot { waiting_for: "a place".to_owned(), ..Snapshot::default() };
        assert_eq!(queued.line(Duration::from_secs(1)), "query  1.0s  waiting for a place");
    }
}
