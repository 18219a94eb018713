//! `firesteel worker`

use std::fmt::Display;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use firesteel_base::config::{Config, ExecutorSettings, HostPort, WorkerSettings, address_list};
use firesteel_base::service::ServiceManager;
use firesteel_base::{UserError, WorkerId};
use firesteel_certs::{Role, Security};
use firesteel_executor::BlockSettings;
use firesteel_executor::worker::{
    self, CgroupMode, CgroupSettings, ChildCommand, DriverSettings, RestartPolicy, ResultLimits, RunAs,
    WorkerConfig, WorkerLimits,
};
use firesteel_hw::layout::{LayoutRequest, plan_executors};
use firesteel_hw::topology::Topology;

use crate::args::{Flags, Global};
use crate::context::{self, Context};
use crate::exit::{Exit, Failure};
use crate::runtime;
use crate::signals::Stop;
use crate::supervision::{SupervisedArgs, drain_then_stop};

const EXAMPLES: &str = "\
Examples:
  firesteel worker --manager head:7400
  firesteel worker --manager head:7400 --memory 96GiB --scratch /nvme0/firesteel,/nvme1/firesteel

A worker starts one executor for each NUMA node of its host, restarts one that dies, and keeps the results of cluster-mode
jobs. SIGTERM stops it once what runs on it has ended and its blocks have moved, or after worker.drain; a second one, and
Ctrl-C, at once. `firesteel nodes drain` has it leave when nothing of it is needed any more. `firesteel topology` and `firesteel doctor` show what it will
find on this host.";

/// Run the worker of a host
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WorkerArgs {
    /// The cluster's manager; of several all, separated by commas [default: 127.0.0.1:7400]
    #[arg(long, value_name = "HOST:PORT,..")]
    manager: Option<String>,
    /// The worker's name, used by no other worker of the cluster [default: the host's name]
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// The address to listen on [default: 0.0.0.0:7410]
    #[arg(long, value_name = "HOST:PORT")]
    bind: Option<String>,
    /// The name or address under which others reach this host [default: that from which it reaches the manager]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// How many executors to start [default: one for each NUMA node]
    #[arg(long, value_name = "N")]
    executors: Option<String>,
    /// Core threads over all executors [default: all cores but those kept for the control plane]
    #[arg(long, value_name = "N")]
    cores: Option<String>,
    /// Memory of each executor, such as 96GiB [default: its share of three quarters of the host's]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Folders for what does not fit in memory, separated by commas [default: /var/tmp/firesteel]
    #[arg(long, value_name = "DIRS")]
    scratch: Option<String>,
    /// The rack that this host stands in
    #[arg(long, value_name = "NAME")]
    rack: Option<String>,
    /// The CPUs to use, such as 0-3,8 [default: all that this process may use]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    #[command(flatten)]
    supervised: SupervisedArgs,
}

impl WorkerArgs {
    fn flags(&self) -> Flags {
        let mut flags = Flags::default();
        flags.put("worker.manager", "--manager", self.manager.as_ref());
        flags.put("worker.id", "--id", self.id.as_ref());
        flags.put("worker.bind", "--bind", self.bind.as_ref());
        flags.put("worker.advertise", "--advertise", self.advertise.as_ref());
        flags.put("worker.executors", "--executors", self.executors.as_ref());
        flags.put("worker.cores", "--cores", self.cores.as_ref());
        flags.put("worker.memory", "--memory", self.memory.as_ref());
        flags.put("worker.scratch", "--scratch", self.scratch.as_ref());
        flags.put("worker.rack", "--rack", self.rack.as_ref());
        flags.put("worker.cpus", "--cpus", self.cpus.as_ref());
        flags
    }
}

/// Runs the command.
pub fn run(global: &Global, args: WorkerArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, args.flags().0, context::Role::Daemon)?;
    let security = context.daemon_security(Role::Worker)?;
    runtime::run(async {
        let stop = Stop::listen()?;
        let config = worker_config(&context, global, security).await?;
        worker::run(config, drain_then_stop(stop, args.supervised)).await?;
        Ok(Exit::Done)
    })
}

fn block_settings(executor: &ExecutorSettings) -> Result<BlockSettings, Failure> {
    Ok(BlockSettings {
        memory_fraction: executor.block_memory_fraction,
        transport: word("executor.transport", executor.transport)?,
        scratch_engine: word("executor.scratch_engine", executor.scratch_engine)?,
        scratch_direct: executor.scratch_direct,
        link_compression: word("executor.link_compression", executor.link_compression)?,
        scratch_compression: word("executor.scratch_compression", executor.scratch_compression)?,
    })
}

/// What a word of the configuration means, which has been found among those that the key allows.
fn word<T: FromStr<Err: Display>>(key: &str, word: &str) -> Result<T, Failure> {
    word.parse().map_err(|fault: T::Err| UserError::new(format!("{key}: {fault}")).into())
}

