//! Whether a process's connections are secured, and with what.

use std::path::PathBuf;
use std::sync::Arc;

use firesteel_base::UserError;
use firesteel_base::config::SecuritySettings;
use serde::{Deserialize, Serialize};

use crate::files::{Files, Pem};
use crate::identity::Role;
use crate::tls::Tls;

/// How a process's connections are secured. Clones share what they hold.
#[derive(Debug, Clone)]
pub enum Security {
    /// Not at all: nothing is encrypted, and nobody is asked who they are.
    Plain(Reach),
    /// By certificates at both ends.
    Tls(Arc<Tls>),
}

/// Where plain connections are made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Loopback addresses alone: what goes there leaves no host.
    ThisHost,
    /// Everywhere, as was asked for explicitly.
    Anywhere,
}

impl Default for Security {
    fn default() -> Self {
        Self::Plain(Reach::ThisHost)
    }
}

impl Security {
    /// Of a daemon that serves others: certificates of its role, or plain when that is asked for explicitly.
    ///
    /// # Errors
    /// When neither is configured, or the certificate is not of that role or cannot be used.
    pub fn of_daemon(settings: &SecuritySettings, role: Role) -> Result<Self, UserError> {
        if settings.insecure {
            return Ok(Self::Plain(Reach::Anywhere));
        }
        let tls = Tls::of_files(files(settings).ok_or_else(|| nothing_configured(role))?)?;
        if tls.identity().role != role {
            return Err(UserError::new(format!(
                "the certificate {} is of a {}, not of a {role}",
                tls.files().certificate.display(),
                tls.identity()
            ))
            .hint(format!("issue one with `firesteel certs issue {role}`")));
        }
        Ok(Self::Tls(Arc::new(tls)))
    }

    /// Of a command that asks others: with certificates where they are configured, else plain and on this host alone.
    ///
    /// # Errors
    /// When a certificate is configured that cannot be used.
    pub fn of_client(settings: &SecuritySettings) -> Result<Self, UserError> {
        match files(settings) {
            _ if settings.insecure => Ok(Self::Plain(Reach::Anywhere)),
            Some(files) => Tls::of_files(files).map(|tls| Self::Tls(Arc::new(tls))),
            None => Ok(Self::Plain(Reach::ThisHost)),
        }
    }

    /// The certificates, if it is by them.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls),
        }
    }

    /// Refuses an address for others to reach this process under that its certificate does not name.
    ///
    /// # Errors
    /// When there is a certificate, and it does not name `host`.
    pub fn check_host(&self, host: &str) -> Result<(), UserError> {
        match self.tls() {
            Some(tls) if !tls.covers(host) => Err(UserError::new(format!(
                "the certificate {} does not name '{host}', under which others reach this process",
                tls.files().certificate.display()
            ))
            .detail(format!("it names {}", tls.certificate().hosts.join(", ")))
            .hint("issue one with that name too, or advertise one that it names")),
            Some(_) | None => Ok(()),
        }
    }

    /// The same for a process that this one starts.
    #[must_use]
    pub fn handover(&self) -> Handover {
        match self {
            Self::Plain(reach) => Handover::Plain { anywhere: *reach == Reach::Anywhere },
            Self::Tls(tls) => Handover::Tls { pem: tls.pem(), files: tls.files().clone() },
        }
    }
}

/// What a process is told by the one that starts it, on its standard input: what nobody else can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handover {
    /// Nothing is secured.
    Plain {
        /// Whether plain connections are made to other hosts.
        anywhere: bool,
    },
    /// A certificate and its key, and where they were read: it may be that the process cannot.
    Tls {
        /// What is in the files.
        pem: Pem,
        /// Where they are.
        files: Files,
    },
}

impl Handover {
    /// Makes use of it.
    ///
    /// # Errors
    /// When the certificate has come to its end meanwhile.
    pub fn accept(self) -> Result<Security, UserError> {
        Ok(match self {
            Self::Plain { anywhere: true } => Security::Plain(Reach::Anywhere),
            Self::Plain { anywhere: false } => Security::Plain(Reach::ThisHost),
            Self::Tls { pem, files } => Security::Tls(Arc::new(Tls::new(pem, files)?)),
        })
    }
}

/// The files that are configured: those of a folder, single ones of which may lie elsewhere.
fn files(settings: &SecuritySettings) -> Option<Files> {
    let single = |key: &firesteel_base::config::Auto<String>| key.clone().set().map(PathBuf::from);
    let of_folder = single(&settings.folder).map(|folder| Files::of_folder(&folder));
    let of_folder = |pick: fn(Files) -> PathBuf| of_folder.clone().map(pick);
    Some(Files {
        ca: single(&settings.ca).or_else(|| of_folder(|files| files.ca))?,
        certificate: single(&settings.certificate).or_else(|| of_folder(|files| files.certificate))?,
        key: single(&settings.key).or_else(|| of_folder(|files| files.key))?,
    })
}

fn nothing_configured(role: Role) -> UserError {
    UserError::new(format!("the {role} has no certificate"))
        .detail(
            "without one anybody who reaches its port could run code here: security.folder (or security.ca, \
             security.certificate and security.key) is not set",
        )
        .hint(format!(
            "make one with `firesteel certs init` and `firesteel certs issue {role} HOST`, and set security.folder; \
             or say --insecure (security.insecure = true) where nobody else reaches it"
        ))
}
