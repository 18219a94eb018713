//! The executor as a process of its own: what the hidden `firesteel executor` command runs.
//!
//! Its worker starts it with an [`ExecutorProcessConfig`] as one line of JSON on standard input, and keeps that input
//! open for as long as it lives: the executor ends when it reaches the end of it, or on SIGTERM. When it is ready it
//! prints one line of JSON, [`Ready`], on standard output. Its log goes to standard error. The epoch comes by the
//! Status call of its gRPC service.
//!
//! The command needs no arguments:
//!
//! ```no_run
//! # fn main() -> Result<(), firesteel_base::UserError> {
//! firesteel_executor::process::run_from_stdin()
//! # }
//! ```

use std::io::{BufRead, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{ByteSize, ExecutorId, UserError};
use firesteel_certs::{Handover, Security};
use firesteel_hw::core_loop::LoopKind;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::{BlockSettings, ExecutorConfig, Limits};
use crate::executor::{Executor, host_port};
use crate::shell;

/// What a worker tells the executor process that it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutorProcessConfig {
    /// Who it is.
    pub id: ExecutorId,
    /// The address to listen on, with ports that the system chooses.
    pub listen_host: String,
    /// The host that others reach it under.
    pub advertise_host: String,
    /// One entry a core thread: the CPU it is pinned to, or `null` to let it move.
    pub cores: Vec<Option<u32>>,
    /// CPUs of the control plane; empty: any.
    pub control_cpus: Vec<u32>,
    /// The NUMA node that core threads take their memory from.
    pub numa_node: Option<u32>,
    /// All the memory it may use.
    pub memory: ByteSize,
    /// Folders for spilled state and shuffle blocks.
    pub scratch: Vec<PathBuf>,
    /// The name of the socket of its worker's keeper of blocks.
    pub keeper: Option<String>,
    /// How it keeps, sends and fetches blocks.
    pub blocks: BlockSettings,
    /// How its connections are secured. A secret is in it: it comes on standard input and goes nowhere else.
    pub security: Handover,
    /// How long each step of its end may take, in milliseconds.
    pub shutdown_ms: u64,
}

/// What an executor process prints on standard output when it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// `host:port` of its gRPC service.
    pub control: String,
    /// `host:port` of its block server.
    pub shuffle: String,
    /// Its process id.
    pub pid: u32,
}

/// Threads of the control plane. It moves messages and block bytes; queries never run there.
const CONTROL_THREADS: usize = 2;

/// How long what is left on the control runtime may take to end after everything was shut down.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// Reads the configuration from the first line of standard input and runs an executor until the input ends.
///
/// # Errors
/// When the line is no configuration, or the executor cannot be started.
pub fn run_from_stdin() -> Result<(), UserError> {
    let mut line = String::new();
    let no_config = |detail: String| {
        UserError::new("the executor got no configuration")
            .detail(detail)
            .hint("executors are started by `firesteel worker`; start that instead")
    };
    std::io::stdin().lock().read_line(&mut line).map_err(|fault| no_config(fault.to_string()))?;
    let config = serde_json::from_str(&line).map_err(|fault| no_config(fault.to_string()))?;
    run(config)
}

/// Runs an executor on runtimes of its own until standard input ends or SIGTERM comes. Call it outside of any runtime.
///
/// # Errors
/// When the executor cannot be started as configured.
pub fn run(config: ExecutorProcessConfig) -> Result<(), UserError> {
    pin_control(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|fault| UserError::new("cannot start the control runtime").detail(fault.to_string()))?;
    let ended = runtime.block_on(serve_until_told(config));
    runtime.shutdown_timeout(RUNTIME_END);
    ended
}

/// Pins this thread, and by that all control threads it starts, to the control plane's CPUs. Core threads pin
/// themselves; one that is not pinned would inherit this, so then nothing is.
fn pin_control(config: &ExecutorProcessConfig) -> Result<(), UserError> {
    if config.control_cpus.is_empty() || config.cores.contains(&None) {
        return Ok(());
    }
    firesteel_hw::pin::pin_thread_to(&config.control_cpus).map_err(|fault| {
        UserError::new(format!("executor {} cannot pin its control plane", config.id))
            .detail(fault.to_string())
    })?;
    Ok(())
}

