//! Why an attempt failed, and what may be done about it.

use std::error::Error;

use datafusion::error::DataFusionError;
use firesteel_base::{Class, UserError};
use firesteel_shuffle::fetch::FetchError;
use firesteel_shuffle::{BlockKey, Holder};

use crate::session::errors::classify;

/// A failed attempt. The driver acts on `class`; people read `error`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct TaskError {
    /// What may be done about it.
    pub class: Class,
    /// What happened, for people.
    pub error: UserError,
    /// The block that could not be read and who should have had it; set when `class` is [`Class::Fetch`].
    pub fetch: Option<(BlockKey, Holder)>,
}

impl TaskError {
    /// An error of that class without a block.
    #[must_use]
    pub fn new(class: Class, error: UserError) -> Self {
        Self { class, error, fetch: None }
    }
}

impl From<DataFusionError> for TaskError {
    fn from(fault: DataFusionError) -> Self {
        if let Some(fetch) = find_fetch_error(&fault) {
            return Self {
                class: fetch.class(),
                error: UserError::new(fetch.to_string()),
                fetch: Some((fetch.key, fetch.holder.clone())),
            };
        }
        let (class, error) = classify(&fault);
        Self::new(class, error)
    }
}

/// The fetch error that caused `fault`, however deep it is wrapped.
fn find_fetch_error(fault: &DataFusionError) -> Option<&FetchError> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(fault.find_root());
    while let Some(error) = cause {
        if let Some(fetch) = error.downcast_ref::<FetchError>() {
            return Some(fetch);
        }
        cause = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            _ => error.source(),
        };
    }
    None
}
