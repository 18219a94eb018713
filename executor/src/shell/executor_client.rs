//! A worker's view of one of its executors.

use std::time::Duration;

use firesteel_base::{Epoch, UserError};
use firesteel_certs::Security;
use firesteel_protocol::channel::{Server, connect, user_error};
use firesteel_protocol::v1;
use tonic::transport::Channel;
use v1::executor_client::ExecutorClient;

/// Asks an executor how it is. Connects when first asked, and again after a fault.
#[derive(Debug)]
pub(crate) struct StatusProbe {
    address: String,
    security: Security,
    channel: Option<Channel>,
}

impl StatusProbe {
    pub(crate) fn new(address: String, security: Security) -> Self {
        Self { address, security, channel: None }
    }

    /// The executor's status; tells it its epoch on the way.
    pub(crate) async fn ask(
        &mut self,
        epoch: Option<Epoch>,
        timeout: Duration,
    ) -> Result<v1::StatusReply, UserError> {
        let answer = tokio::time::timeout(timeout, self.try_ask(epoch)).await.unwrap_or_else(|_| {
            Err(UserError::new(format!("the executor at {} did not answer in time", self.address)))
        });
        if answer.is_err() {
            self.channel = None;
        }
        answer
    }

    async fn try_ask(&mut self, epoch: Option<Epoch>) -> Result<v1::StatusReply, UserError> {
        let channel = match &self.channel {
            Some(channel) => channel.clone(),
            None => {
                let channel = connect(&self.security, Server::Executor, &self.address).await?;
                self.channel.insert(channel).clone()
            }
        };
        let request = v1::StatusRequest { epoch: epoch.map(|epoch| epoch.0), forget_peak: false };
        let reply = ExecutorClient::new(channel).status(request).await;
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| user_error("executor", &self.address, &status))
    }
}
