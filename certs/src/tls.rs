//! What TLS is set up with: one certificate and key, the authority, and who is accepted at the other end.

mod source;
mod verify;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firesteel_base::UserError;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

use crate::certificate::{Certificate, chain};
use crate::files::{Files, Pem};
use crate::identity::{Identity, Role};
use source::Source;
use verify::{BlockReaders, Server};

/// What gRPC over HTTP/2 is called in a handshake.
const CONTROL: &[u8] = b"h2";
/// What the transport of blocks is called there.
const BLOCKS: &[u8] = b"firesteel-blocks";

/// Within so long of its end a certificate is said to end.
const ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// A process's certificate and key, ready for use in connections of all kinds.
pub struct Tls {
    identity: Identity,
    certificate: Certificate,
    own: CertificateDer<'static>,
    source: Arc<Source>,
    control_server: Arc<ServerConfig>,
    block_server: Arc<ServerConfig>,
    to_managers: Arc<ClientConfig>,
    to_workers: Arc<ClientConfig>,
    block_client: Arc<ClientConfig>,
}

impl Tls {
    /// Of files, which are looked at again from time to time: a renewed certificate is taken without a restart.
    ///
    /// # Errors
    /// When one cannot be read, they do not belong together, or the certificate is over or gives no role.
    pub fn of_files(files: Files) -> Result<Self, UserError> {
        let pem = files.read()?;
        Self::new(pem, files)
    }

    /// Of what was read by another process at these places.
    ///
    /// # Errors
    /// As [`of_files`](Self::of_files).
    pub(crate) fn new(pem: Pem, files: Files) -> Result<Self, UserError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(roots(&pem.ca, &files.ca)?);
        let own = Own::read(&pem, &files, &provider)?;
        let clients = client_verifier(&roots, &provider, &files.ca)?;
        own.check(clients.as_ref(), &files)?;
        let Own { key, certificate, identity } = own;
        let own = key.cert[0].clone();
        let cluster = identity.cluster.clone();
        let source = Arc::new(Source::new(pem, key, files.clone(), Arc::clone(&provider)));
        let block_readers = Arc::new(BlockReaders::new(Arc::clone(&clients), &cluster));
        let servers = |role| Server::new(&roots, &provider, &cluster, role, &files.ca).map(Arc::new);
        let setup = Setup { provider: Arc::clone(&provider), source: Arc::clone(&source) };
        Ok(Self {
            control_server: setup.server(clients, CONTROL),
            block_server: setup.server(block_readers, BLOCKS),
            to_managers: setup.client(servers(Role::Manager)?, CONTROL),
            to_workers: setup.client(servers(Role::Worker)?, CONTROL),
            block_client: setup.client(servers(Role::Worker)?, BLOCKS),
            identity,
            certificate,
            own,
            source,
        })
    }

    /// Who this process is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What its certificate said when it was first read.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// For servers of gRPC: they take whoever has a certificate of the authority, and ask each call for its role.
    #[must_use]
    pub fn control_server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.control_server)
    }

    /// For clients of gRPC that mean to reach somebody of this role.
    #[must_use]
    pub fn control_client(&self, to: Role) -> Arc<ClientConfig> {
        match to {
            Role::Manager => Arc::clone(&self.to_managers),
            Role::Worker | Role::Client => Arc::clone(&self.to_workers),
        }
    }

    /// For servers of blocks: they take workers and clients of this cluster, whose executors and drivers read them.
    #[must_use]
    pub fn block_server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.block_server)
    }

    /// For readers of blocks, which workers of this cluster serve.
    #[must_use]
    pub fn block_client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.block_client)
    }

    /// Whether others may reach this process as `host`, a name or an address.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let parsed = ParsedCertificate::try_from(&self.own);
        let name = ServerName::try_from(host);
        matches!((parsed, name), (Ok(own), Ok(name)) if rustls::client::verify_server_name(&own, &name).is_ok())
    }

    /// How long the certificate still holds, when that is not long.
    #[must_use]
    pub fn ends_soon(&self) -> Option<Duration> {
        let left = u64::try_from(self.certificate.ends).unwrap_or(0).saturating_sub(now());
        Some(Duration::from_secs(left)).filter(|left| *left < ENDS_SOON)
    }

    /// When the certificate ends that a connection made now would show, in unix seconds.
    #[must_use]
    pub fn ends(&self) -> i64 {
        let now = Certificate::read(&self.source.key().cert[0]);
        now.map_or(self.certificate.ends, |now| now.ends)
    }

    /// The certificate that a connection made now would show.
    #[cfg(test)]
    pub(crate) fn certificate_now(&self) -> CertificateDer<'static> {
        self.source.look_now().cert[0].clone()
    }

    /// What it is made of, with a renewed certificate if there is one.
    pub(crate) fn pem(&self) -> Pem {
        self.source.pem()
    }

    /// Where that was read.
    pub(crate) fn files(&self) -> &Files {
        self.source.files()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity)
            .field("files", self.files())
            .finish_non_exhaustive()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A certificate with its key.
