//! What clients ask of draining.

use std::time::Duration;

use firesteel_base::WorkerId;
use firesteel_protocol::v1;
use tonic::Status;

use super::{Manager, check_client, inbound, outbound};
use crate::machine::message::{Answer, ClientRequest, Refusal};
use crate::machine::rights::Rights;

impl Manager {
    /// Has a worker drained by somebody who may do so much, and answers with it as it is then.
    ///
    /// # Errors
    /// When that may not be, there is no such worker, it cannot be told, or it is the last and this was not forced.
    pub async fn drain_node(
        &self,
        rights: Rights,
        request: v1::DrainNodeRequest,
    ) -> Result<v1::NodeInfo, Status> {
        check_client(request.wire_version)?;
        let worker = inbound::worker_id(&request.worker, "DrainNodeRequest.worker")?;
        let deadline = request.deadline_ms.map(Duration::from_millis);
        self.about_node(rights, ClientRequest::Drain { worker, deadline, force: request.force }).await
    }

    /// Has a worker that is drained stay after all for somebody who may do so much, and answers with it as it is then.
    ///
    /// # Errors
    /// When that may not be, there is no such worker, it cannot be told, is not drained, or was told to leave.
    pub async fn undrain_node(
        &self,
        rights: Rights,
        request: v1::UndrainNodeRequest,
    ) -> Result<v1::NodeInfo, Status> {
        check_client(request.wire_version)?;
        let worker = inbound::worker_id(&request.worker, "UndrainNodeRequest.worker")?;
        self.about_node(rights, ClientRequest::Undrain { worker }).await
    }

    async fn about_node(&self, rights: Rights, request: ClientRequest) -> Result<v1::NodeInfo, Status> {
        match self.request(rights, request).await? {
            Answer::Worker(worker) => self.node_info(worker).await,
            Answer::Job(_) => unreachable!("a request about a worker is answered with it"),
        }
    }

    async fn node_info(&self, worker: WorkerId) -> Result<v1::NodeInfo, Status> {
        let asked = worker.clone();
        let node = self.look(move |view| {
            let node = view.machine.nodes().get(&asked);
            node.map(|node| outbound::node_info(view.machine, node, view.now))
        });
        let gone = || outbound::status(&Refusal::UnknownWorker { worker, known: Vec::new() });
        node.await?.ok_or_else(gone)
    }
}
