//! What faults cost: each kind hits a running query once, at a fixed part of its undisturbed time, and the time until it is noticed,
//! until something is done about it, and until the answer is there is told, beside the undisturbed time.
//!
//! ```text
//!   undisturbed runs ─► median time, the right answer
//!   for each fault:  ask ─► hit at half of that time ─► logs: noticed, acted upon ─► answer, checked ─► the cluster made whole
//!   overhead:        the same queries on a cluster that keeps blocks and a journal and on one that does not, in turn
//! ```

mod ask;
mod case;
mod logs;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use firesteel_base::ByteSize;

use crate::cluster::{Cluster, Setup};
use crate::host::{self, Abilities, PREFIX};
use crate::proc;
use crate::questions::{QUERIES, Questions};
use ask::{Asking, median};
pub use case::Case;
use logs::Logs;
pub use table::{HEAD, Measured, Overhead, Results, Undisturbed};

/// How long a cluster may take to be whole and idle between two measurements.
const RECOVERY_MAX: Duration = Duration::from_secs(90);
/// How long a line is waited for after the answer is there: some faults are noticed after it.
const NOTICED_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// A built `firesteel`.
    pub binary: PathBuf,
    /// TPC-H data of any scale.
    pub data: PathBuf,
    /// Which queries.
    pub queries: Vec<String>,
    /// Which faults.
    pub cases: Vec<Case>,
    /// How often each is measured.
    pub repeats: u32,
    /// How many workers, with one executor each.
    pub workers: u32,
    /// Core threads of each executor.
    pub cores: u32,
    /// Memory of each executor.
    pub memory: ByteSize,
    /// The part of the undisturbed time after which a query is hit.
    pub at: f64,
    /// Whether the overhead of keeping blocks and the journal is measured too.
    pub overhead: bool,
    /// Settings of manager and workers more, by the names of their variables.
    pub conf: Vec<(String, String)>,
}

/// Whether a cluster keeps what outlives its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    Everything,
    Nothing,
}

/// Measures it all, and tells each result as soon as it is there.
///
/// # Errors
/// When the cluster cannot be started, or an undisturbed query fails.
pub fn measure(options: &Options, mut tell: impl FnMut(&str)) -> anyhow::Result<Results> {
    let binary = options.binary.canonicalize();
    let binary = binary.with_context(|| format!("there is no program {}", options.binary.display()))?;
    let questions = Questions::about(&binary, &options.data, None)?;
    host::sweep();
    let folder = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir()?;
    let within = Within { options, binary: &binary, folder: folder.path(), questions: &questions };
    let needs_network = within.needs_network();
    if needs_network && !Abilities::probe().network {
        bail!("worker-cut needs root and network namespaces: leave it out with --faults");
    }
    let mut results = Results::default();
    for query in within.queries()? {
        let cluster =
            within.start(&format!("{}-undisturbed", query.0), Keeping::Everything, needs_network)?;
        let undisturbed = within.undisturbed(&cluster, query, &mut tell)?;
        cluster.stop()?;
        drop(cluster);
        for &case in &options.cases {
            for round in 1..=options.repeats {
                let measured = within.hit_anew(round, query, case, undisturbed.time)?;
                tell(&measured.to_string());
                results.measured.push(measured);
            }
        }
        results.undisturbed.push(undisturbed);
    }
    if options.overhead {
        results.overhead = Some(within.overhead(&mut tell)?);
    }
    Ok(results)
}

/// What all measurements have in common.
struct Within<'a> {
    options: &'a Options,
    binary: &'a Path,
    folder: &'a Path,
    questions: &'a Questions,
}

