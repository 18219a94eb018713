//! A client's view of a cluster: the manager's calls about jobs and nodes, and a worker's about results.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use firesteel_base::{JobId, UserError, version};
use firesteel_certs::Security;
use firesteel_protocol::channel::{self, Response, Status};
use firesteel_protocol::managers::Managers;
use firesteel_protocol::token::{Credential, ManagerCaller, manager_caller};
use firesteel_protocol::v1::worker_client::WorkerClient;
use firesteel_protocol::v1::{
    CancelJobRequest, DrainNodeRequest, FetchResultRequest, JobInfo, JobState, ListJobsRequest,
    ListNodesReply, ListNodesRequest, NodeInfo, ShowJobRequest, SubmitRequest, UndrainNodeRequest,
    WaitJobRequest,
};
use futures::{Stream, StreamExt, stream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::context::Client;
use crate::exit::Failure;
use crate::output::results::Rows;
use crate::output::text::unix_ms_now;

/// The version that requests are in: what they ask has not changed since, so the release before answers them too.
const REQUEST_WIRE: u32 = version::WIRE_OLDEST;

/// How long a manager that is away is waited for by who waits for a job.
const AWAY_MAX: Duration = Duration::from_secs(60);
const AWAY_PAUSE: Duration = Duration::from_millis(300);
/// How long an answer may take, and how long a worker may take for the next piece of a result. Who is away is noticed sooner; who has
/// not answered by then stands still, because its disk does, say.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long of several managers one that leads is looked for.
const FIND_MAX: Duration = Duration::from_secs(10);
/// How long a question is asked again while the managers change places.
const CHANGE_MAX: Duration = Duration::from_secs(20);

/// The managers of a cluster, and the way to the one that leads.
#[derive(Debug)]
pub struct Cluster {
    managers: Managers,
    queue: String,
    credential: Credential,
    leader: Mutex<Leader>,
}

#[derive(Debug, Clone)]
struct Leader {
    address: String,
    client: ManagerCaller,
}

/// Whether a question may be asked again whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It changes nothing, or nothing more when it is asked twice.
    Always,
    /// Only if it was not taken.
    Untaken,
}

impl Cluster {
    /// Connects to the manager that leads.
    pub async fn connect(client: &Client) -> Result<Self, Failure> {
        let managers = client.managers();
        let leader = find(&managers, &client.credential, FIND_MAX).await;
        // Who names several knows how.
        let leader = if managers.are_several() { leader } else { leader.map_err(with_hint) }?;
        let Client { queue, credential, .. } = client.clone();
        Ok(Self { managers, queue, credential, leader: Mutex::new(leader) })
    }

    /// Asks the manager that leads. Of several another one is asked when that one does not lead any more, or is gone.
    async fn ask<T>(
        &self,
        again: Again,
        question: impl AsyncFn(ManagerCaller) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.ask_told(again, question, failure).await
    }

    /// The same, with refusals told by `tell`, which has the manager's address.
    async fn ask_told<T>(
        &self,
        again: Again,
        question: impl AsyncFn(ManagerCaller) -> Result<Response<T>, Status>,
        tell: fn(&str, &Status) -> Failure,
    ) -> Result<T, Failure> {
        let since = Instant::now();
        loop {
            let leader = self.leader.lock().await.clone();
            let status = match answered(ANSWER_MAX, question(leader.client)).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            let is_untaken = self.managers.learn(&status);
            let may_ask = is_untaken || (again == Again::Always && channel::is_away(&status));
            if !may_ask || !self.managers.are_several() || since.elapsed() >= CHANGE_MAX {
                return Err(tell(&leader.address, &status));
            }
            *self.leader.lock().await = find(&self.managers, &self.credential, FIND_MAX).await?;
        }
    }

    /// Hands a job to the cluster, which runs its driver.
    pub async fn submit(
        &self,
        name: &str,
        sql: &str,
        conf: impl IntoIterator<Item = (String, String)>,
    ) -> Result<JobId, Failure> {
        let request = SubmitRequest {
            wire_version: REQUEST_WIRE,
            name: name.to_owned(),
            sql: sql.to_owned(),
            conf: conf.into_iter().collect(),
            user: user(),
            queue: self.queue.clone(),
            weight: 1,
        };
        let submit = async |mut manager: ManagerCaller| manager.submit(request.clone()).await;
        Ok(JobId(self.ask(Again::Untaken, submit).await?.job))
    }

