//! Certificates made up for a test or a bench, and what both ends of a connection make of them.

use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Who says of others who they are.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// A certificate, and the key that it is of.
pub struct Member {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// The one that the ends of most connections trust.
pub static TRUSTED: LazyLock<Authority> = LazyLock::new(|| Authority::new("those who are trusted"));

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut of = CertificateParams::new(Vec::new()).unwrap();
        of.distinguished_name.push(DnType::CommonName, name);
        of.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = of.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(of, key), root }
    }

    /// A certificate for that host, good for long.
    pub fn member(&self, host: &str) -> Member {
        self.member_until(host, 2100)
    }

    /// A certificate for that host, good until that year.
    pub fn member_until(&self, host: &str, year: i32) -> Member {
        let key = KeyPair::generate().unwrap();
        let mut of = CertificateParams::new([host.to_owned()]).unwrap();
        (of.not_before, of.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(year, 1, 1));
        let certificate = of.signed_by(&key, &self.issuer).unwrap().der().clone();
        Member { certificate, key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        Arc::new(roots)
    }

    /// A server that shows this certificate, to clients that show one of this authority.
    pub fn server(&self, Member { certificate, key }: Member) -> Arc<ServerConfig> {
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots(), provider()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients);
        Arc::new(config.with_single_cert(vec![certificate], key).unwrap())
    }

    /// A client that shows this certificate, if it has one, to servers that show one of this authority.
    pub fn client(&self, member: Option<Member>) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        Arc::new(match member {
            Some(Member { certificate, key }) => {
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => config.with_no_client_auth(),
        })
    }
}

/// Of a server at 127.0.0.1 that is as it should be.
pub fn server() -> Arc<ServerConfig> {
    TRUSTED.server(TRUSTED.member("127.0.0.1"))
}

/// Of a client that is as it should be.
pub fn client() -> Arc<ClientConfig> {
    TRUSTED.client(Some(TRUSTED.member("client")))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
