//! Who is accepted at the other end, beyond having a certificate of the authority: a role, and the same cluster.

use std::path::Path;
use std::sync::Arc;

use firesteel_base::UserError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use crate::certificate::Certificate;
use crate::identity::Role;

/// Refuses whoever has none of these roles in this cluster.
fn check(certificate: &CertificateDer<'_>, cluster: &str, roles: &[Role]) -> Result<(), Error> {
    let certificate = Certificate::read(certificate).map_err(Error::General)?;
    let Some(identity) = certificate.identity else {
        return Err(Error::General(format!("its certificate ({}) gives no role", certificate.subject)));
    };
    if identity.cluster == cluster && roles.contains(&identity.role) {
        return Ok(());
    }
    let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
    Err(Error::General(format!(
        "its certificate is of a {identity}; of a {} of the cluster '{cluster}' is wanted",
        roles.join(" or ")
    )))
}

/// Accepts servers that have one role, under the name by which they were called.
#[derive(Debug)]
pub(super) struct Server {
    chain: Arc<WebPkiServerVerifier>,
    cluster: String,
    role: Role,
}

impl Server {
    pub fn new(
        roots: &Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
        cluster: &str,
        role: Role,
        path: &Path,
    ) -> Result<Self, UserError> {
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
        let chain =
            chain.build().map_err(|fault| crate::certificate::no_certificate(path, &fault.to_string()))?;
        Ok(Self { chain, cluster: cluster.to_owned(), role })
    }
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(own, between, name, ocsp, now)?;
        check(own, &self.cluster, &[self.role])?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Accepts those who read blocks: executors, which bear their worker's certificate, and drivers, which bear that or a client's.
#[derive(Debug)]
pub(super) struct BlockReaders {
    chain: Arc<dyn ClientCertVerifier>,
    cluster: String,
}

impl BlockReaders {
    pub fn new(chain: Arc<dyn ClientCertVerifier>, cluster: &str) -> Self {
        Self { chain, cluster: cluster.to_owned() }
    }
}

impl ClientCertVerifier for BlockReaders {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(own, between, now)?;
        check(own, &self.cluster, &[Role::Worker, Role::Client])?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
