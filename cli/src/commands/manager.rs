//! `firesteel manager`

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use firesteel_base::UserError;
use firesteel_base::config::{HostPort, ManagerSettings};
use firesteel_base::service::ServiceManager;
use firesteel_certs::{Role, Security};
use firesteel_manager::{
    Guard, Journal, Limits, Manager, ManagerConfig, ManagerMetrics, Member, Peers, shell::grpc,
};
use firesteel_metrics::Served;
use tokio::net::TcpListener;

use crate::args::{Flags, Global};
use crate::context::{self, Context};
use crate::exit::{Exit, Failure};
use crate::output::results::print;
use crate::runtime;
use crate::signals::Stop;
use crate::supervision::{SupervisedArgs, stop_asked};

const EXAMPLES: &str = "\
Examples:
  firesteel manager                                               # with security.folder set, see `firesteel certs`
  firesteel manager --bind 10.0.0.1:7400 --state /var/lib/firesteel
  firesteel manager --peers a:7400,b:7400,c:7400 --state /var/lib/firesteel    # on each of the hosts a, b and c

The manager lends the cluster's slots to jobs. One is enough, on any host that all workers and clients reach. Of three one leads,
and another one takes its place within 5 s when it is gone; workers and clients are given all: --manager a:7400,b:7400,c:7400.
SIGTERM and Ctrl-C stop it cleanly. It prints its address when it is ready.

When it is stopped or dies, what runs goes on, and is found again by the manager that is started in its place. With --state
that one also knows the jobs that were submitted, and the history.";

/// Run the manager of a cluster
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ManagerArgs {
    /// The address to listen on [default: 0.0.0.0:7400]
    #[arg(long, value_name = "HOST:PORT")]
    bind: Option<String>,
    /// The folder for what must outlive the manager [default: nothing is kept]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// All managers of the cluster, this one included: three or five, the same list for each [default: this one is alone]
    #[arg(long, value_name = "HOST:PORT,..")]
    peers: Option<String>,
    /// Which of them this one is [default: the one with an address of this host and the port of --bind]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    #[command(flatten)]
    supervised: SupervisedArgs,
}

/// Runs the command.
pub fn run(global: &Global, args: ManagerArgs) -> Result<Exit, Failure> {
    let mut flags = Flags::default();
    flags.put("manager.bind", "--bind", args.bind.as_ref());
    flags.put("manager.state", "--state", args.state.as_ref());
    flags.put("manager.peers", "--peers", args.peers.as_ref());
    flags.put("manager.advertise", "--advertise", args.advertise.as_ref());
    let context = Context::load(global, flags.0, context::Role::Daemon)?;
    let settings = &context.config.manager;
    let security = context.daemon_security(Role::Manager)?;
    let service = ServiceManager::from_environment().map_err(Failure::usage)?;
    runtime::run(async {
        let stop = Stop::listen()?;
        let listener = listen("manager", "manager.bind", &settings.bind).await?;
        let address =
            listener.local_addr().map_or_else(|_| settings.bind.to_string(), |bound| bound.to_string());
        let metrics =
            firesteel_metrics::open("manager", "manager.metrics", settings.metrics.as_ref()).await?;
        let stop = stop_told(stop, args.supervised, service.clone());
        match several(settings) {
            Some(peers) => {
                let member = start_member(settings, peers, security.clone()).await?;
                let told = ManagerMetrics::member(&member, &security);
                let _told = metrics.map(|listener| Served::start(listener, told));
                ready(&address, &service)?;
                grpc::serve_member(member, listener, security, stop).await?;
            }
            None => {
                let manager = start(settings)?;
                let told = ManagerMetrics::alone(&manager, &security);
                let _told = metrics.map(|listener| Served::start(listener, told));
                ready(&address, &service)?;
                grpc::serve(manager, listener, security, stop).await?;
            }
        }
        Ok(Exit::Done)
    })
}

fn ready(address: &str, service: &ServiceManager) -> Result<(), Failure> {
    tracing::info!(%address, "manager ready");
    service.ready(&format!("serves at {address}"));
    print(&format!("manager ready at {address}\n"))
}

