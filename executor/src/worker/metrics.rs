//! What a worker tells Prometheus: what its daemon knows, what its executors have said last, and what the kernel says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firesteel_certs::Security;
use firesteel_metrics::{Health, Page, Source, put_process, storage_of, table};
use firesteel_protocol::channel::TRAFFIC;
use firesteel_protocol::v1;
use firesteel_shuffle::keep::Keeper;
use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::daemon::Event;
use super::results::ResultStore;

/// How long the daemon may take to be looked at.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// How long a file system may take to tell what is free.
const DISK_MAX: Duration = Duration::from_secs(2);

/// A worker as its metrics are told.
pub(super) struct WorkerMetrics {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) results: Arc<ResultStore>,
    pub(super) keeper: Option<Arc<Keeper>>,
    pub(super) security: Security,
    pub(super) scratch: Vec<ScratchFolder>,
}

/// What the daemon knows at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    pub registered: bool,
    pub draining: bool,
    pub counts: Counts,
    pub executors: Vec<SeenExecutor>,
    pub drivers: usize,
    pub drivers_waiting: usize,
    pub driver_places: usize,
}

/// What the daemon counts as it happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub manager_losses: u64,
    pub drains: u64,
    pub drivers_succeeded: u64,
    pub drivers_failed: u64,
}

/// An executor, as the daemon knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SeenExecutor {
    pub index: u32,
    pub slots: usize,
    /// Its process, when it is up.
    pub pid: Option<u32>,
    pub given_up: bool,
    pub restarts: u64,
    /// What it said last in this life.
    pub usage: Option<v1::StatusReply>,
}

impl WorkerMetrics {
    async fn look(&self) -> Option<Seen> {
        let look = async {
            let (answer, answered) = oneshot::channel();
            self.events.send(Event::Look(answer)).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(LOOK_MAX, look).await.ok()?
    }
}

impl Source for WorkerMetrics {
    async fn page(&self) -> Page {
        let mut page = Page::default();
        put_process(&mut page, "worker");
        if let Some(tls) = self.security.tls() {
            page.put(&table::CERTIFICATE_EXPIRY, u64::try_from(tls.ends()).unwrap_or(0));
        }
        page.put(&table::CONNECTIONS, &TRAFFIC.open);
        page.put_each(&table::CONNECTIONS_REFUSED, TRAFFIC.refused());
        page.put_each(&table::CALLS_REFUSED, [("role", &TRAFFIC.role)]);
        self.put_kept(&mut page);
        for (folder, space) in join_all(self.scratch.iter().map(ScratchFolder::ask)).await {
            put_space(&mut page, &folder.to_string_lossy(), space);
        }
        match self.look().await {
            Some(seen) => seen.put(&mut page),
            None => page.put(&table::REGISTERED, false),
        }
        page
    }

    async fn health(&self) -> Health {
        match self.look().await {
            Some(Seen { registered: true, draining, .. }) => {
                Health::Serves(if draining { "registered, and drained" } else { "registered" }.to_owned())
            }
            Some(_) => Health::Ails("the worker is registered at no manager".to_owned()),
            None => Health::Ails(format!("the worker has not answered within {} s", LOOK_MAX.as_secs())),
        }
    }
}

impl WorkerMetrics {
    fn put_kept(&self, page: &mut Page) {
        let (results, bytes) = self.results.usage();
        page.put(&table::RESULTS, results);
        page.put(&table::RESULT_BYTES, bytes);
        let kept = self.keeper.as_ref().map(|keeper| keeper.usage()).unwrap_or_default();
        page.put(&table::KEPT_BLOCKS, kept.blocks);
        page.put_each(&table::KEPT_BYTES, [("memory", kept.memory_bytes), ("disk", kept.disk_bytes)]);
    }
}

impl Seen {
    fn put(&self, page: &mut Page) {
        page.put(&table::REGISTERED, self.registered);
        page.put(&table::DRAINING, self.draining);
        let Counts { manager_losses, drains, drivers_succeeded, drivers_failed } = self.counts;
        page.put(&table::MANAGER_LOSSES, manager_losses);
        page.put(&table::DRAINS, drains);
        let ended = [("succeeded", drivers_succeeded), ("failed", drivers_failed)];
        page.put_each(&table::DRIVERS_ENDED, ended);
        page.put(&table::WORKER_DRIVERS, self.drivers);
        page.put(&table::DRIVERS_WAITING, self.drivers_waiting);
        page.put(&table::DRIVER_PLACES, self.driver_places);
        let count = |is: fn(&SeenExecutor) -> bool| self.executors.iter().filter(|one| is(one)).count();
        let states = [
            ("up", count(|one| one.pid.is_some())),
            ("down", count(|one| one.pid.is_none() && !one.given_up)),
            ("given_up", count(|one| one.given_up)),
        ];
        page.put_each(&table::WORKER_EXECUTORS, states);
        self.executors.iter().for_each(|executor| executor.put(page));
    }
}

impl SeenExecutor {
    fn put(&self, page: &mut Page) {
        let index = self.index.to_string();
        let own = [index.as_str()];
        page.put_with(&table::WORKER_SLOTS, own, self.slots);
        page.put_with(&table::RESTARTS, own, self.restarts);
        if let Some(storage) = self.pid.and_then(storage_of) {
            page.put_with(&table::READ, own, storage.read_bytes);
            page.put_with(&table::WRITTEN, own, storage.written_bytes);
        }
        let Some(usage) = &self.usage else { return };
        page.put_with(&table::ATTEMPTS, own, usage.running_attempts);
        page.put_with(&table::MEMORY_LIMIT, own, usage.memory_limit);
        page.put_with(&table::MEMORY_USED, own, usage.memory_used);
        let in_memory = usage.block_bytes.saturating_sub(usage.block_disk_bytes);
        page.put_with(&table::BLOCKS, [&index, "memory"], in_memory);
        page.put_with(&table::BLOCKS, [&index, "disk"], usage.block_disk_bytes);
        page.put_with(&table::RESIDENT, own, usage.resident_bytes);
        page.put_with(&table::CPU, own, Duration::from_micros(usage.cpu_micros));
        let v1::FetchedBytes { pointer, shared, passed, tcp } = usage.fetched.unwrap_or_default();
        for (way, bytes) in [("pointer", pointer), ("shared", shared), ("passed", passed), ("tcp", tcp)] {
            page.put_with(&table::FETCHED, [&index, way], bytes);
        }
    }
}

/// A scratch folder whose file system may not answer.
#[derive(Debug)]
pub(super) struct ScratchFolder {
    folder: PathBuf,
    /// A thread still waits for an answer: another one would wait beside it.
    is_asked: Arc<AtomicBool>,
}

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    size: u64,
    free: u64,
}