    /// The jobs that run or wait; with `all`, those that have ended as well.
    pub async fn jobs(&self, all: bool) -> Result<Vec<JobInfo>, Failure> {
        let request = ListJobsRequest { wire_version: REQUEST_WIRE, all };
        let list = async |mut manager: ManagerCaller| manager.list_jobs(request).await;
        Ok(self.ask(Again::Always, list).await?.jobs)
    }

    /// One job.
    pub async fn job(&self, job: JobId) -> Result<JobInfo, Failure> {
        let request = ShowJobRequest { wire_version: REQUEST_WIRE, job: job.0 };
        let show = async |mut manager: ManagerCaller| manager.show_job(request).await;
        self.ask(Again::Always, show).await
    }

    /// The job when it has ended, or as it is when `wait` has passed. A manager that is away is waited for: the job goes on
    /// without it.
    pub async fn wait(&self, job: JobId, wait: Duration) -> Result<JobInfo, Failure> {
        let max_wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = WaitJobRequest { wire_version: REQUEST_WIRE, job: job.0, max_wait_ms };
        let ended = async |mut manager: ManagerCaller| manager.wait_job(request).await;
        self.in_time(wait.saturating_add(ANSWER_MAX), ended).await
    }

    /// The nodes. A manager that is away is waited for: what it was asked to do goes on without it.
    pub async fn nodes_in_time(&self) -> Result<ListNodesReply, Failure> {
        let request = ListNodesRequest { wire_version: REQUEST_WIRE };
        let list = async |mut manager: ManagerCaller| manager.list_nodes(request).await;
        self.in_time(ANSWER_MAX, list).await
    }

    /// What the manager answers within `limit`, as soon as one that is away is back.
    async fn in_time<T>(
        &self,
        limit: Duration,
        question: impl AsyncFn(ManagerCaller) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut away_since: Option<Instant> = None;
        loop {
            let leader = self.leader.lock().await.clone();
            let status = match answered(limit, question(leader.client.clone())).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            self.managers.learn(&status);
            if !channel::is_away(&status) {
                return Err(failure(&leader.address, &status));
            }
            let since = *away_since.get_or_insert_with(|| {
                tracing::warn!(fault = status.message(), "the manager is away; waiting for it");
                Instant::now()
            });
            if since.elapsed() >= AWAY_MAX {
                return Err(failure(&leader.address, &status));
            }
            tokio::time::sleep(AWAY_PAUSE).await;
            // One that is alone is connected to again by itself.
            if self.managers.are_several()
                && let Ok(leader) = find(&self.managers, &self.credential, FIND_MAX).await
            {
                *self.leader.lock().await = leader;
            }
        }
    }

    /// Cancels a job.
    pub async fn cancel(&self, job: JobId) -> Result<JobInfo, Failure> {
        let request = CancelJobRequest { wire_version: REQUEST_WIRE, job: job.0 };
        let cancel = async |mut manager: ManagerCaller| manager.cancel_job(request).await;
        self.ask(Again::Always, cancel).await
    }

    /// Has a worker drained; the node as it is then. Without a deadline it waits for as long as it takes.
    pub async fn drain(
        &self,
        worker: &str,
        deadline: Option<Duration>,
        force: bool,
    ) -> Result<NodeInfo, Failure> {
        let deadline_ms = deadline.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let (wire_version, worker) = (version::WIRE_DRAIN, worker.to_owned());
        let request = DrainNodeRequest { wire_version, worker, deadline_ms, force };
        let drain = async |mut manager: ManagerCaller| manager.drain_node(request.clone()).await;
        self.ask_told(Again::Always, drain, refused_drain).await
    }

    /// Has a worker that is drained stay after all.
    pub async fn undrain(&self, worker: &str) -> Result<NodeInfo, Failure> {
        let request = UndrainNodeRequest { wire_version: version::WIRE_DRAIN, worker: worker.to_owned() };
        let undrain = async |mut manager: ManagerCaller| manager.undrain_node(request.clone()).await;
        self.ask_told(Again::Always, undrain, refused_drain).await
    }

