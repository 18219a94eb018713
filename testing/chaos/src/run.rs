//! A whole run: a cluster, faults, clients, and what is left at the end.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use firesteel_base::ByteSize;
use firesteel_base::units::display_duration;

use crate::client::Client;
use crate::cluster::{Cluster, Setup, files_below, stays};
use crate::host::{self, Abilities, PREFIX};
use crate::interrupt;
use crate::proc;
use crate::promise::Way;
use crate::questions::{QUERIES, Questions};
use crate::record::{Counts, End, Record};
use crate::schedule::{Draw, Family, Fault, Header, Kind, Limits, read_log, write_log};
use crate::story::{About, Story, Tone, millis};
use crate::strike::strike;
use crate::watch::{Most, Watch};

/// How long the cluster may take to be whole, and idle, when no fault comes any more.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// How long a query may take when nothing is wrong any more.
const CALM_MAX: Duration = Duration::from_secs(60);

/// What is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// A built `firesteel`.
    pub binary: PathBuf,
    /// TPC-H data at a scale with stored answers.
    pub data: PathBuf,
    /// Answers that count as right in place of the stored ones.
    pub answers: Option<PathBuf>,
    /// What faults and questions are drawn from.
    pub seed: u64,
    /// How long faults come and questions are asked.
    pub span: Duration,
    /// How many workers.
    pub workers: u32,
    /// How many clients ask at a time.
    pub clients: u32,
    /// The kinds of faults.
    pub families: Vec<Family>,
    /// The time between two faults.
    pub every: RangeInclusive<Duration>,
    /// Memory of each executor: little, so that blocks go to files.
    pub memory: ByteSize,
    /// The disk of each worker for scratch files.
    pub disk: ByteSize,
    /// How long a query may take, whatever happens.
    pub query_max: Duration,
    /// Of a hundred queries, so many are submitted; the driver of the others is their client.
    pub submitted: u32,
    /// Whether the run goes on after a breach.
    pub keeps_going: bool,
    /// How the story is told.
    pub tone: Tone,
    /// Where the log of faults goes beside the run's folder.
    pub log: Option<PathBuf>,
    /// The log whose faults are replayed, instead of drawing any.
    pub replay: Option<PathBuf>,
    /// Settings of manager and workers more, by the names of their variables.
    pub conf: Vec<(String, String)>,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Why it ended.
    pub end: End,
    /// Numbers.
    pub counts: Counts,
    /// The most that processes took.
    pub most: Most,
    /// Promises that were not kept.
    pub breaches: Vec<String>,
    /// Logs, faults and wrong answers; kept unless all held.
    pub folder: Option<PathBuf>,
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn held(&self) -> bool {
        self.breaches.is_empty()
    }
}

/// What is to happen.
struct Plan {
    header: Header,
    faults: Vec<Fault>,
}

/// Runs it.
///
/// # Errors
/// When it cannot begin: no program, no data, no cluster. What goes wrong later is in the report.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let binary = options.binary.canonicalize();
    let binary = binary.with_context(|| format!("there is no program {}", options.binary.display()))?;
    let questions = Questions::about(&binary, &options.data, options.answers.clone())?;
    host::sweep();
    let record = Arc::new(Record::new(Story::begin(options.tone), options.keeps_going));
    let abilities = Abilities::probe();
    let plan = plan(options, abilities, &record)?;
    interrupt::ends(&record)?;
    let folder = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir()?;
    let log = options.log.iter().cloned().chain([folder.path().join("faults.jsonl")]);
    log.into_iter().try_for_each(|path| write_log(&path, &plan.header, &plan.faults))?;
    let setup = setup(options, &plan, abilities, binary, folder.path());
    let (watch, begun) = match Cluster::start(setup) {
        Ok(cluster) => (play(options, &plan, &cluster, &questions, &record), Ok(())),
        Err(error) => (Watch::default(), Err(error)),
    };
    let has_failed = begun.is_err() || !record.noted().breaches.is_empty();
    // What is left shows in the folder, so it is kept when something failed.
    let kept = has_failed.then(|| folder.keep());
    if let Err(error) = begun {
        let at = kept.map(|kept| kept.join("logs").display().to_string()).unwrap_or_default();
        return Err(error.context(format!("the cluster did not start; its logs are in {at}")));
    }
    let noted = record.noted();
    Ok(Report {
        seed: plan.header.seed,
        end: noted.end().unwrap_or(End::Breach),
        counts: noted.counts.clone(),
        most: watch.most().clone(),
        breaches: noted.breaches.clone(),
        folder: kept,
    })
}

/// The faults of the seed, as far as this host can make them, or those of a log.
fn plan(options: &Options, abilities: Abilities, record: &Record) -> anyhow::Result<Plan> {
    if let Some(path) = &options.replay {
        let (header, faults) = read_log(path)?;
        if header.networked && !abilities.network {
            bail!("the faults of {} need what {}", path.display(), refusal(abilities, Family::Cut));
        }
        if faults.iter().any(|fault| fault.kind == Kind::DiskFull) && !abilities.disks {
            bail!("the faults of {} need disks: {}", path.display(), refusal(abilities, Family::DiskFull));
        }
        return Ok(Plan { header, faults });
    }
    let mut families: Vec<_> =
        options.families.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    for family in families.extract_if(.., |family| abilities.refusal(*family).is_some()) {
        record.story.tell(About::Run, format_args!("no {family:?}: {}", refusal(abilities, family)));
    }
    let networked = families.iter().any(|family| matches!(family, Family::Cut | Family::Loss));
    let header = Header {
        seed: options.seed,
        for_ms: millis(options.span),
        workers: options.workers,
        clients: options.clients,
        networked,
    };
    let limits =
        Limits { workers: options.workers, families, every: options.every.clone(), until: options.span };
    Ok(Plan { header, faults: Draw::new(options.seed, limits).collect() })
}

