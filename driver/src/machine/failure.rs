//! What went wrong with an attempt, and how a job's last failure is told.

use firesteel_base::{AttemptKey, Class, ExecutorId, TaskKey, UserError};

use super::Life;

/// What went wrong with an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFailure {
    /// What may be done about it.
    pub class: Class,
    /// What is told to a person.
    pub error: UserError,
    /// The block that could not be read, when the class is [`Class::Fetch`].
    pub lost: Option<LostBlock>,
}

/// A committed block that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBlock {
    /// The attempt that wrote it.
    pub producer: AttemptKey,
    /// Who held it.
    pub life: Life,
}

/// One attempt that came to nothing, as the last error names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mishap {
    pub attempt: u32,
    pub executor: ExecutorId,
    pub error: UserError,
}

/// Mishaps named in an error, the latest ones; the others are counted.
const MISHAPS_NAMED_MAX: usize = 6;

/// The error of a job whose `task` was tried too often: the latest cause, then every attempt and where it ran.
pub(super) fn gave_up(task: TaskKey, what: &str, mishaps: &[Mishap]) -> UserError {
    let cause = mishaps.last().map_or_else(|| UserError::new("no cause was reported"), |m| m.error.clone());
    let left_out = mishaps.len().saturating_sub(MISHAPS_NAMED_MAX);
    let mut lines = vec![format!("task {task} {what} {} times, and is not tried again", mishaps.len())];
    if left_out > 0 {
        lines.push(format!("{left_out} earlier ones not shown"));
    }
    lines.extend(
        mishaps
            .iter()
            .skip(left_out)
            .map(|m| format!("a{} on {}: {}", m.attempt, m.executor, one_line(&m.error))),
    );
    if let Some(detail) = &cause.detail {
        lines.push(format!("cause: {detail}"));
    }
    UserError { message: cause.message, detail: Some(lines.join("\n          ")), hint: cause.hint }
}

fn one_line(error: &UserError) -> String {
    error.message.lines().next().unwrap_or_default().to_owned()
}
