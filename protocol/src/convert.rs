//! Between wire messages and the types of `base`. What comes from outside is checked here, once.

use firesteel_base::{AttemptKey, Class, ExecutorId, JobId, StageId, UserError};

use crate::v1;

/// A message that lacks a part or holds one that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {field}: {reason}")]
pub struct MalformedMessage {
    /// The field, as the `.proto` file names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl MalformedMessage {
    /// A fault of `field`.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

impl From<MalformedMessage> for tonic::Status {
    fn from(fault: MalformedMessage) -> Self {
        Self::invalid_argument(fault.to_string())
    }
}

/// The part that a message must have.
///
/// # Errors
/// When it is absent.
pub fn required<T>(part: Option<T>, field: &'static str) -> Result<T, MalformedMessage> {
    part.ok_or_else(|| MalformedMessage::new(field, "missing"))
}

impl From<AttemptKey> for v1::AttemptKey {
    fn from(key: AttemptKey) -> Self {
        Self { job: key.job().0, stage: key.stage().0, task: key.task.task, attempt: key.attempt }
    }
}

impl From<&v1::AttemptKey> for AttemptKey {
    fn from(key: &v1::AttemptKey) -> Self {
        Self::new(JobId(key.job), StageId(key.stage), key.task, key.attempt)
    }
}

impl From<&ExecutorId> for v1::ExecutorId {
    fn from(id: &ExecutorId) -> Self {
        Self { worker: id.worker.to_string(), index: id.index }
    }
}

impl TryFrom<&v1::ExecutorId> for ExecutorId {
    type Error = MalformedMessage;

    fn try_from(id: &v1::ExecutorId) -> Result<Self, MalformedMessage> {
        let worker = id
            .worker
            .parse()
            .map_err(|fault| MalformedMessage::new("ExecutorId.worker", format!("{fault}")))?;
        Ok(Self { worker, index: id.index })
    }
}

impl From<Class> for v1::ErrorClass {
    fn from(class: Class) -> Self {
        match class {
            Class::User => Self::User,
            Class::Transient => Self::Transient,
            Class::Fetch => Self::Fetch,
            Class::Resources => Self::Resources,
            Class::Cancelled => Self::Cancelled,
        }
    }
}

impl v1::Failure {
    /// The failure as the wire carries it.
    #[must_use]
    pub fn of(class: Class, error: UserError) -> Self {
        Self {
            class: v1::ErrorClass::from(class).into(),
            message: error.message,
            detail: error.detail,
            hint: error.hint,
            fetch: None,
        }
    }

    /// What may be done about it. A class this build does not know counts as passing.
    #[must_use]
    pub fn base_class(&self) -> Class {
        match self.class() {
            v1::ErrorClass::User => Class::User,
            v1::ErrorClass::Fetch => Class::Fetch,
            v1::ErrorClass::Resources => Class::Resources,
            v1::ErrorClass::Cancelled => Class::Cancelled,
            v1::ErrorClass::Transient | v1::ErrorClass::Unspecified => Class::Transient,
        }
    }

    /// The failure as it is told to a person.
    #[must_use]
    pub fn user_error(&self) -> UserError {
        UserError { message: self.message.clone(), detail: self.detail.clone(), hint: self.hint.clone() }
    }
}
