//! Where wire messages come in and go out.

pub(crate) mod executor_client;
mod executor_service;
pub(crate) mod manager_link;
mod session;
pub(crate) mod worker_service;

pub use executor_service::serve;
pub use session::Inbound;
