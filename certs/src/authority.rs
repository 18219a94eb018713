//! An authority of a cluster's own: it issues the certificates of its processes and users.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use firesteel_base::UserError;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::certificate::read_chain;
use crate::files::{Files, check_key, read};
use crate::identity::{Identity, Role, authority_uri, is_name};

/// When a certificate begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From then on it holds.
    pub begins: SystemTime,
    /// It holds until then.
    pub ends: SystemTime,
}

/// Clocks of hosts differ by less.
const SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Lifetime {
    /// So many days from now on, and an hour before: clocks differ.
    #[must_use]
    pub fn of_days(days: u32) -> Self {
        let now = SystemTime::now();
        Self { begins: now - SKEW, ends: now + DAY * days }
    }
}

/// What is asked of an authority: a certificate for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The role it gives.
    pub role: Role,
    /// Whose it is, of clients.
    pub user: Option<String>,
    /// The host names and addresses under which its bearer serves.
    pub hosts: Vec<String>,
    /// When it holds.
    pub lifetime: Lifetime,
}

/// A certificate and its key, in PEM. The key is a secret.
pub struct Issued {
    authority: String,
    certificate: String,
    key: String,
}

/// An authority in its folder.
pub struct Authority {
    cluster: String,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued(..)")
    }
}

fn certificate_of(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

fn key_of(folder: &Path) -> PathBuf {
    folder.join("ca.key")
}

impl Authority {
    /// Makes one for the cluster of that name in `folder`, which is made where it is not there.
    ///
    /// # Errors
    /// When the name is none, there is one already, or the folder cannot be written.
    pub fn create(folder: &Path, cluster: &str, lifetime: Lifetime) -> Result<(), UserError> {
        check_name("a cluster", cluster)?;
        let key = KeyPair::generate().map_err(|fault| cannot("make a key", &fault))?;
        let params = authority_params(cluster, lifetime)?;
        let certificate = params.self_signed(&key).map_err(|fault| cannot("sign", &fault))?;
        make_folder(folder)?;
        write(&key_of(folder), &key.serialize_pem(), SECRET)?;
        write(&certificate_of(folder), &certificate.pem(), PUBLIC)
    }

    /// Opens the one in `folder`.
    ///
    /// # Errors
    /// When there is none, or its key can be read by others.
    pub fn open(folder: &Path) -> Result<Self, UserError> {
        let (path, key_path) = (certificate_of(folder), key_of(folder));
        if !path.exists() {
            return Err(UserError::new(format!("there is no authority in {}", folder.display()))
                .hint("make one with `firesteel certs init`, or name its folder with --ca DIR"));
        }
        let own = read_chain(&path)?.remove(0);
        let cluster = own.authority_of.clone().filter(|_| own.is_authority).ok_or_else(|| {
            UserError::new(format!("{} is not an authority that `firesteel certs init` made", path.display()))
                .detail(format!("its subject is {}", own.subject))
        })?;
        check_key(&key_path)?;
        let certificate = read(&path)?;
        let key = KeyPair::from_pem(&read(&key_path)?)
            .map_err(|_| UserError::new(format!("{} is not a private key", key_path.display())))?;
        // What it was made of, as far as those that it issues repeat it.
        let issuer = Issuer::new(authority_params(&cluster, Lifetime::of_days(1))?, key);
        Ok(Self { cluster, certificate, issuer })
    }

    /// The cluster whose authority it is.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Issues a certificate.
    ///
    /// # Errors
    /// When the request names nobody, or no host of who serves.
    pub fn issue(&self, request: &Request) -> Result<Issued, UserError> {
        let Request { role, user, hosts, lifetime } = request;
        if *role != Role::Client && hosts.is_empty() {
            return Err(UserError::new(format!("the {role} needs a host at least"))
                .hint("name all names and addresses under which others reach it"));
        }
        if let Some(user) = user {
            check_name("a user", user)?;
        }
        let identity = Identity::of(&self.cluster, *role, user.as_deref());
        let whose = user.as_deref().or(hosts.first().map(String::as_str)).unwrap_or_default();
        let mut params = params(&format!("{role} {whose}"), &self.cluster, *lifetime);
        params.subject_alt_names = vec![uri(&identity.uri())?];
        for host in hosts {
            params.subject_alt_names.push(host_name(host)?);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if *role != Role::Client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let key = KeyPair::generate().map_err(|fault| cannot("make a key", &fault))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|fault| cannot("sign", &fault))?;
        Ok(Issued {
            authority: self.certificate.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Issued {
    /// Writes it to a folder of its own, where `security.folder` finds it.
    ///
    /// # Errors
    /// When there is one already, or the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), UserError> {
        let files = Files::of_folder(folder);
        for path in [&files.ca, &files.certificate, &files.key] {
            if path.exists() {
                return Err(there_already(path));
            }
        }
        make_folder(folder)?;
        write(&files.key, &self.key, SECRET)?;
        write(&files.certificate, &self.certificate, PUBLIC)?;
        write(&files.ca, &self.authority, PUBLIC)
    }
}

fn authority_params(cluster: &str, lifetime: Lifetime) -> Result<CertificateParams, UserError> {
    let mut params = params(&format!("Firesteel authority of {cluster}"), cluster, lifetime);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(&authority_uri(cluster))?];
    Ok(params)
}

fn params(name: &str, cluster: &str, lifetime: Lifetime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, cluster);
    params.not_before = lifetime.begins.into();
    params.not_after = lifetime.ends.into();
    params
}

fn uri(text: &str) -> Result<SanType, UserError> {
    text.try_into().map(SanType::URI).map_err(|fault| cannot("name the role", &fault))
}

fn host_name(host: &str) -> Result<SanType, UserError> {
    if let Ok(address) = host.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let no_host = |detail: &str| {
        UserError::new(format!("'{host}' is not the name or address of a host"))
            .detail(detail)
            .hint("without a port, for example host7.example.org or 10.0.0.7")
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*');
    if host.is_empty() || !host.chars().all(allowed) {
        return Err(no_host("it has characters that no host's name has"));
    }
    host.try_into().map(SanType::DnsName).map_err(|fault: rcgen::Error| no_host(&fault.to_string()))
}

fn check_name(what: &str, name: &str) -> Result<(), UserError> {
    if is_name(name) {
        return Ok(());
    }
    Err(UserError::new(format!("'{name}' cannot be the name of {what}"))
        .hint("take 1 to 64 letters, digits, '.', '_', '-' or '@'"))
}

fn cannot(what: &str, fault: &rcgen::Error) -> UserError {
    UserError::new(format!("cannot {what}")).detail(fault.to_string())
}

const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

fn make_folder(folder: &Path) -> Result<(), UserError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|fault| {
        UserError::new(format!("cannot make the folder {}", folder.display())).detail(fault.to_string())
    })
}

/// Writes a file that is not there yet, with that mode from the beginning.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), UserError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written =
        made.and_then(|mut file: File| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|fault| match fault.kind() {
        std::io::ErrorKind::AlreadyExists => there_already(path),
        _ => UserError::new(format!("cannot write {}", path.display())).detail(fault.to_string()),
    })
}

fn there_already(path: &Path) -> UserError {
    UserError::new(format!("{} is there already, and is not overwritten", path.display()))
        .hint("name another folder, or move that one away")
}
