//! The way to a peer of this host: its socket, over which it says where frames lie.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::mapped::Mapped;
use super::pool::Pool;
use super::shared::SharedConnection;
use crate::transport::{Asked, FrameMemory, Limits, Path, Received, SocketName, StepError, Transfer};
use crate::wire::{Request, Status};

/// The way to one peer that shares memory.
#[derive(Debug, Clone)]
pub(super) struct SharedPath {
    pub pool: Arc<Pool>,
    pub mapped: Arc<Mapped>,
    pub address: String,
    pub name: SocketName,
    pub limits: Limits,
    pub memory: FrameMemory,
}

impl SharedPath {
    async fn open_and_ask(&self, request: &Request) -> Result<Asked, StepError> {
        if let Some(idle) = self.pool.take(&self.address) {
            match self.ask_over(idle, request).await {
                // The peer may have closed it while it lay idle, and the others with it.
                Err(StepError::Broken(_)) => self.pool.forget(&self.address),
                asked => return asked,
            }
        }
        let opened = SharedConnection::open(&self.name, &self.mapped, self.limits.connect).await;
        let connection = opened.map_err(|error| match error {
            StepError::Broken(reason) => StepError::Nobody(reason),
            other => other,
        })?;
        self.ask_over(connection, request).await
    }

    async fn ask_over(
        &self,
        mut connection: SharedConnection,
        request: &Request,
    ) -> Result<Asked, StepError> {
        let reply = connection.ask(request, self.limits.io).await?;
        if reply.status != Status::Ok {
            self.pool.put(&self.address, connection);
            return Ok(Asked::Refused(reply.status));
        }
        let (path, frames) = (self.clone(), reply.frames);
        let mut transfer = SharedTransfer { path, connection: Some(connection), frames, missing: frames };
        transfer.end_if_whole();
        Ok(Asked::Coming(Box::new(transfer)))
    }
}

impl Path for SharedPath {
    fn ask<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Asked, StepError>> {
        self.open_and_ask(request).boxed()
    }
}

/// The frames of one reply. Dropped before all have come, it ends its connection.
#[derive(Debug)]
struct SharedTransfer {
    path: SharedPath,
    connection: Option<SharedConnection>,
    frames: u32,
    missing: u32,
}

impl SharedTransfer {
    async fn frame(&mut self) -> Result<Received, StepError> {
        let connection = self.connection.as_mut();
        let connection = connection.ok_or_else(|| StepError::Broken("the transfer has ended".to_owned()))?;
        let frame = connection.frame(&self.path.memory, self.path.limits.io).await?;
        self.missing -= 1;
        self.end_if_whole();
        Ok(frame)
    }

    /// Lets others use the connection once all has come.
    fn end_if_whole(&mut self) {
        if self.missing == 0
            && let Some(mut connection) = self.connection.take()
            && connection.end_reply()
        {
            self.path.pool.put(&self.path.address, connection);
        }
    }
}

impl Transfer for SharedTransfer {
    fn frames(&self) -> u32 {
        self.frames
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Received, StepError>> {
        self.frame().boxed()
    }

    fn distrust(&mut self) {
        self.connection = None;
    }
}
