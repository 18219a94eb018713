//! `firesteel manager`

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use firesteel_base::UserError;
use firesteel_base::config::{HostPort, ManagerSettings};
use firesteel_manager::{Journal, Manager, ManagerConfig, shell::grpc};
use tokio::net::TcpListener;

use crate::args::{Flags, Global};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::print;
use crate::runtime;
use crate::signals::Stop;
use crate::supervision::{SupervisedArgs, stop_asked};

const EXAMPLES: &str = "\
Examples:
  firesteel manager
  firesteel manager --bind 10.0.0.1:7400 --state /var/lib/firesteel

The manager lends the cluster's slots to jobs. One runs in a cluster, on any host that all workers and clients reach.
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
    #[command(flatten)]
    supervised: SupervisedArgs,
}

/// Runs the command.
pub fn run(global: &Global, args: ManagerArgs) -> Result<Exit, Failure> {
    let mut flags = Flags::default();
    flags.put("manager.bind", "--bind", args.bind.as_ref());
    flags.put("manager.state", "--state", args.state.as_ref());
    let context = Context::load(global, flags.0, Role::Daemon)?;
    let settings = &context.config.manager;
    runtime::run(async {
        let stop = Stop::listen()?;
        let listener = listen("manager", "manager.bind", &settings.bind).await?;
        let address =
            listener.local_addr().map_or_else(|_| settings.bind.to_string(), |bound| bound.to_string());
        let manager = start(settings)?;
        tracing::info!(%address, "manager ready");
        print(&format!("manager ready at {address}\n"))?;
        grpc::serve(manager, listener, stop_asked(stop, args.supervised)).await?;
        Ok(Exit::Done)
    })
}

/// Whether another manager has the journal is found out before anybody hears of this one.
fn start(settings: &ManagerSettings) -> Result<Arc<Manager>, Failure> {
    let config = manager_config(settings);
    let Some(folder) = settings.state.clone().set() else {
        tracing::info!("no manager.state is set: submitted jobs are lost with this manager");
        return Ok(Manager::start(config));
    };
    Ok(Manager::start_with_journal(config, Journal::open(Path::new(&folder))?))
}

fn manager_config(settings: &ManagerSettings) -> ManagerConfig {
    ManagerConfig {
        heartbeat: settings.heartbeat,
        node_suspect_after: settings.node_suspect_after,
        node_timeout: settings.node_timeout,
        driver_timeout: settings.driver_timeout,
        ..ManagerConfig::default()
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