async fn worker_config(
    context: &Context,
    global: &Global,
    security: Security,
) -> Result<WorkerConfig, Failure> {
    let Config { worker, executor, .. } = &context.config;
    check_layout(worker)?;
    Ok(WorkerConfig {
        id: worker_id(worker)?,
        manager: address_list(&worker.manager),
        listen: resolve(&worker.bind).await?,
        advertise_host: advertise_host(worker).await?,
        security,
        rack: worker.rack.clone(),
        scratch: worker.scratch.clone(),
        topology: None,
        layout: layout_request(worker),
        pin: worker.pin,
        blocks: block_settings(executor)?,
        executor_command: child(global, "executor")?,
        driver_command: child(global, "driver")?,
        run_as: run_as(worker)?,
        cgroups: CgroupSettings { mode: cgroup_mode(worker), place: None },
        log_folder: worker.log_folder.clone().set().map(PathBuf::from),
        restart: RestartPolicy {
            ends_max: worker.executor_restarts.saturating_add(1),
            window: worker.executor_restart_window,
            ..RestartPolicy::default()
        },
        results: ResultLimits {
            count_max: usize::try_from(worker.results).unwrap_or(usize::MAX),
            bytes_max: worker.results_size,
        },
        keep_blocks: worker.keep_blocks,
        drain: worker.drain,
        drivers: DriverSettings {
            places: worker.drivers.set().map(|places| usize::try_from(places).unwrap_or(usize::MAX)),
            memory: worker.driver_memory,
        },
        metrics: worker.metrics.clone(),
        service: ServiceManager::from_environment().map_err(Failure::usage)?,
        limits: WorkerLimits::default(),
    })
}

/// Whether children get control groups of their own.
pub fn cgroup_mode(worker: &WorkerSettings) -> CgroupMode {
    match worker.cgroups {
        "on" => CgroupMode::On,
        "off" => CgroupMode::Off,
        // The table of keys allows no other word.
        _ => CgroupMode::Auto,
    }
}

/// What the configuration asks of this host.
pub fn layout_request(worker: &WorkerSettings) -> LayoutRequest {
    LayoutRequest {
        executors: worker.executors.set(),
        cores: worker.cores.set(),
        control_cores: worker.control_cores.set(),
        smt: worker.smt,
        memory: worker.memory.set().map(|size| size.0),
        cpus: worker.cpus.clone().set(),
    }
}

/// Refuses what this machine does not have before anything is started.
fn check_layout(worker: &WorkerSettings) -> Result<(), Failure> {
    let topology = Topology::discover().map_err(UserError::from)?;
    plan_executors(&topology, &layout_request(worker)).map_err(|fault| Failure::usage(fault.into()))?;
    Ok(())
}

/// This program in another role, with the global flags that this process was given.
fn child(global: &Global, role: &str) -> Result<ChildCommand, Failure> {
    let mut command = ChildCommand::this_program(&[role])?;
    command.args.extend(global.child_args());
    Ok(command)
}

/// The user that executors run as. That they run as root is said.
fn run_as(worker: &WorkerSettings) -> Result<Option<RunAs>, Failure> {
    let is_root = rustix::process::geteuid().is_root();
    let Some(user) = worker.run_as.clone().set() else {
        if is_root {
            tracing::warn!(
                "executors and drivers run as root: whoever submits a job does so too. Name another user with worker.run_as"
            );
        }
        return Ok(None);
    };
    if !is_root {
        return Err(Failure::usage(
            UserError::new(format!(
                "worker.run_as = '{user}': only root can start processes of another user"
            ))
            .hint("start the worker as that user, and leave worker.run_as out"),
        ));
    }
    find_user(&user).map(Some).ok_or_else(|| {
        Failure::usage(
            UserError::new(format!("worker.run_as = '{user}': there is no such user on this host"))
                .hint("name one of this host's users, or write uid:gid"),
        )
    })
}

fn find_user(user: &str) -> Option<RunAs> {
    if let Some((uid, gid)) = user.split_once(':') {
        return Some(RunAs { uid: uid.parse().ok()?, gid: gid.parse().ok()? });
    }
    let found = uzers::get_user_by_name(user)?;
    Some(RunAs { uid: found.uid(), gid: found.primary_group_id() })
}

fn worker_id(worker: &WorkerSettings) -> Result<WorkerId, Failure> {
    let name = worker.id.clone().set().unwrap_or_else(host_name);
    name.parse().map_err(|fault| {
        Failure::usage(
            UserError::new(format!("this host's name cannot be the worker's: {fault}"))
                .hint("give the worker a name with --id NAME (worker.id)"),
        )
    })
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

async fn resolve(address: &HostPort) -> Result<SocketAddr, Failure> {
    let mut found =
        tokio::net::lookup_host((address.host.as_str(), address.port)).await.map_err(|fault| {
            Failure::usage(
                UserError::new(format!("'{}' is not the name or address of a host", address.host))
                    .detail(fault.to_string())
                    .hint("write it as host:port, for example 0.0.0.0:7410"),
            )
        })?;
    found.next().ok_or_else(|| {
        Failure::usage(UserError::new(format!("the host name '{}' has no address", address.host)))
    })
}

/// The first address that can be told. Of several managers one may have a name that nobody knows at the moment.
async fn resolve_any(addresses: &[HostPort]) -> Result<SocketAddr, Failure> {
    let mut last = None;
    for address in addresses {
        match resolve(address).await {
            Ok(found) => return Ok(found),
            Err(failure) => last = Some(failure),
        }
    }
    Err(last.expect("at least one manager is named"))
}

/// What others reach this host under: what is set, the address it is bound to, or that from which it reaches the manager.
async fn advertise_host(worker: &WorkerSettings) -> Result<String, Failure> {
    if let Some(host) = worker.advertise.clone().set() {
        return Ok(host);
    }
    let bound = resolve(&worker.bind).await?;
    if !bound.ip().is_unspecified() {
        return Ok(bound.ip().to_string());
    }
    let manager = resolve_any(&worker.manager).await?;
    outgoing_address(manager).map_err(|fault| {
        Failure::usage(
            UserError::new(format!(
                "cannot tell from which address this host reaches the manager at {manager}"
            ))
            .detail(fault.to_string())
            .hint("name this host's address with --advertise HOST (worker.advertise)"),
        )
    })
}

/// The address that the kernel would send from. Nothing is sent.
fn outgoing_address(to: SocketAddr) -> std::io::Result<String> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip().to_string())
}
