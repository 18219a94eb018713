//! Certificates for the processes and clients of a test's cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use firesteel_certs::{Authority, Lifetime, Request, Role};
use tempfile::TempDir;

/// A folder of an authority and of what it issued. Clones are the same; it is removed with the last.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: Arc<TempDir>,
}

impl Certificates {
    /// Those of a cluster of that name on this host: of a `manager`, a `worker` and a `client`, who is called tester.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn of(cluster: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("firesteel-certs-").tempdir()?;
        let all = Self { folder: Arc::new(folder) };
        Authority::create(&all.folder("ca"), cluster, Lifetime::of_days(2))
            .map_err(|fault| anyhow!(fault))?;
        for role in [Role::Manager, Role::Worker, Role::Client] {
            all.issue(role.as_str(), &Self::request(role))?;
        }
        Ok(all)
    }

    /// What is asked for a role on this host.
    #[must_use]
    pub fn request(role: Role) -> Request {
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let serves = role != Role::Client;
        Request {
            role,
            user: (!serves).then(|| "tester".to_owned()),
            hosts: hosts.into_iter().filter(|_| serves).collect(),
            lifetime: Lifetime::of_days(2),
        }
    }

    /// Issues one more, into a folder of that name.
    ///
    /// # Errors
    /// When it cannot be written, or there is one.
    pub fn issue(&self, name: &str, request: &Request) -> anyhow::Result<PathBuf> {
        let authority = Authority::open(&self.folder("ca")).map_err(|fault| anyhow!(fault))?;
        let issued = authority.issue(request).map_err(|fault| anyhow!(fault))?;
        issued.write(&self.folder(name)).map_err(|fault| anyhow!(fault))?;
        Ok(self.folder(name))
    }

    /// The folder of one of them.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// All of them.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
