//! `firesteel-sim beats`: what heartbeats cost a manager with its shell and gRPC, over loopback.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use firesteel_base::version;
use firesteel_certs::Security;
use firesteel_manager::shell::grpc;
use firesteel_manager::{Manager, ManagerConfig};
use firesteel_protocol::channel::{self, Server};
use firesteel_protocol::v1::manager_client::ManagerClient;
use firesteel_protocol::v1::{self, worker_to_manager::Message};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

/// The names of the threads, of which the kernel tells how long each has run.
const MANAGER: &str = "beats-manager";
const WORKERS: &str = "beats-workers";
/// So many workers register at a time.
const REGISTER_AT_A_TIME: u32 = 50;

/// What `firesteel-sim beats` is told.
#[derive(Debug, Args)]
pub struct BeatsArgs {
    /// Workers, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: u32,
    /// How often each of them is heard, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    every: u64,
    /// For how many seconds that is measured.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs a manager and workers that do nothing but beat, and tells what that came to.
pub fn beats(args: &BeatsArgs) -> ExitCode {
    match measure(args) {
        Ok(measured) => {
            println!("{}", if args.json { measured.json(args) } else { measured.text(args) });
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!(
                "error: {fault}\n hint: each worker takes two open files; `ulimit -n` says how many there may be"
            );
            ExitCode::FAILURE
        }
    }
}

struct Measured {
    beats: u64,
    took: Duration,
    manager: Duration,
    workers: Duration,
    /// Bytes that the process has grown by for each worker's session, both ends of it.
    session_bytes: u64,
}

impl Measured {
    fn micros_per_beat(&self, span: Duration) -> f64 {
        span.as_secs_f64() * 1e6 / self.beats.max(1) as f64
    }

    fn text(&self, args: &BeatsArgs) -> String {
        format!(
            "{} workers, each heard every {} ms\n  {:.0} heartbeats a second\n  manager        {:.1} us of processor time each\n  \
             workers        {:.1} us\n  memory         {} for a session, both of its ends",
            args.workers,
            args.every,
            self.beats as f64 / self.took.as_secs_f64(),
            self.micros_per_beat(self.manager),
            self.micros_per_beat(self.workers),
            firesteel_base::ByteSize(self.session_bytes)
        )
    }

    fn json(&self, args: &BeatsArgs) -> String {
        json!({
            "workers": args.workers,
            "every_ms": args.every,
            "beats_per_second": self.beats as f64 / self.took.as_secs_f64(),
            "manager_us_per_beat": self.micros_per_beat(self.manager),
            "workers_us_per_beat": self.micros_per_beat(self.workers),
            "session_bytes": self.session_bytes,
        })
        .to_string()
    }
}

fn measure(args: &BeatsArgs) -> Result<Measured, String> {
    let (managers, workers) = (runtime(MANAGER)?, runtime(WORKERS)?);
    let listener = managers.block_on(TcpListener::bind("127.0.0.1:0")).map_err(|fault| fault.to_string())?;
    let address = listener.local_addr().map_err(|fault| fault.to_string())?.to_string();
    managers.spawn(async move {
        let manager = Manager::start(ManagerConfig::default());
        if let Err(error) = grpc::serve(manager, listener, Security::default(), std::future::pending()).await
        {
            eprintln!("error: {error}");
        }
    });
    let before = resident_bytes();
    let sent = Arc::new(AtomicU64::new(0));
    let mut sessions = workers.block_on(register_all(args, &address, &sent))?;
    let session_bytes = resident_bytes().saturating_sub(before) / u64::from(args.workers);
    let (began, counted) = (Instant::now(), sent.load(Ordering::Relaxed));
    let (manager, worker) = (processor_time(MANAGER), processor_time(WORKERS));
    workers.block_on(async {
        tokio::select! {
            ended = sessions.join_next() => Err(format!("a session ended: {ended:?}")),
            () = tokio::time::sleep(Duration::from_secs(args.seconds)) => Ok(()),
        }
    })?;
    Ok(Measured {
        beats: sent.load(Ordering::Relaxed) - counted,
        took: began.elapsed(),
        manager: processor_time(MANAGER).saturating_sub(manager),
        workers: processor_time(WORKERS).saturating_sub(worker),
        session_bytes,
    })
}

fn runtime(name: &str) -> Result<Runtime, String> {
    let built = Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build();
    built.map_err(|fault| fault.to_string())
}

async fn register_all(args: &BeatsArgs, address: &str, sent: &Arc<AtomicU64>) -> Result<JoinSet<()>, String> {
    let mut sessions = JoinSet::new();
    let mut next = 0;
    while next < args.workers {
        let last = (next + REGISTER_AT_A_TIME).min(args.workers);
        let mut registering = JoinSet::new();
        for worker in next..last {
            registering.spawn(register(worker, address.to_owned()));
        }
        while let Some(registered) = registering.join_next().await {
            let session = registered.map_err(|fault| fault.to_string())??;
            sessions.spawn(beat(session, Duration::from_millis(args.every), Arc::clone(sent)));
        }
        next = last;
    }
    Ok(sessions)
}

struct Session {
    says: mpsc::Sender<v1::WorkerToManager>,
    hears: tonic::Streaming<v1::ManagerToWorker>,
}

async fn register(number: u32, address: String) -> Result<Session, String> {
    let (says, said) = mpsc::channel(4);
    let register = v1::RegisterWorker {
        wire_version: version::WIRE_OLDEST,
        wire_newest: version::WIRE,
        release: version::RELEASE.to_owned(),
        worker: format!("node{number:06}"),
        incarnation: format!("{number:032x}"),
        address: "127.0.0.1:1".to_owned(),
        host: format!("host{number:06}"),
        executors: vec![v1::ExecutorSpec { slots: 8, memory_bytes: 1 << 35, ..v1::ExecutorSpec::default() }],
        ..v1::RegisterWorker::default()
    };
    let first = v1::WorkerToManager { message: Some(Message::Register(register)) };
    says.send(first).await.map_err(|fault| fault.to_string())?;
    let channel = channel::connect(&Security::default(), Server::Manager, &address)
        .await
        .map_err(|error| error.to_string())?;
    let answer = ManagerClient::new(channel).worker_session(ReceiverStream::new(said)).await;
    let hears = answer.map_err(|status| status.to_string())?.into_inner();
    Ok(Session { says, hears })
}

/// Beats until the session ends.
async fn beat(mut session: Session, every: Duration, sent: Arc<AtomicU64>) {
    let mut ticks = tokio::time::interval(every);
    loop {
        tokio::select! {
            heard = session.hears.message() => match heard {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
            _ = ticks.tick() => {
                let usage = v1::ExecutorUsage { running_attempts: 8, memory_used: 1 << 34, answers: 1, ..v1::ExecutorUsage::default() };
                let beat = Message::Heartbeat(v1::WorkerHeartbeat { executors: vec![usage] });
                if session.says.send(v1::WorkerToManager { message: Some(beat) }).await.is_err() {
                    return;
                }
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// For how long the threads of that name have had a processor.
fn processor_time(name: &str) -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let of = |thread: std::fs::DirEntry| {
        let comm = std::fs::read_to_string(thread.path().join("comm")).ok()?;
        let told = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanos: u64 = told.split_whitespace().next()?.parse().ok()?;
        (comm.trim() == name).then(|| Duration::from_nanos(nanos))
    };
    threads.filter_map(Result::ok).filter_map(of).sum()
}

fn resident_bytes() -> u64 {
    let told = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
