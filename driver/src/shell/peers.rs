//! Whom a session talks to: by function call inside this process, or over gRPC.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use firesteel_base::{AttemptKey, ExecutorId, UserError};
use firesteel_certs::Security;
use firesteel_executor::Executor;
use firesteel_manager::Manager;
use firesteel_protocol::channel::{self, PLAN_BYTES_MAX, Server};
use firesteel_protocol::managers::Managers;
use firesteel_protocol::token::{Credential, manager_caller};
use firesteel_protocol::v1;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use uuid::Uuid;

use super::outgoing::Messages;

/// How long of several managers one that leads is looked for at a time.
const FIND_MAX: Duration = Duration::from_secs(5);

/// Where the manager is.
#[derive(Debug, Clone)]
pub(crate) enum ManagerAt {
    /// In this process.
    Here(Arc<Manager>),
    /// The one that leads of those at some addresses, and what it is shown.
    At(Managers, Credential),
}

/// Where the manager and the executors are.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    /// The manager.
    pub manager: ManagerAt,
    /// Executors in this process; all others are reached at the address that the manager tells.
    pub executors: BTreeMap<ExecutorId, Arc<Executor>>,
    /// How they are talked to.
    pub security: Security,
    /// Random, of this session's driver alone: a manager gives its jobs back to nobody else.
    pub incarnation: Uuid,
    /// The how manyth launch of a submitted job's driver it is; 0 for others.
    pub launch: u32,
    /// The latest run of a manager that was heard.
    latest_run: Arc<AtomicU64>,
}

/// What a peer says, until it or the connection ends.
pub(super) type Incoming<M> = BoxStream<'static, Result<M, String>>;

impl Peers {
    /// Those of one driver.
    pub fn new(manager: ManagerAt, executors: impl IntoIterator<Item = Arc<Executor>>) -> Self {
        let executors = executors.into_iter().map(|executor| (executor.id().clone(), executor)).collect();
        let (security, incarnation) = (Security::default(), Uuid::new_v4());
        Self { manager, executors, security, incarnation, launch: 0, latest_run: Arc::default() }
    }

    /// Those of the driver of a submitted job in that launch.
    pub fn launched(self, launch: u32) -> Self {
        Self { launch, ..self }
    }

    /// Those that are talked to so.
    pub fn secured(self, security: Security) -> Self {
        Self { security, ..self }
    }

    /// The number of the first attempt of each task of this driver.
    pub fn first_attempt(&self) -> u32 {
        AttemptKey::first_of_driver(self.incarnation.as_u128())
    }

    /// Whether a manager's run is the latest that was heard. Of several one that has been replaced may not know it yet.
    pub(super) fn is_latest(&self, run: u64) -> bool {
        let latest = self.latest_run.fetch_max(run, Ordering::Relaxed);
        run >= latest || !matches!(&self.manager, ManagerAt::At(managers, _) if managers.are_several())
    }

    /// Opens a session with the manager. The greeting must be waiting in `outgoing`.
    pub(super) async fn open_manager(
        &self,
        outgoing: Messages<v1::DriverToManager>,
    ) -> Result<Incoming<v1::ManagerToDriver>, UserError> {
        match &self.manager {
            ManagerAt::Here(manager) => {
                let incoming =
                    manager.driver_session(outgoing.boxed()).await.map_err(|status| refused(&status))?;
                Ok(incoming.map(Ok).boxed())
            }
            ManagerAt::At(managers, credential) => {
                let (address, channel) = managers.connect(FIND_MAX).await?;
                let mut client = manager_caller(channel, credential.clone());
                let told = |status: Status| {
                    managers.learn(&status);
                    channel::user_error("manager", &address, &status)
                };
                let incoming = client.driver_session(outgoing).await.map_err(told)?.into_inner();
                Ok(incoming.map(|message| message.map_err(|status| status.message().to_owned())).boxed())
            }
        }
    }

    /// Attaches to an executor. The greeting must be waiting in `outgoing`.
    pub(super) async fn open_executor(
        &self,
        executor: &v1::ExecutorRef,
        id: &ExecutorId,
        outgoing: Messages<v1::DriverToExecutor>,
    ) -> Result<Incoming<v1::ExecutorToDriver>, UserError> {
        if let Some(here) = self.executors.get(id) {
            let incoming = here.attach(outgoing.boxed()).await.map_err(|status| refused(&status))?;
            return Ok(ReceiverStream::new(incoming).map(Ok).boxed());
        }
        let address = &executor.control_address;
        let channel = channel::connect(&self.security, Server::Executor, address).await?;
        let mut client = v1::executor_client::ExecutorClient::new(channel)
            .max_decoding_message_size(PLAN_BYTES_MAX)
            .max_encoding_message_size(PLAN_BYTES_MAX);
        let told = |status: Status| channel::user_error("executor", address, &status);
        let incoming = client.attach(outgoing).await.map_err(told)?.into_inner();
        Ok(incoming.map(|message| message.map_err(|status| status.message().to_owned())).boxed())
    }
}

fn refused(status: &Status) -> UserError {
    UserError::new(status.message())
}