async fn serve_until_told(config: ExecutorProcessConfig) -> Result<(), UserError> {
    let shutdown = Duration::from_millis(config.shutdown_ms);
    let security = config.security.clone().accept()?;
    let control = listen(&config.listen_host)?;
    let blocks = listen(&config.listen_host)?;
    let control_address = host_port(&config.advertise_host, port(&control)?);
    let executor = Executor::start(executor_config(config, security.clone(), control_address, blocks))?;
    executor.guard_process_memory()?;
    let end = CancellationToken::new();
    let control = tokio::net::TcpListener::from_std(control).map_err(|fault| no_listener(&fault))?;
    let ended = end.clone().cancelled_owned();
    let served = tokio::spawn(shell::serve(Arc::clone(&executor), control, security, ended));
    let told = told_to_end()?;
    announce(&executor)?;
    let why = told.await;
    tracing::info!(executor = %executor.id(), why, "ending");
    executor.shutdown(shutdown).await;
    end.cancel();
    match tokio::time::timeout(shutdown, served).await {
        Ok(Ok(served)) => served,
        // Somebody holds on to a stream: it breaks when this process ends.
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

fn executor_config(
    config: ExecutorProcessConfig,
    security: Security,
    control_address: String,
    block_listener: TcpListener,
) -> ExecutorConfig {
    let choice = LoopKind::best();
    tracing::info!(kind = ?choice.kind, reason = %choice.reason, "core threads");
    ExecutorConfig {
        id: config.id,
        cores: config.cores,
        numa_node: config.numa_node,
        memory: config.memory,
        scratch: config.scratch,
        loop_kind: choice.kind,
        block_listener: Some(block_listener),
        advertise_host: config.advertise_host,
        control_address,
        keeper: config.keeper,
        blocks: config.blocks,
        security,
        limits: Limits::default(),
    }
}

fn announce(executor: &Executor) -> Result<(), UserError> {
    let ready = Ready {
        control: executor.control_address().to_owned(),
        shuffle: executor.shuffle_address().to_owned(),
        pid: std::process::id(),
    };
    let line = serde_json::to_string(&ready).expect("plain data becomes JSON");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|fault| {
        UserError::new(format!("executor {} cannot tell its worker that it is ready", executor.id()))
            .detail(fault.to_string())
    })
}

/// Completes, with the reason, when this process is to end.
fn told_to_end() -> Result<impl Future<Output = &'static str>, UserError> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|fault| UserError::new("cannot listen for SIGTERM").detail(fault.to_string()))?;
    let (gone, worker_gone) = oneshot::channel::<()>();
    // A thread of its own: a read from standard input cannot be taken back, and must not hold up the runtime's end.
    std::thread::spawn(move || {
        drain(std::io::stdin().lock());
        drop(gone);
    });
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = worker_gone => "the worker is gone",
        }
    })
}

fn drain(mut input: impl Read) {
    let mut sink = [0; 256];
    loop {
        match input.read(&mut sink) {
            Ok(1..) => {}
            Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn listen(host: &str) -> Result<TcpListener, UserError> {
    let listener = TcpListener::bind((host, 0)).map_err(|fault| {
        UserError::new(format!("cannot listen on {host}"))
            .detail(fault.to_string())
            .hint("name an address of this host, or 0.0.0.0 for all of them")
    })?;
    listener.set_nonblocking(true).map_err(|fault| no_listener(&fault))?;
    Ok(listener)
}

fn port(listener: &TcpListener) -> Result<u16, UserError> {
    Ok(listener.local_addr().map_err(|fault| no_listener(&fault))?.port())
}

fn no_listener(fault: &std::io::Error) -> UserError {
    UserError::new("a listening socket cannot be used").detail(fault.to_string())
}