impl Within<'_> {
    /// Whether each worker must have a network of its own.
    fn needs_network(&self) -> bool {
        self.options.cases.contains(&Case::WorkerCut)
    }

    fn queries(&self) -> anyhow::Result<Vec<(&'static str, &'static str)>> {
        let find = |name: &String| {
            let found = QUERIES.iter().find(|(query, _)| query == name);
            found.copied().with_context(|| format!("there is no query {name}: q01 to q22"))
        };
        self.options.queries.iter().map(find).collect()
    }

    fn start(&self, name: &str, keeping: Keeping, network: bool) -> anyhow::Result<Cluster> {
        let mut conf = vec![
            ("FIRESTEEL_LOG_LEVEL".to_owned(), "info".to_owned()),
            ("FIRESTEEL_WORKER_EXECUTOR_RESTARTS".to_owned(), "1000".to_owned()),
        ];
        if network {
            conf.push(("FIRESTEEL_EXECUTOR_TRANSPORT".to_owned(), "tcp".to_owned()));
        }
        if keeping == Keeping::Nothing {
            conf.push(("FIRESTEEL_WORKER_KEEP_BLOCKS".to_owned(), "false".to_owned()));
        }
        conf.extend(self.options.conf.iter().cloned());
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        Cluster::start(Setup {
            binary: self.binary.to_owned(),
            mark: format!("{}-{name}", self.folder.file_name().unwrap_or_default().to_string_lossy()),
            folder,
            workers: self.options.workers,
            cores: self.options.cores,
            memory: self.options.memory,
            disk: None,
            network,
            journal: keeping == Keeping::Everything,
            conf,
        })
    }

    /// The query's median time, and its answer, which is the right one from then on.
    fn undisturbed(
        &self,
        cluster: &Cluster,
        (name, sql): (&str, &str),
        tell: &mut impl FnMut(&str),
    ) -> anyhow::Result<Undisturbed> {
        let asking = self.asking(cluster);
        // The first run finds files and plans cold.
        asking.ask(name, sql, false)?.answered()?;
        let mut times = Vec::new();
        for _ in 0..self.options.repeats {
            let asked = asking.ask(name, sql, false)?;
            times.push(asked.took);
            fs::write(asking.right(name), asked.answered()?)?;
        }
        let undisturbed = Undisturbed { query: name.to_owned(), time: median(&mut times) };
        tell(&undisturbed.to_string());
        Ok(undisturbed)
    }

    fn asking<'a>(&'a self, cluster: &'a Cluster) -> Asking<'a> {
        Asking { cluster, questions: self.questions, folder: self.folder }
    }

    /// Hits a query on a cluster of its own: what dies again and again is started again later and later.
    fn hit_anew(
        &self,
        round: u32,
        query: (&str, &str),
        case: Case,
        undisturbed: Duration,
    ) -> anyhow::Result<Measured> {
        let cluster =
            self.start(&format!("{}-{case}-{round}", query.0), Keeping::Everything, self.needs_network())?;
        // The first run finds files and plans cold.
        self.asking(&cluster).ask(query.0, query.1, false)?.answered()?;
        let measured = self.hit(&cluster, query, case, undisturbed)?;
        cluster.stop()?;
        Ok(measured)
    }

    /// Asks a query, hits somebody in the middle of it, and looks what comes of it.
    fn hit(
        &self,
        cluster: &Cluster,
        (name, sql): (&str, &str),
        case: Case,
        undisturbed: Duration,
    ) -> anyhow::Result<Measured> {
        cluster.wait_until_whole(RECOVERY_MAX)?;
        cluster.wait_until_idle(RECOVERY_MAX)?;
        let at = undisturbed.mul_f64(self.options.at);
        let asking = self.asking(cluster);
        let mut logs = Logs::from_now(&cluster.logs())?;
        let (asked, hit) = thread::scope(|scope| {
            let asked = scope.spawn(|| asking.ask(name, sql, case.is_of_submitted()));
            thread::sleep(at);
            let since = Instant::now();
            let begun = case.begin(cluster);
            let supervised = scope.spawn(|| case.supervise(cluster));
            let watched = begun.as_ref().ok().map(|_| watch(&mut logs, case, since, &asked));
            let supervised = supervised.join().unwrap_or(Ok(()));
            let hit = begun.and_then(|undo| supervised.map(|()| (undo, watched.unwrap_or_default())));
            (asked.join(), hit)
        });
        let asked = asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (undo, (noticed, acted)) = hit?;
        case.end(cluster, undo)?;
        let is_right = asking.is_right(name, &asked)?;
        cluster.wait_until_whole(RECOVERY_MAX)?;
        Ok(Measured {
            case,
            query: name.to_owned(),
            undisturbed,
            at,
            noticed,
            acted,
            took: asked.took,
            is_right,
            error: asked.error(),
        })
    }

    fn overhead(&self, tell: &mut impl FnMut(&str)) -> anyhow::Result<Overhead> {
        let keeping = self.start("keeping", Keeping::Everything, false)?;
        let nothing = self.start("nothing", Keeping::Nothing, false)?;
        let mut overhead = Overhead::default();
        for (name, sql) in self.queries()? {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            // Whoever comes first has no advantage of it.
            for round in 0..=self.options.repeats {
                for (cluster, times) in [(&keeping, &mut with), (&nothing, &mut without)] {
                    let asked = self.asking(cluster).ask(name, sql, false)?;
                    ensure!(asked.error().is_none(), "{name} failed undisturbed: {:?}", asked.error());
                    if round > 0 {
                        times.push(asked.took);
                    }
                }
            }
            overhead.queries.push((name.to_owned(), median(&mut with), median(&mut without)));
            tell(&overhead.last());
        }
        keeping.stop()?;
        nothing.stop()?;
        Ok(overhead)
    }
}

/// When the logs first told of it after `since`, and when something was done about it.
fn watch<T>(
    logs: &mut Logs,
    case: Case,
    since: Instant,
    asked: &thread::ScopedJoinHandle<'_, T>,
) -> (Option<Duration>, Option<Duration>) {
    let (mut noticed, mut acted) = (None, None);
    let mut answered: Option<Instant> = None;
    loop {
        for line in logs.more() {
            if noticed.is_none() && case.is_noticed_by(&line) {
                noticed = Some(since.elapsed());
            }
            if noticed.is_some() && acted.is_none() && case.is_acted_upon_by(&line) {
                acted = Some(since.elapsed());
            }
        }
        if asked.is_finished() {
            let ended = *answered.get_or_insert_with(Instant::now);
            if acted.is_some() || ended.elapsed() >= NOTICED_MAX {
                return (noticed, acted);
            }
        }
        thread::sleep(POLL);
    }
}

/// The processes of a worker and its executor.
fn of_worker(cluster: &Cluster, worker: u32) -> Vec<u32> {
    let own = cluster.worker(worker);
    own.into_iter().chain(own.map(proc::children).unwrap_or_default()).collect()
}