/// How long a manager takes at most to end its sessions and to close its journal.
const END_MAX: Duration = Duration::from_secs(30);

/// Completes when the manager is to stop, and tells whoever started it.
async fn stop_told(stop: Stop, supervised: SupervisedArgs, service: ServiceManager) {
    stop_asked(stop, supervised).await;
    service.stopping("stops", END_MAX);
}

/// The list of managers, when there are several.
fn several(settings: &ManagerSettings) -> Option<Vec<HostPort>> {
    settings.peers.clone().set().filter(|peers| peers.len() > 1)
}

async fn start_member(
    settings: &ManagerSettings,
    peers: Vec<HostPort>,
    security: Security,
) -> Result<Arc<Member>, Failure> {
    if peers.len().is_multiple_of(2) {
        let (count, gone) = (peers.len(), (peers.len() - 1) / 2);
        tracing::warn!(
            count,
            "an even number of managers: {count} stand the loss of {gone}, as {} do",
            count - 1
        );
    }
    let advertise = settings.advertise.clone().set();
    let peers = Peers::find(&peers, advertise.as_ref(), &settings.bind).await.map_err(Failure::usage)?;
    if let Ok(me) = peers.my_address().parse::<HostPort>() {
        security.check_host(&me.host).map_err(Failure::usage)?;
    }
    let folder = settings.state.clone().set().expect("several managers have a folder each");
    Ok(Member::start(manager_config(settings)?, peers, security, Path::new(&folder)).await?)
}

/// Whether another manager has the journal is found out before anybody hears of this one.
fn start(settings: &ManagerSettings) -> Result<Arc<Manager>, Failure> {
    let config = manager_config(settings)?;
    let Some(folder) = settings.state.clone().set() else {
        tracing::info!("no manager.state is set: submitted jobs are lost with this manager");
        return Ok(Manager::start(config));
    };
    Ok(Manager::start_with_journal(config, Journal::open(Path::new(&folder))?))
}

fn manager_config(settings: &ManagerSettings) -> Result<ManagerConfig, Failure> {
    let tokens = settings.tokens.clone().set().map(|file| Guard::open(Path::new(&file))).transpose();
    Ok(ManagerConfig {
        tokens: tokens.map_err(with_hint)?.map(Arc::new),
        heartbeat: settings.heartbeat,
        node_suspect_after: settings.node_suspect_after,
        node_timeout: settings.node_timeout,
        driver_timeout: settings.driver_timeout,
        limits: limits(settings),
        ..ManagerConfig::default()
    })
}

fn with_hint(error: UserError) -> Failure {
    let hint = error.hint.clone();
    let hint = hint.unwrap_or_else(|| "`firesteel tokens add` makes the file of manager.tokens".to_owned());
    error.hint(hint).into()
}

/// Who raises one of these limits means it: what is bounded beside it follows.
fn limits(settings: &ManagerSettings) -> Limits {
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let (jobs, defaults) = (count(settings.jobs), Limits::default());
    Limits {
        live_jobs: jobs,
        live_bytes: usize::try_from(settings.jobs_size.0).unwrap_or(usize::MAX),
        queued_jobs: count(settings.queued_jobs),
        open_jobs: count(settings.open_jobs),
        nodes: count(settings.workers),
        drivers: defaults.drivers.max(jobs),
        waiters: defaults.waiters.max(jobs),
        ..defaults
    }
}

/// A listener there, or who may have taken the port and how to choose another one.
async fn listen(role: &str, key: &str, address: &HostPort) -> Result<TcpListener, Failure> {
    TcpListener::bind((address.host.as_str(), address.port)).await.map_err(|fault| {
        let hint = match fault.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "is another {role} running here? Stop it, or choose another port with --bind HOST:PORT ({key})"
            ),
            std::io::ErrorKind::PermissionDenied => {
                format!("ports below 1024 need a privilege: choose another one with --bind HOST:PORT ({key})")
            }
            _ => format!("give an address of this host with --bind HOST:PORT ({key})"),
        };
        UserError::new(format!("the {role} cannot listen on {address}")).detail(fault.to_string()).hint(hint).into()
    })
}
