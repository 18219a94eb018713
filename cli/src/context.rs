//! What every command has at hand: the configuration, and how much to say.

use std::path::Path;

use firesteel_base::config::{self, Auto, Config, Flag, Inputs, LogSettings, address_list};
use firesteel_base::telemetry;
use firesteel_certs::Security;
use firesteel_protocol::managers::Managers;
use firesteel_protocol::token::{Credential, Secret};

use crate::args::Global;
use crate::exit::Failure;

/// The manager that commands talk to when none is set.
const LOCAL_MANAGER: &str = "127.0.0.1:7400";

/// The environment variable with a client's token.
const TOKEN_VARIABLE: &str = "FIRESTEEL_TOKEN";

/// The configuration, and how much to say.
#[derive(Debug)]
pub struct Context {
    /// Every setting.
    pub config: Config,
    /// Nothing but errors on standard error.
    pub quiet: bool,
}

/// A cluster, and as whose client it is talked to.
#[derive(Debug, Clone)]
pub struct Client {
    /// The managers, separated by commas.
    pub manager: String,
    /// How they are talked to.
    pub security: Security,
    /// The queue of its jobs; empty for the default one.
    pub queue: String,
    /// What is shown to the manager.
    pub credential: Credential,
}

impl Client {
    /// A client with nothing of its own set.
    pub fn of(manager: impl Into<String>) -> Self {
        let (security, credential) = (Security::default(), Credential::default());
        Self { manager: manager.into(), security, queue: String::new(), credential }
    }

    /// The managers, and how they are talked to.
    pub fn managers(&self) -> Managers {
        Managers::of(&self.manager, self.security.clone())
    }
}

/// Whether a process serves others or answers a person; it decides what is logged by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Manager, worker, executor, driver.
    Daemon,
    /// Everything else.
    Command,
}

impl Context {
    /// Reads the configuration, with the command's own flags laid over it, and sets up logging.
    pub fn load(global: &Global, mut flags: Vec<Flag>, role: Role) -> Result<Self, Failure> {
        flags.extend(global.flags());
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        let inputs = Inputs { file: global.config.clone(), environment: environment.collect(), flags };
        let config = config::load(&inputs)?;
        start_logging(&config.log, role);
        Ok(Self { config, quiet: global.quiet })
    }

    /// The cluster to talk to.
    pub fn client(&self) -> Result<Client, Failure> {
        match self.client_if_set()? {
            Some(client) => Ok(client),
            None => self.client_of(LOCAL_MANAGER.to_owned()),
        }
    }

    /// The cluster to talk to, if any is set anywhere.
    pub fn client_if_set(&self) -> Result<Option<Client>, Failure> {
        let addresses = self.config.client.manager.clone().set();
        addresses.map(|addresses| self.client_of(address_list(&addresses))).transpose()
    }

    fn client_of(&self, manager: String) -> Result<Client, Failure> {
        let secret = match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.trim().is_empty() => Some(Secret::new(token.trim())),
            Ok(_) | Err(_) => {
                let file = self.config.client.token_file.clone().set();
                file.map(|file| Secret::read(Path::new(&file))).transpose()?
            }
        };
        let credential = secret.map(|secret| Credential::of(&secret)).transpose()?.unwrap_or_default();
        let (security, queue) = (self.client_security()?, self.config.client.queue.clone());
        Ok(Client { manager, security, queue, credential })
    }

    /// How a command talks to a cluster.
    fn client_security(&self) -> Result<Security, Failure> {
        let security = Security::of_client(&self.config.security).map_err(Failure::usage)?;
        say_when_it_ends(&security);
        Ok(security)
    }

    /// How a daemon of that role secures its connections. That it does not is said whatever is logged.
    pub fn daemon_security(&self, role: firesteel_certs::Role) -> Result<Security, Failure> {
        let security = Security::of_daemon(&self.config.security, role).map_err(Failure::usage)?;
        match security.tls() {
            None => {
                let said = format!(
                    "this {role} has no certificates and no TLS (security.insecure): whoever reaches its ports may run code \
                     here, and read all data"
                );
                eprintln!("WARNING: {said}");
                tracing::warn!("{said}");
            }
            Some(tls) => {
                tracing::info!(who = %tls.identity(), until = tls.certificate().end(), "secured by certificates");
                say_when_it_ends(&security);
            }
        }
        Ok(security)
    }

    /// Says something that is neither result nor error, on standard error.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}

fn say_when_it_ends(security: &Security) {
    if let Some(tls) = security.tls().filter(|tls| tls.ends_soon().is_some()) {
        let until = tls.certificate().end();
        tracing::warn!(who = %tls.identity(), until, "the certificate ends soon: issue a new one with `firesteel certs issue`");
    }
}

fn start_logging(log: &LogSettings, role: Role) {
    let default = match role {
        // The consensus library tells of each call that failed; what matters of it the manager tells itself.
        Role::Daemon => "info,openraft=off",
        // In local mode the manager is part of this process, and its worker leaves with every session.
        Role::Command => "warn,firesteel_manager=error",
    };
    let filter = match &log.level {
        Auto::Auto => default,
        Auto::Set(level) => level,
    };
    telemetry::init(filter, log.format, std::io::stderr);
}
