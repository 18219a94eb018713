//! The one table of keys.

use std::time::Duration;

use super::key::{Key, Section};
use super::kind::Kind;
use crate::ByteSize;

/// The sections, in the order in which they are shown.
pub const SECTIONS: [Section; 7] = [
    Section { name: "manager", help: "The cluster manager, `firesteel manager`." },
    Section { name: "worker", help: "The daemon of a host, `firesteel worker`." },
    Section { name: "executor", help: "Executors, the processes that a worker starts to run tasks." },
    Section { name: "local", help: "Local mode: queries that run inside the command itself." },
    Section { name: "client", help: "Commands that talk to a cluster." },
    Section {
        name: "security",
        help: "Who a process is to others: certificates and keys, as `firesteel certs` makes them.",
    },
    Section { name: "log", help: "What is logged to standard error." },
];

const MILLIS_100: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const MEMORY: Kind = Kind::Size(ByteSize(64 << 20), ByteSize(64 << 40));
const CORES: Kind = Kind::Count(1, 4096);
const JOBS: Kind = Kind::Count(1, 1_000_000);

/// Every key, by section.
pub const KEYS: &[Key] = &[
    Key {
        name: "manager.bind",
        default: "0.0.0.0:7400",
        kind: Kind::Listen,
        help: "The address on which the manager listens for workers, drivers and clients.",
    },
    Key {
        name: "manager.heartbeat",
        default: "2s",
        kind: Kind::Duration(MILLIS_100, MINUTE),
        help: "How often workers and drivers report to the manager. At most half of `manager.node_suspect_after` and a \
               third of either time-out.",
    },
    Key {
        name: "manager.node_suspect_after",
        default: "6s",
        kind: Kind::Duration(MILLIS_100, HOUR),
        help: "A worker that has been silent for this long gets no new work until it is heard again.",
    },
    Key {
        name: "manager.node_timeout",
        default: "15s",
        kind: Kind::Duration(SECOND, HOUR),
        help: "A worker that has been silent for this long is lost: its executors' work is run again elsewhere.",
    },
    Key {
        name: "manager.driver_timeout",
        default: "15s",
        kind: Kind::Duration(SECOND, HOUR),
        help: "A driver that has been silent for this long is lost: its leases end and its job fails.",
    },
    Key {
        name: "manager.state",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The folder for what must outlive the manager: submitted jobs, and the history of all. One that is started \
               again on it goes on where the last one ended; two at a time are refused. auto: nothing is kept, and \
               submitted jobs are lost with the manager.",
    },
    Key {
        name: "manager.peers",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Addresses),
        help: "All managers of the cluster, this one included, as workers and clients reach them: the same list on each, \
               three or five of them. They keep the journal together, so `manager.state` must be set; one of them leads, and \
               another one does when it is gone. auto: this manager is the only one.",
    },
    Key {
        name: "manager.advertise",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Address),
        help: "Which of `manager.peers` this manager is. auto: the one with an address of this host and the port of \
               `manager.bind`.",
    },
    Key {
        name: "manager.workers",
        default: "10000",
        kind: Kind::Count(1, 1_000_000),
        help: "How many workers there may be at a time; more are refused.",
    },
    Key {
        name: "manager.jobs",
        default: "10000",
        kind: JOBS,
        help: "How many jobs there may be at a time that have not ended, running or waiting; more are refused.",
    },
    Key {
        name: "manager.jobs_size",
        default: "256MiB",
        kind: Kind::Size(ByteSize(1 << 20), ByteSize(64 << 30)),
        help: "How much the names, SQL texts and settings of those may take together; jobs with more are refused.",
    },
    Key {
        name: "manager.queued_jobs",
        default: "5000",
        kind: JOBS,
        help: "How many submitted jobs may wait for a place for their driver (`worker.drivers`); more are refused.",
    },
    Key {
        name: "manager.open_jobs",
        default: "2000",
        kind: JOBS,
        help: "How many jobs there may be at a time whose driver is in a client; more are refused.",
    },
    Key {
        name: "manager.tokens",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The file of tokens, which nobody else may read: who wants to open, submit, list or cancel jobs must then show one, \
               and is the user that it names. `firesteel tokens` makes it; a change is noticed within seconds. auto: none is asked \
               for.",
    },
    Key {
        name: "manager.metrics",
        default: "off",
        kind: Kind::OrOff(&Kind::Listen),
        help: "The address at which the manager tells Prometheus how it is (GET /metrics), and whether it serves (GET /healthz): without TLS \
               and to everybody who reaches it, so give one of a management network or of this host, as 127.0.0.1:7401. It names no \
               job, user or text, but queues. off: nowhere.",
    },
    Key {
        name: "worker.id",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Name),
        help: "The worker's name in the cluster, used by no other worker. auto: the host's name.",
    },
    Key {
        name: "worker.manager",
        default: "127.0.0.1:7400",
        kind: Kind::Addresses,
        help: "Where the worker finds the manager. Of several managers all, separated by commas: the worker goes to the one \
               that leads.",
    },
    Key {
        name: "worker.bind",
        default: "0.0.0.0:7410",
        kind: Kind::Listen,
        help: "The address on which the worker serves results of cluster-mode jobs. Its executors listen on free \
               ports of the same host address.",
    },
    Key {
        name: "worker.advertise",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The host name or address under which others reach this host. auto: the address from which the \
               worker reaches the manager.",
    },
    Key {
        name: "worker.rack",
        default: "",
        kind: Kind::Text,
        help: "The rack that the host stands in; tasks are placed near their input. Empty: not known.",
    },
    Key {
        name: "worker.executors",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Count(1, 1024)),
        help: "How many executors to start. auto: one per NUMA node.",
    },
    Key {
        name: "worker.cores",
        default: "auto",
        kind: Kind::OrAuto(&CORES),
        help: "Core threads of the whole worker, shared out among its executors. auto: every core that is not \
               kept for the control plane.",
    },
    Key {
        name: "worker.control_cores",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Count(0, 64)),
        help: "Cores kept free of tasks, for the control plane and the operating system. auto: by the size of the host.",
    },
    Key {
        name: "worker.smt",
        default: "false",
        kind: Kind::Switch,
        help: "Whether both hardware threads of a core get a core thread.",
    },
    Key {
        name: "worker.cpus",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Cpus),
        help: "The CPUs that the worker may use, as the operating system numbers them. auto: all that its process may use.",
    },
    Key {
        name: "worker.pin",
        default: "true",
        kind: Kind::Switch,
        help: "Whether core threads are bound to their CPUs and to the memory beside them. Off only where several \
               workers share a host for trying things.",
    },
    Key {
        name: "worker.memory",
        default: "auto",
        kind: Kind::OrAuto(&MEMORY),
        help: "Memory of each executor: all that its operators, blocks and buffers may take together. auto: its share of \
               three quarters of the host's.",
    },
    Key {
        name: "worker.drivers",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Count(0, 1024)),
        help: "Drivers of submitted jobs that the worker runs at a time; further jobs wait. 0: none, on this host. auto: as many \
               as fit, with `worker.driver_memory` each, beside the executors' memory on this host, at least 1 and at most 16.",
    },
    Key {
        name: "worker.driver_memory",
        default: "512MiB",
        kind: MEMORY,
        help: "Memory of each driver of a submitted job: what of the job runs in its driver's process may take so much.",
    },
    Key {
        name: "worker.scratch",
        default: "/var/tmp/firesteel",
        kind: Kind::Folders,
        help: "Folders for blocks and spilled state that do not fit in memory, and for results of cluster-mode jobs. \
               Give one on each local disk. The first is locked: no two workers share it.",
    },
    Key {
        name: "worker.log_folder",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The folder for the logs of executors and cluster-mode drivers, a file each. auto: they go to the worker's \
               standard error.",
    },
    Key {
        name: "worker.results",
        default: "100",
        kind: Kind::Count(1, 1_000_000),
        help: "How many results of cluster-mode jobs are kept; the oldest go.",
    },
    Key {
        name: "worker.results_size",
        default: "10GiB",
        kind: Kind::Size(ByteSize(1 << 20), ByteSize(1 << 50)),
        help: "How much the kept results may take in the first scratch folder; the oldest go. The newest stays in any case.",
    },
    Key {
        name: "worker.keep_blocks",
        default: "true",
        kind: Kind::Switch,
        help: "Whether the worker keeps and serves the blocks of executors that died. Off, what they have written is computed \
               again.",
    },
    Key {
        name: "worker.drain",
        default: "30s",
        kind: Kind::Duration(Duration::ZERO, HOUR),
        help: "How long a worker that SIGTERM asks to stop waits for what runs on it to end and for its blocks to move to other \
               workers; what is left then is computed again elsewhere. A second signal ends it at once. 0s: the first does. \
               A service manager must wait longer than this before it kills.",
    },
    Key {
        name: "worker.run_as",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The user that executors and cluster-mode drivers run as, by name or as uid:gid; only a worker that root runs can set \
               it. They must be able to read the data and the configuration file. auto: the worker's own user.",
    },
    Key {
        name: "worker.cgroups",
        default: "auto",
        kind: Kind::Choice(&["auto", "on", "off"]),
        help: "Whether each executor and each cluster-mode driver gets a control group (version 2) of its own, which holds it to its CPUs, to \
               its NUMA node and to its memory with 512 MiB and a quarter above. auto: where the worker may make them, as a systemd unit \
               with Delegate=yes may; where not, it says so, and so does `firesteel doctor`. on: else it does not start.",
    },
    Key {
        name: "worker.executor_restarts",
        default: "9",
        kind: Kind::Count(0, 1000),
        help: "How often within `worker.executor_restart_window` an executor that died is started again. One more \
               death in that time leaves it down.",
    },
    Key {
        name: "worker.executor_restart_window",
        default: "5m",
        kind: Kind::Duration(SECOND, HOUR),
        help: "The time over which deaths of an executor are counted.",
    },
    Key {
        name: "worker.metrics",
        default: "off",
        kind: Kind::OrOff(&Kind::Listen),
        help: "As `manager.metrics`, for the worker and its executors; GET /healthz says whether it is registered at a manager.",
    },
    Key {
        name: "executor.block_memory_fraction",
        default: "0.4",
        kind: Kind::Fraction(0.05, 0.9),
        help: "The part of an executor's memory that shuffle blocks may fill before the coldest go to files.",
    },
    Key {
        name: "executor.transport",
        default: "auto",
        kind: Kind::Choice(&["auto", "tcp", "shared"]),
        help: "How executors get each other's blocks. auto: shared memory on one host, else TCP. shared: nothing else, so \
               all executors must be on one host.",
    },
    Key {
        name: "executor.scratch_engine",
        default: "ring",
        kind: Kind::Choice(&["ring", "blocking", "tokio-uring", "glommio"]),
        help: "What writes and reads files of blocks. Where a kernel has no rings, system calls do it, with a warning.",
    },
    Key {
        name: "executor.scratch_direct",
        default: "true",
        kind: Kind::Switch,
        help: "Whether files of blocks bypass the page cache, which no limit of the executor counts.",
    },
    Key {
        name: "executor.link_compression",
        default: "auto",
        kind: Kind::Choice(&["auto", "none", "lz4", "zstd"]),
        help: "Whether blocks are packed on their way to executors of other hosts. auto: where the link is measured to be so \
               slow that packing makes it faster.",
    },
    Key {
        name: "executor.scratch_compression",
        default: "auto",
        kind: Kind::Choice(&["auto", "none", "lz4", "zstd"]),
        help: "Whether blocks are packed in files. auto: where the disk is measured to be so slow that packing makes it \
               faster.",
    },
    Key {
        name: "local.cores",
        default: "auto",
        kind: Kind::OrAuto(&CORES),
        help: "Core threads of local mode. auto: one for each core that the process may use.",
    },
    Key {
        name: "local.memory",
        default: "auto",
        kind: Kind::OrAuto(&MEMORY),
        help: "Memory of local mode. What does not fit is spilled. auto: most of the machine's.",
    },
    Key {
        name: "local.scratch",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The folder for spilled state and blocks of local mode. auto: the system's folder for temporary files.",
    },
    Key {
        name: "client.manager",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Addresses),
        help: "The manager that commands talk to; of several all, separated by commas. auto: 127.0.0.1:7400, except that `firesteel sql` runs locally. \
               The environment variable FIRESTEEL_MANAGER sets it too.",
    },
    Key {
        name: "client.queue",
        default: "",
        kind: Kind::Text,
        help: "The queue whose share of the cluster the jobs of commands draw on: queues share it equally. Empty: the one \
               without a name.",
    },
    Key {
        name: "client.token_file",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The file with the token that commands show to the manager, which nobody else may read. The environment variable \
               FIRESTEEL_TOKEN has the token itself and comes before it. auto: none is shown.",
    },
    Key {
        name: "security.folder",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The folder of this process's certificate (node.pem), its key (node.key) and its cluster's authority (ca.pem). \
               Managers and workers do not start without one. auto: none; commands then talk to managers on this host alone.",
    },
    Key {
        name: "security.ca",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The file with the certificate of the authority that issued those of all others, or with several. auto: ca.pem in \
               `security.folder`.",
    },
    Key {
        name: "security.certificate",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The file with this process's certificate. auto: node.pem in `security.folder`.",
    },
    Key {
        name: "security.key",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Text),
        help: "The file with the key of this process's certificate, which nobody else may read. auto: node.key in \
               `security.folder`.",
    },
    Key {
        name: "security.insecure",
        default: "false",
        kind: Kind::Switch,
        help: "Whether this process goes without certificates and TLS, even where they are configured. Whoever reaches a manager \
               or a worker then can run code on the cluster and read all data.",
    },
    Key {
        name: "log.level",
        default: "auto",
        kind: Kind::OrAuto(&Kind::Filter),
        help: "What is logged. auto: info in daemons, warn in commands.",
    },
    Key {
        name: "log.format",
        default: "text",
        kind: Kind::Choice(&["text", "json"]),
        help: "How it is logged: lines of text, or one JSON object a line.",
    },
];