impl ScratchFolder {
    pub(super) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), is_asked: Arc::default() }
    }

    async fn ask(&self) -> (&Path, Option<Space>) {
        if self.is_asked.swap(true, Ordering::AcqRel) {
            return (&self.folder, None);
        }
        let (folder, is_asked) = (self.folder.clone(), Arc::clone(&self.is_asked));
        let asked = tokio::task::spawn_blocking(move || {
            let space = space_of(&folder);
            is_asked.store(false, Ordering::Release);
            space
        });
        let answered = tokio::time::timeout(DISK_MAX, asked).await;
        (&self.folder, answered.ok().and_then(Result::ok).flatten())
    }
}

fn space_of(folder: &Path) -> Option<Space> {
    let told = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    Some(Space { size: bytes(told.f_blocks), free: bytes(told.f_bavail) })
}

fn put_space(page: &mut Page, folder: &str, space: Option<Space>) {
    page.put_with(&table::SCRATCH_ANSWERS, [folder], space.is_some());
    if let Some(Space { size, free }) = space {
        page.put_with(&table::SCRATCH_SIZE, [folder], size);
        page.put_with(&table::SCRATCH_FREE, [folder], free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(put: impl FnOnce(&mut Page)) -> String {
        let mut page = Page::default();
        put(&mut page);
        page.text()
    }

    #[test]
    fn an_executor_that_has_not_answered_is_told_of_by_its_state_alone() {
        let executor =
            |index, pid| SeenExecutor { index, slots: 3, pid, restarts: 2, ..SeenExecutor::default() };
        let given_up = SeenExecutor { given_up: true, ..executor(2, None) };
        let executors = vec![executor(0, Some(std::process::id())), executor(1, None), given_up];
        let told = text(|page| Seen { executors, ..Seen::default() }.put(page));
        let state =
            |state: &str, count: u32| format!("firesteel_worker_executors{{state=\"{state}\"}} {count}\n");
        for line in [state("up", 1), state("down", 1), state("given_up", 1)] {
            assert!(told.contains(&line), "{line} {told}");
        }
        assert!(told.contains("firesteel_worker_executor_restarts_total{executor=\"2\"} 2\n"), "{told}");
        assert!(told.contains("firesteel_worker_executor_read_bytes_total{executor=\"0\"}"), "{told}");
        assert!(!told.contains("memory"), "{told}");
    }

    #[test]
    fn what_an_executor_said_is_told_with_its_number() {
        let fetched = v1::FetchedBytes { pointer: 1, shared: 2, passed: 3, tcp: 4 };
        let usage = v1::StatusReply {
            memory_used: 50,
            memory_limit: 100,
            block_bytes: 30,
            block_disk_bytes: 20,
            cpu_micros: 1_500_000,
            fetched: Some(fetched),
            ..v1::StatusReply::default()
        };
        let executor = SeenExecutor { index: 7, usage: Some(usage), ..SeenExecutor::default() };
        let told = text(|page| executor.put(page));
        let expected = [
            "memory_used_bytes{executor=\"7\"} 50",
            "memory_limit_bytes{executor=\"7\"} 100",
            "block_bytes{executor=\"7\",where=\"memory\"} 10",
            "block_bytes{executor=\"7\",where=\"disk\"} 20",
            "cpu_seconds_total{executor=\"7\"} 1.5",
            "fetched_bytes_total{executor=\"7\",way=\"tcp\"} 4",
        ];
        for line in expected {
            assert!(told.contains(&format!("firesteel_worker_executor_{line}\n")), "{line} {told}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_asked_already_or_is_not_there_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = ScratchFolder::of(folder.path());
        assert!(scratch.ask().await.1.is_some_and(|space| space.free <= space.size && space.size > 0));
        scratch.is_asked.store(true, Ordering::Release);
        assert_eq!(scratch.ask().await.1, None);
        assert_eq!(ScratchFolder::of(&folder.path().join("gone")).ask().await.1, None);
        let told = text(|page| put_space(page, "/s", None));
        assert!(told.ends_with("firesteel_worker_scratch_answers{folder=\"/s\"} 0\n"), "{told}");
    }
}