struct Own {
    key: Arc<CertifiedKey>,
    certificate: Certificate,
    identity: Identity,
}

impl Own {
    fn read(pem: &Pem, files: &Files, provider: &CryptoProvider) -> Result<Self, UserError> {
        let path = &files.certificate;
        let certificates = chain(&pem.certificate, path)?;
        let certificate = Certificate::read(&certificates[0])
            .map_err(|fault| crate::certificate::no_certificate(path, &fault))?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(|_| no_key(&files.key))?;
        let key = CertifiedKey::from_der(certificates, key, provider).map_err(|fault| {
            UserError::new(format!("{} and {} do not belong together", path.display(), files.key.display()))
                .detail(fault.to_string())
        })?;
        let identity = certificate.identity.clone().ok_or_else(|| no_role(path))?;
        Ok(Self { key: Arc::new(key), certificate, identity })
    }

    /// Refuses a certificate that others would not take, by the same verification.
    fn check(&self, verifier: &dyn ClientCertVerifier, files: &Files) -> Result<(), UserError> {
        let (own, between) = self.key.cert.split_first().expect("a chain holds a certificate at least");
        let Err(fault) = verifier.verify_client_cert(own, between, UnixTime::now()) else { return Ok(()) };
        let path = files.certificate.display();
        Err(match fault {
            rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => UserError::new(format!(
                "the certificate {path} is over: it held until {}",
                self.certificate.end()
            ))
            .hint("issue a new one with `firesteel certs issue`"),
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => UserError::new(format!(
                "the certificate {path} does not hold yet: it does from {} on",
                self.certificate.begin()
            ))
            .hint("is this host's clock right?"),
            fault => UserError::new(format!(
                "the certificate {path} is not one of the authority in {}",
                files.ca.display()
            ))
            .detail(fault.to_string())
            .hint("`firesteel certs show` tells who issued it"),
        })
    }
}

fn no_key(path: &Path) -> UserError {
    // What is in the file is not told.
    UserError::new(format!("{} is not a private key", path.display()))
        .hint("it must be PEM, and not encrypted")
}

fn no_role(path: &Path) -> UserError {
    UserError::new(format!("the certificate {} gives no role in a cluster", path.display())).hint(
        "one of its names must be the URI firesteel://CLUSTER/manager, /worker or /client/USER, and only one; \
         `firesteel certs issue` sees to it",
    )
}

fn roots(pem: &str, path: &Path) -> Result<RootCertStore, UserError> {
    let mut roots = RootCertStore::empty();
    for authority in chain(pem, path)? {
        roots.add(authority).map_err(|fault| crate::certificate::no_certificate(path, &fault.to_string()))?;
    }
    Ok(roots)
}

fn client_verifier(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    path: &Path,
) -> Result<Arc<dyn ClientCertVerifier>, UserError> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .build()
        .map_err(|fault| crate::certificate::no_certificate(path, &fault.to_string()))
}

/// What all configurations share.
struct Setup {
    provider: Arc<CryptoProvider>,
    source: Arc<Source>,
}

impl Setup {
    fn server(&self, clients: Arc<dyn ClientCertVerifier>, protocol: &[u8]) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::clone(&self.source) as _);
        config.alpn_protocols.push(protocol.to_vec());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    fn client(&self, servers: Arc<dyn ServerCertVerifier>, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(servers)
            .with_client_cert_resolver(Arc::clone(&self.source) as _);
        config.alpn_protocols.push(protocol.to_vec());
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}
