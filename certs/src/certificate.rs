//! What a certificate says.

use std::net::IpAddr;
use std::path::Path;

use firesteel_base::UserError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::time::Time;

use crate::identity::{Identity, cluster_of_authority};

/// What one certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Who its bearer is; `None` when it does not say so, or says more than one thing.
    pub identity: Option<Identity>,
    /// The cluster whose authority it is.
    pub authority_of: Option<String>,
    /// The host names and addresses under which its bearer may serve.
    pub hosts: Vec<String>,
    /// Its subject, for people.
    pub subject: String,
    /// Who issued it, for people.
    pub issuer: String,
    /// From when on it holds, in unix seconds.
    pub begins: i64,
    /// Until when it holds, in unix seconds.
    pub ends: i64,
    /// Whether it may issue others.
    pub is_authority: bool,
}

impl Certificate {
    /// Reads one in DER.
    ///
    /// # Errors
    /// When it is none; the text says what is wrong.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let told = |fault: x509_cert::der::Error| fault.to_string();
        let certificate = x509_cert::Certificate::from_der(der).map_err(told)?.tbs_certificate;
        let names = certificate.get::<SubjectAltName>().map_err(told)?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        let authority = certificate.get::<BasicConstraints>().map_err(told)?;
        let uris = || names.iter().filter_map(uri);
        let mut identities = uris().filter_map(Identity::parse);
        let (identity, another) = (identities.next(), identities.next());
        Ok(Self {
            identity: identity.filter(|_| another.is_none()),
            authority_of: uris().find_map(cluster_of_authority).map(str::to_owned),
            hosts: names.iter().filter_map(host).collect(),
            subject: certificate.subject.to_string(),
            issuer: certificate.issuer.to_string(),
            begins: unix(certificate.validity.not_before),
            ends: unix(certificate.validity.not_after),
            is_authority: authority.is_some_and(|(_, constraints)| constraints.ca),
        })
    }

    /// The day on which it ends: `2027-11-28 17:05 UTC`.
    #[must_use]
    pub fn end(&self) -> String {
        day(self.ends)
    }

    /// The day on which it begins.
    #[must_use]
    pub fn begin(&self) -> String {
        day(self.begins)
    }
}

fn unix(time: Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

fn uri(name: &GeneralName) -> Option<&str> {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
        _ => None,
    }
}

fn host(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|address| address.to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn day(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix).map_or_else(
        |_| format!("second {unix} of unix time"),
        |at| {
            let (year, month, day) = at.to_calendar_date();
            format!("{year:04}-{:02}-{day:02} {:02}:{:02} UTC", u8::from(month), at.hour(), at.minute())
        },
    )
}

/// The certificates of a file, the bearer's own first.
///
/// # Errors
/// When it cannot be read, or holds none.
pub fn read_chain(path: &Path) -> Result<Vec<Certificate>, UserError> {
    let text = crate::files::read(path)?;
    let ders = chain(&text, path)?;
    ders.iter().map(|der| Certificate::read(der).map_err(|fault| no_certificate(path, &fault))).collect()
}

/// The certificates in a PEM text that was read at `path`: at least one.
pub(crate) fn chain(text: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, UserError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match all {
        Ok(all) if all.is_empty() => Err(no_certificate(path, "it holds no CERTIFICATE")),
        Ok(all) => Ok(all),
        Err(fault) => Err(no_certificate(path, &fault.to_string())),
    }
}

pub(crate) fn no_certificate(path: &Path, fault: &str) -> UserError {
    UserError::new(format!("{} is not a file of certificates", path.display()))
        .detail(fault)
        .hint("it must be PEM; `firesteel certs` makes such files")
}