    /// The address of the manager that was asked last.
    pub async fn manager(&self) -> String {
        self.leader.lock().await.address.clone()
    }

    /// How its managers and workers are talked to.
    pub fn security(&self) -> &Security {
        self.managers.security()
    }

    /// The nodes.
    pub async fn nodes(&self) -> Result<ListNodesReply, Failure> {
        let request = ListNodesRequest { wire_version: REQUEST_WIRE };
        let list = async |mut manager: ManagerCaller| manager.list_nodes(request).await;
        self.ask(Again::Always, list).await
    }
}

/// What is answered, unless that takes too long.
async fn answered<T>(
    limit: Duration,
    question: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded(format!("there was no answer within {} s", limit.as_secs()));
    timeout(limit, question).await.map_err(late)?.map(Response::into_inner)
}

async fn find(managers: &Managers, credential: &Credential, patience: Duration) -> Result<Leader, Failure> {
    let (address, channel) = managers.connect(patience).await.map_err(Failure::cluster)?;
    Ok(Leader { address, client: manager_caller(channel, credential.clone()) })
}

fn with_hint(failure: Failure) -> Failure {
    let also = "give the manager with --manager HOST:PORT or FIRESTEEL_MANAGER, or start one with \
                `firesteel local-cluster`";
    let error = failure.told();
    let hint = error.hint.as_ref().map_or_else(|| also.to_owned(), |hint| format!("{hint} {also}"));
    Failure::new(failure.exit, error.hint(hint))
}

/// A refusal as what it is.
fn failure(address: &str, status: &Status) -> Failure {
    let error = channel::user_error("manager", address, status);
    if channel::is_unreachable(status) { Failure::cluster(error) } else { Failure::from(error) }
}

fn refused_drain(address: &str, status: &Status) -> Failure {
    if channel::is_unknown_call(status) {
        let error = UserError::new(format!("the manager at {address} cannot drain workers"));
        return Failure::cluster(error.hint("it is of an earlier release: upgrade it first"));
    }
    let failure = failure(address, status);
    match failure.error {
        Some(error) if channel::is_refused_for_now(status) => {
            let hint = "--force drains it all the same";
            Failure::new(failure.exit, error.hint(hint))
        }
        error => Failure { exit: failure.exit, error },
    }
}

/// Whether the job has ended.
pub fn has_ended(job: &JobInfo) -> bool {
    matches!(job.state(), JobState::Succeeded | JobState::Failed | JobState::Cancelled)
}

/// The result of an ended cluster-mode job, from the worker that keeps it.
pub async fn fetch_result(job: &JobInfo, security: &Security) -> Result<Rows, Failure> {
    let id = JobId(job.job);
    if job.result_address.is_empty() {
        return Err(no_result(id, job).into());
    }
    let address = job.result_address.clone();
    let channel =
        channel::connect(security, channel::Server::Worker, &address).await.map_err(Failure::cluster)?;
    let mut worker = WorkerClient::new(channel).max_decoding_message_size(channel::RESULT_BYTES_MAX);
    let request =
        FetchResultRequest { wire_version: REQUEST_WIRE, job: id.0, ticket: job.result_ticket.clone() };
    let chunks = loop {
        match answered(ANSWER_MAX, worker.fetch_result(request.clone())).await {
            Ok(chunks) => break chunks,
            // The job has ended for the manager a moment before its driver's process has, and its worker keeps the
            // result only then.
            Err(status) if channel::is_not_found(&status) && ended_just_now(job) => {
                tokio::time::sleep(RESULT_POLL).await;
            }
            Err(status) => return Err(channel::user_error("worker", &address, &status).into()),
        }
    };
    let chunks = chunks.map(move |chunk| {
        chunk
            .map(|chunk| Buffer::from(chunk.data))
            .map_err(|status| Failure::from(channel::user_error("worker", &address, &status)))
    });
    decode(chunks).await
}

/// How long after its job's end a result may still be on its way into the worker's keeping.
const RESULT_LATE_MAX: Duration = Duration::from_secs(5);
const RESULT_POLL: Duration = Duration::from_millis(20);

fn ended_just_now(job: &JobInfo) -> bool {
    let age = unix_ms_now().saturating_sub(job.ended_unix_ms);
    Duration::from_millis(age) < RESULT_LATE_MAX
}

