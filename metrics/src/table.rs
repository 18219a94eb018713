//! The one table of metrics. `docs/metrics.md` is made from it, and rules and dashboard are held against it.

/// What Prometheus does with a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that comes and goes.
    Gauge,
    /// A value that grows while its process lives.
    Counter,
    /// How often something took how long.
    Histogram,
}

impl Kind {
    /// Prometheus' word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// Who tells a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Managers and workers.
    Both,
    /// Every manager.
    Manager,
    /// The manager that leads, or is alone.
    Leader,
    /// Workers.
    Worker,
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, which ends in the unit, if it has one, and in `_total` for counters.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Who tells it.
    pub role: Role,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! table {
    ($($role:ident { $($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)* })*) => {
        $($(
            #[doc = $help]
            pub static $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                role: Role::$role,
                labels: &[$($label),*],
                help: $help,
            };
        )*)*

        /// All metrics, in the order of the page.
        pub static METRICS: &[&Metric] = &[$($(&$constant),*),*];
    };
}

table! {
    Both {
        BUILD_INFO = Gauge "firesteel_build_info" ["role", "version", "wire"] "Always 1; the labels say what runs: the role of the process, its build and the newest wire version that it speaks.";
        CERTIFICATE_EXPIRY = Gauge "firesteel_certificate_expiry_seconds" [] "When the certificate that the process shows ends, in unix seconds. Not told without certificates.";
        CONNECTIONS = Gauge "firesteel_connections" [] "Connections that are open at the process's gRPC port.";
        CONNECTIONS_REFUSED = Counter "firesteel_connections_refused_total" ["reason"] "Connections that were refused. full: there were too many; greeting: too many had not said yet who they are; handshake: TLS failed or took too long.";
        CALLS_REFUSED = Counter "firesteel_calls_refused_total" ["reason"] "Calls that were refused because of who made them. role: the certificate gives no role that may make the call; token: no token was shown, or one that is not known or is over.";
        PROCESS_CPU = Counter "process_cpu_seconds_total" [] "Processor time of the daemon's own process.";
        PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" [] "Resident memory of the daemon's own process.";
        PROCESS_FDS = Gauge "process_open_fds" [] "File descriptors that the daemon has open.";
        PROCESS_FDS_MAX = Gauge "process_max_fds" [] "File descriptors that it may have open.";
        PROCESS_START = Gauge "process_start_time_seconds" [] "When the daemon was started, in unix seconds.";
    }
    Manager {
        LEADS = Gauge "firesteel_manager_leads" [] "1: this manager leads, or is alone, and serves. 0: another one does, or none.";
        LEADER_KNOWN = Gauge "firesteel_manager_leader_known" [] "1: this manager leads, or knows who does and has heard it lately.";
        TERM = Gauge "firesteel_manager_term" [] "The number of the election that the manager knows of as the latest; 0 for one that is alone.";
        RECORDS_BEHIND = Gauge "firesteel_manager_records_behind" [] "Records of the journal that this manager has and has not applied yet; 0 for one that is alone.";
        JOBS_ADDED = Counter "firesteel_manager_jobs_added_total" [] "Jobs that were submitted, or opened by a client, and taken.";
        JOBS_ENDED = Counter "firesteel_manager_jobs_ended_total" ["outcome"] "Jobs that have ended.";
        JOBS_REFUSED = Counter "firesteel_manager_jobs_refused_total" ["reason"] "Jobs that were not taken. full: there are as many as there may be; too_long: a text is longer than it may be; no_drivers: no worker runs drivers; rights: the user may have none there.";
        NODES_LOST = Counter "firesteel_manager_nodes_lost_total" [] "Workers that were given up because they were silent for too long.";
        EXECUTORS_GONE = Counter "firesteel_manager_executors_gone_total" [] "Lives of executors that have ended, whatever the reason.";
        GRANTS = Counter "firesteel_manager_grants_total" [] "Leases that were granted.";
        PLACEMENTS = Counter "firesteel_manager_placements_total" [] "How often the tasks of a stage were placed on executors.";
        PLACEMENT_TIME = Histogram "firesteel_manager_placement_seconds" [] "How long the manager took each time to find out who gets slots, when somebody got some.";
        JOURNAL_TIME = Histogram "firesteel_manager_journal_append_seconds" [] "How long it took each time until a change of the journal was on the disk, or on those of a majority.";
        JOURNAL_BYTES = Counter "firesteel_manager_journal_bytes_total" [] "Bytes of jobs that were written to the journal.";
        JOURNAL_FAILURES = Counter "firesteel_manager_journal_failures_total" [] "Changes of the journal that could not be written. A manager that is alone ends at the first; one of several steps down.";
    }
    Leader {
        NODES = Gauge "firesteel_manager_nodes" ["state"] "Workers by state. suspect: silent, and given nothing new; lost and left: gone, and remembered for a while.";
        NODES_DRAINING = Gauge "firesteel_manager_nodes_draining" [] "Workers that are being drained.";
        HEARTBEAT_AGE = Gauge "firesteel_manager_heartbeat_age_seconds" [] "How long ago that worker was heard which has been silent the longest, of those that are alive or suspect.";
        EXECUTORS = Gauge "firesteel_manager_executors" ["state"] "Executors of workers that are alive or suspect: those that are up, and those that are not.";
        SLOTS = Gauge "firesteel_manager_slots" [] "Core threads of all executors that are up.";
        SLOTS_LENT = Gauge "firesteel_manager_slots_lent" [] "Core threads of those that are lent to jobs.";
        JOBS = Gauge "firesteel_manager_jobs" ["state"] "Jobs that have not ended: queued ones have had no slot yet.";
        OLDEST_WAIT = Gauge "firesteel_manager_oldest_wait_seconds" [] "How long the oldest queued job has waited; 0: none waits.";
        QUEUE_JOBS = Gauge "firesteel_manager_queue_jobs" ["queue", "state"] "Jobs that have not ended, by queue. The queues with the most jobs are told by name, the rest as (other); the queue without a name is empty.";
        QUEUE_WAIT = Gauge "firesteel_manager_queue_oldest_wait_seconds" ["queue"] "How long the oldest queued job of a queue has waited; 0: none waits.";
        DRIVERS = Gauge "firesteel_manager_drivers" [] "Drivers that are connected.";
        SESSIONS = Gauge "firesteel_manager_sessions" [] "Sessions of workers and drivers.";
        LEASES = Gauge "firesteel_manager_leases" [] "Leases of slots that jobs hold.";
        MAILBOX = Gauge "firesteel_manager_mailbox_messages" [] "Messages and calls that wait for the manager.";
        MAILBOX_MAX = Gauge "firesteel_manager_mailbox_limit" [] "How many may wait; who sends more is kept waiting.";
    }
    Worker {
        REGISTERED = Gauge "firesteel_worker_registered" [] "1: the worker has a session with the manager.";
        MANAGER_LOSSES = Counter "firesteel_worker_manager_losses_total" [] "How often that session was lost, or could not be made.";
        DRAINING = Gauge "firesteel_worker_draining" [] "1: the worker is being drained.";
        DRAINS = Counter "firesteel_worker_drains_total" [] "How often that began.";
        WORKER_EXECUTORS = Gauge "firesteel_worker_executors" ["state"] "Executors by state. down: not started yet, or about to be started again; given_up: died too often.";
        RESTARTS = Counter "firesteel_worker_executor_restarts_total" ["executor"] "How often an executor was started again.";
        WORKER_SLOTS = Gauge "firesteel_worker_slots" ["executor"] "Core threads of an executor.";
        ATTEMPTS = Gauge "firesteel_worker_executor_attempts" ["executor"] "Attempts that run on an executor, as it has said last. So with all that follows of an executor that is up.";
        MEMORY_LIMIT = Gauge "firesteel_worker_executor_memory_limit_bytes" ["executor"] "Memory that an executor's operators, blocks and buffers may take together.";
        MEMORY_USED = Gauge "firesteel_worker_executor_memory_used_bytes" ["executor"] "Memory that these have of it.";
        BLOCKS = Gauge "firesteel_worker_executor_block_bytes" ["executor", "where"] "Bytes of an executor's blocks, in memory and in files.";
        FETCHED = Counter "firesteel_worker_executor_fetched_bytes_total" ["executor", "way"] "Bytes of blocks that an executor read, by the way they came: pointer (its own), shared (memory of another executor of the host), passed (through a socket of the host), tcp.";
        RESIDENT = Gauge "firesteel_worker_executor_resident_bytes" ["executor"] "Resident memory of an executor's process.";
        CPU = Counter "firesteel_worker_executor_cpu_seconds_total" ["executor"] "Processor time of an executor's process; begins anew when it is started again.";
        READ = Counter "firesteel_worker_executor_read_bytes_total" ["executor"] "Bytes that an executor's process had read from disks, as the kernel counts them; begins anew when it is started again.";
        WRITTEN = Counter "firesteel_worker_executor_written_bytes_total" ["executor"] "Bytes that it had written to disks; begins anew when it is started again.";
        WORKER_DRIVERS = Gauge "firesteel_worker_drivers" [] "Drivers of submitted jobs that run under the worker.";
        DRIVERS_WAITING = Gauge "firesteel_worker_drivers_waiting" [] "Drivers that were launched and wait until one that has ended is gone.";
        DRIVER_PLACES = Gauge "firesteel_worker_driver_places" [] "Drivers that the worker runs at a time.";
        DRIVERS_ENDED = Counter "firesteel_worker_drivers_ended_total" ["outcome"] "Drivers that have ended, by whether they gave a result.";
        RESULTS = Gauge "firesteel_worker_results" [] "Results of submitted jobs that are kept.";
        RESULT_BYTES = Gauge "firesteel_worker_result_bytes" [] "Bytes of these.";
        KEPT_BLOCKS = Gauge "firesteel_worker_kept_blocks" [] "Blocks that executors which are gone have left, and that are served.";
        KEPT_BYTES = Gauge "firesteel_worker_kept_bytes" ["where"] "Bytes of these, in memory and in files.";
        SCRATCH_SIZE = Gauge "firesteel_worker_scratch_size_bytes" ["folder"] "Size of the file system that a scratch folder lies on. Not told while it does not answer.";
        SCRATCH_FREE = Gauge "firesteel_worker_scratch_free_bytes" ["folder"] "What is free of that to users other than root.";
        SCRATCH_ANSWERS = Gauge "firesteel_worker_scratch_answers" ["folder"] "1: that file system answers; 0: it fails, or has not answered for longer than two seconds.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for (i, metric) in METRICS.iter().enumerate() {
            let name = metric.name;
            assert!(METRICS[..i].iter().all(|other| other.name != name), "{name}: twice");
            let prefix = match metric.role {
                Role::Both => "",
                Role::Manager | Role::Leader => "firesteel_manager_",
                Role::Worker => "firesteel_worker_",
            };
            assert!(
                name.starts_with(prefix) && (name.starts_with("firesteel_") || name.starts_with("process_")),
                "{name}"
            );
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(metric.kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['|', '\n']), "{name}");
        }
    }
}
