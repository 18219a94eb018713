//! What a session's processes use of their machines.

use std::time::Duration;

use firesteel_base::UserError;
use firesteel_certs::Security;
use firesteel_hw::usage::{self, ProcessUsage};
use firesteel_protocol::channel::{Server, connect_lazily, user_error};
use firesteel_protocol::v1;
use futures::future::try_join_all;
use tonic::transport::Channel;
use v1::executor_client::ExecutorClient;

use super::messages::Member;
use super::runtime::control_runtime;

/// How long an executor may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Reads what this process and the executors of a session use. Managers and workers, which run no queries, are not counted.
#[derive(Debug, Clone)]
pub struct Meter {
    /// Those in other processes.
    executors: Vec<Probe>,
}

#[derive(Debug, Clone)]
struct Probe {
    address: String,
    channel: Channel,
}

impl Meter {
    /// One for this process alone.
    pub(crate) fn of_this_process() -> Self {
        Self { executors: Vec::new() }
    }

    /// One for this process and the executors in others. They are connected to when they are asked: whoever wants to know what a
    /// query takes has it answered all the same when one of them stands still.
    pub(crate) async fn connect(members: Vec<Member>, security: &Security) -> Result<Self, UserError> {
        let security = security.clone();
        let probe = move |member: Member| Probe::new(member.address, &security);
        let executors = async move { members.into_iter().map(probe).collect::<Result<_, _>>() };
        Ok(Self { executors: on_control_runtime(executors).await? })
    }

    /// What all of them use now, the peak being that since it was last forgotten.
    ///
    /// # Errors
    /// When an executor does not answer.
    pub async fn read(&self) -> Result<ProcessUsage, UserError> {
        self.ask(false).await
    }

    /// The same, and from now on peaks count anew.
    ///
    /// # Errors
    /// When an executor does not answer.
    pub async fn read_and_forget_peak(&self) -> Result<ProcessUsage, UserError> {
        self.ask(true).await
    }

    async fn ask(&self, forget_peak: bool) -> Result<ProcessUsage, UserError> {
        let own = ProcessUsage::now();
        if forget_peak {
            usage::forget_peak();
        }
        if self.executors.is_empty() {
            return Ok(own);
        }
        let probes = self.executors.clone();
        let others = try_join_all(probes.into_iter().map(move |probe| probe.ask(forget_peak)));
        let others = on_control_runtime(others).await?;
        Ok(std::iter::once(own).chain(others).sum())
    }
}

impl Probe {
    /// Must be called on a runtime: what makes the connection waits there.
    fn new(address: String, security: &Security) -> Result<Self, UserError> {
        let channel = connect_lazily(security, Server::Executor, &address, TIMEOUT)?;
        Ok(Self { address, channel })
    }

    async fn ask(self, forget_peak: bool) -> Result<ProcessUsage, UserError> {
        let request = v1::StatusRequest { epoch: None, forget_peak };
        let mut client = ExecutorClient::new(self.channel);
        let reply = match tokio::time::timeout(TIMEOUT, client.status(request)).await {
            Ok(reply) => reply.map_err(|status| user_error("executor", &self.address, &status))?,
            Err(_) => {
                let late = format!("the executor at {} did not say in time what it uses", self.address);
                return Err(UserError::new(late));
            }
        };
        let reply = reply.into_inner();
        Ok(ProcessUsage {
            cpu: Duration::from_micros(reply.cpu_micros),
            resident_bytes: reply.resident_bytes,
            // Executors say it of nobody but themselves.
            anonymous_bytes: 0,
            peak_bytes: reply.peak_resident_bytes,
        })
    }
}

/// The caller may have no runtime, or one without timers.
async fn on_control_runtime<T: Send + 'static>(
    work: impl Future<Output = Result<T, UserError>> + Send + 'static,
) -> Result<T, UserError> {
    let done = control_runtime()?.spawn(work).await;
    done.unwrap_or_else(|fault| {
        Err(UserError::new("executors could not be asked what they use").detail(fault.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use firesteel_base::Epoch;

    use super::*;
    use crate::machine::Life;

    #[tokio::test]
    async fn an_executor_that_stands_still_is_told_when_it_is_asked_and_not_before() {
        // Its kernel takes the connection, and nobody ever reads from it.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let life = Life { executor: "a/e0".parse().unwrap(), epoch: Epoch(1) };
        let member = Member { life, slots: 1, address: silent.local_addr().unwrap().to_string() };
        let meter = Meter::connect(vec![member], &Security::default()).await.unwrap();
        let error = meter.read().await.unwrap_err();
        assert!(error.message.contains("did not say in time"), "{error}");
    }
}