fn no_result(id: JobId, job: &JobInfo) -> UserError {
    let error = UserError::new(format!("{id} has no result to fetch"));
    match job.state() {
        JobState::Queued | JobState::Running => {
            error.detail("it has not ended yet").hint(format!("wait for it with `firesteel jobs wait {id}`"))
        }
        JobState::Succeeded if !job.cluster_mode => error
            .detail("its driver was in the client, which had the result")
            .hint("submit with --deploy-mode cluster to have the cluster keep the result"),
        JobState::Succeeded => error.detail("the worker that kept it has dropped it, or is gone"),
        _ => error.detail("it did not succeed").hint(format!("`firesteel jobs show {id}` says why")),
    }
}

/// Decodes an Arrow IPC stream that comes in chunks cut anywhere.
async fn decode(
    chunks: impl Stream<Item = Result<Buffer, Failure>> + Send + 'static,
) -> Result<Rows, Failure> {
    let mut reader =
        Reader { chunks: chunks.boxed(), decoder: StreamDecoder::new(), rest: Buffer::default() };
    let first = reader.next().await?;
    let schema = reader.decoder.schema().ok_or_else(|| truncated(None))?;
    let head = stream::iter(first.map(Ok));
    let tail = stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, Failure>(reader.next().await?.map(|batch| (batch, reader)))
    });
    Ok(Rows::new(schema, head.chain(tail)))
}

struct Reader {
    chunks: stream::BoxStream<'static, Result<Buffer, Failure>>,
    decoder: StreamDecoder,
    rest: Buffer,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if let Some(batch) =
                self.decoder.decode(&mut self.rest).map_err(|fault| truncated(Some(&fault)))?
            {
                return Ok(Some(batch));
            }
            match timeout(ANSWER_MAX, self.chunks.next()).await.map_err(|_| late())?.transpose()? {
                Some(chunk) => self.rest = chunk,
                None => {
                    self.decoder.finish().map_err(|fault| truncated(Some(&fault)))?;
                    return Ok(None);
                }
            }
        }
    }
}

fn late() -> Failure {
    let error = UserError::new("the worker does not send the rest of the result");
    Failure::cluster(error.detail(format!("nothing came of it within {} s", ANSWER_MAX.as_secs())))
}

fn truncated(fault: Option<&ArrowError>) -> Failure {
    let error = UserError::new("the result that the worker sent is not whole");
    Failure::from(match fault {
        Some(fault) => error.detail(fault.to_string()),
        None => error,
    })
}

/// Who submits: the name of the user that runs this process.
fn user() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|variable| std::env::var(variable).ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array};
    use arrow::ipc::writer::StreamWriter;
    use futures::TryStreamExt;

    use super::*;

    fn encoded(batches: &[RecordBatch]) -> Vec<u8> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.into_inner().unwrap()
    }

    fn batch(values: Vec<i32>) -> RecordBatch {
        let values: ArrayRef = Arc::new(Int32Array::from(values));
        RecordBatch::try_from_iter([("v", values)]).unwrap()
    }

    async fn decoded(bytes: &[u8], chunk: usize) -> Result<Vec<RecordBatch>, Failure> {
        let chunks: Vec<_> = bytes.chunks(chunk).map(|part| Ok(Buffer::from(part.to_vec()))).collect();
        decode(stream::iter(chunks)).await?.batches.try_collect().await
    }

    #[tokio::test]
    async fn a_result_is_the_same_however_it_is_cut() {
        let batches = [batch(vec![1, 2, 3]), batch(vec![4])];
        let bytes = encoded(&batches);
        for chunk in [1, 7, 64, bytes.len()] {
            assert_eq!(decoded(&bytes, chunk).await.unwrap(), batches);
        }
    }

    #[tokio::test]
    async fn a_cut_off_result_is_a_failure_and_an_empty_one_has_its_columns() {
        let bytes = encoded(&[batch(vec![1])]);
        let failure = decoded(&bytes[..bytes.len() / 2], 16).await.unwrap_err();
        assert!(failure.error.unwrap().message.contains("not whole"));
        assert!(decoded(&[], 16).await.is_err());
        let none = decode(stream::iter([Ok(Buffer::from(encoded(&[batch(vec![])])))])).await.unwrap();
        assert_eq!(none.schema.fields().len(), 1);
    }
}
