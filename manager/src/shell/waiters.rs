//! Callers that wait for jobs to end.

use firesteel_base::JobId;
use firesteel_protocol::v1;
use tokio::sync::oneshot;
use tonic::Status;
use tracing::info;

use super::outbound;
use super::run::Runner;
use crate::machine::message::Refusal;

impl Runner {
    pub(super) fn wait(&mut self, id: JobId, ended: oneshot::Sender<Result<v1::JobInfo, Status>>) {
        let waiting: usize = self.waiters.values().map(Vec::len).sum();
        let answer = match self.machine.job(id) {
            None => Err(outbound::status(&Refusal::UnknownJob(id))),
            Some(job) if job.ended.is_some() => Ok(self.view().job_info(job)),
            Some(_) if waiting < self.waiters_max => return self.waiters.entry(id).or_default().push(ended),
            Some(_) => Err(outbound::status(&Refusal::TooMany {
                what: "waiting callers",
                limit: self.waiters_max,
                hint: None,
            })),
        };
        // The caller may have gone.
        let _ = ended.send(answer);
    }

    pub(super) fn wake(&mut self, id: JobId) {
        let Some(job) = self.machine.job(id) else { return };
        info!(job = %id, state = ?job.state(), "job ended");
        for waiter in self.waiters.remove(&id).unwrap_or_default() {
            let info = self.machine.job(id).map(|job| self.view().job_info(job));
            // The caller may have gone.
            let _ = waiter.send(info.ok_or_else(|| outbound::status(&Refusal::UnknownJob(id))));
        }
    }

    pub(super) fn forget_waiters(&mut self) {
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
    }
}