fn refusal(abilities: Abilities, family: Family) -> &'static str {
    abilities.refusal(family).unwrap_or("nothing is missing")
}

fn setup(options: &Options, plan: &Plan, abilities: Abilities, binary: PathBuf, folder: &Path) -> Setup {
    let mut conf = vec![
        // Stops and cuts last up to 10 s: some are shorter than a node's time-out and some longer, and all are shorter than a
        // driver's, which is the default of 15 s.
        ("FIRESTEEL_MANAGER_HEARTBEAT", "500ms"),
        ("FIRESTEEL_MANAGER_NODE_SUSPECT_AFTER", "2s"),
        ("FIRESTEEL_MANAGER_NODE_TIMEOUT", "5s"),
        // An executor is killed more often here than any crashes.
        ("FIRESTEEL_WORKER_EXECUTOR_RESTARTS", "1000"),
        // Blocks go to files, where they can be corrupted and a disk be full.
        ("FIRESTEEL_EXECUTOR_BLOCK_MEMORY_FRACTION", "0.05"),
    ];
    if plan.header.networked {
        // The hosts are of one kernel, whose memory they would share.
        conf.push(("FIRESTEEL_EXECUTOR_TRANSPORT", "tcp"));
    }
    let own = conf.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    Setup {
        binary,
        folder: folder.to_owned(),
        mark: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        workers: plan.header.workers,
        cores: 1,
        memory: options.memory,
        disk: abilities.disks.then_some(options.disk),
        network: plan.header.networked,
        journal: true,
        conf: own.chain(options.conf.iter().cloned()).collect(),
    }
}

/// Faults and questions, then calm, then the end of all processes.
fn play(options: &Options, plan: &Plan, cluster: &Cluster, questions: &Questions, record: &Record) -> Watch {
    let Header { seed, for_ms, workers, clients, networked } = plan.header;
    let shared = shared_memory();
    record.story.restart();
    let span = display_duration(Duration::from_millis(for_ms));
    let net = if networked { ", each on a host of its own" } else { "" };
    record.story.tell(
        About::Run,
        format_args!(
            "seed {seed}: {workers} workers{net}, {clients} clients, {} faults in {span}; logs in {}",
            plan.faults.len(),
            cluster.setup().folder.display()
        ),
    );
    let submitted = options.submitted;
    let client = |number, query_max| Client { number, cluster, questions, record, query_max, submitted };
    let mut watch = Watch::default();
    thread::scope(|scope| {
        scope.spawn(|| strike(cluster, record, &plan.faults));
        scope.spawn(|| watch.on(cluster, record));
        for number in 0..clients {
            let client = client(number, options.query_max);
            scope.spawn(move || client.ask_on(seed));
        }
        if record.pause(Duration::from_millis(for_ms)) {
            record.end(End::Time);
        } else {
            // Nobody is waited for: the clients' commands end at once.
            cluster.kill_all();
        }
    });
    if record.has_ended() == Some(End::Time) {
        record.story.tell(About::Run, "no fault comes any more");
        calm_down(cluster, &client(clients, CALM_MAX), record);
        watch.growing().into_iter().for_each(|what| record.breach(what));
        leave(cluster, record, &shared);
    }
    watch
}

/// Without faults the cluster becomes whole and idle, and answers.
fn calm_down(cluster: &Cluster, client: &Client<'_>, record: &Record) {
    let hold = |what: &str, held: anyhow::Result<()>| {
        if let Err(error) = held {
            record.breach(format!("{what}: {error:#}"));
        }
    };
    hold("the cluster is not whole again", cluster.wait_until_whole(RECOVERY_MAX));
    hold("not all slots are free", cluster.wait_until_idle(RECOVERY_MAX));
    for (serial, way) in [(0, Way::Client), (1, Way::Submitted)] {
        let (query, sql) = QUERIES[8];
        client.ask(serial, query, sql, way, false);
    }
    hold("not all slots are free at the end", cluster.wait_until_idle(RECOVERY_MAX));
}

/// All processes end when asked to, and leave nothing.
fn leave(cluster: &Cluster, record: &Record, shared: &BTreeSet<String>) {
    if let Err(error) = cluster.stop() {
        record.breach(format!("{error:#}"));
    }
    let left = proc::marked(&cluster.setup().mark);
    if !left.is_empty() {
        let all: Vec<_> =
            left.iter().map(|&pid| format!("{pid} {}", proc::arguments(pid).join(" "))).collect();
        record.breach(format!("processes are left: {}", all.join(", ")));
    }
    for worker in 0..cluster.setup().workers {
        let files = files_below(&cluster.scratch(worker)).map(|mut files| {
            files.retain(|path| !stays(path));
            files
        });
        match files {
            Ok(files) if files.is_empty() => {}
            Ok(files) => record.breach(format!("files are left on the scratch of w{worker}: {files:?}")),
            Err(error) => record.breach(format!("the scratch of w{worker} cannot be read: {error:#}")),
        }
    }
    let more: Vec<_> = shared_memory().difference(shared).cloned().collect();
    if !more.is_empty() {
        record.breach(format!("shared memory is left: {more:?}"));
    }
    for log in files_below(&cluster.logs()).unwrap_or_default() {
        let text = fs::read(&log).unwrap_or_default();
        if let Some(line) = String::from_utf8_lossy(&text).lines().find(|line| line.contains("panicked at")) {
            record.breach(format!("a process panicked: {line} ({})", log.display()));
        }
    }
}

/// The named segments of shared memory that the project's processes could have made.
fn shared_memory() -> BTreeSet<String> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("firesteel")).collect()
}
