//! How connections to servers are made: plain or with TLS, and what is told when that does not work.

use std::error::Error;
use std::io;

use firesteel_base::UserError;
use firesteel_certs::{Reach, Role, Security, Tls};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, CertificateError};
use tokio_util::either::Either;

use super::Server;

/// A connection that HTTP/2 goes over.
pub(super) type Connected = TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>;

/// Why a connection was not secured, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct Unsecured {
    pub detail: String,
    pub hint: Option<&'static str>,
}

/// Refuses to talk to another host without TLS, unless that was asked for.
pub(super) fn check_reach(security: &Security, server: Server, uri: &Uri) -> Result<(), UserError> {
    let host = host(uri);
    match security {
        Security::Plain(Reach::ThisHost) if !is_this_host(host) => Err(UserError::new(format!(
            "the {server} at {host} is on another host, and there is no certificate to talk to it with"
        ))
        .detail("security.folder (or security.ca, security.certificate and security.key) is not set")
        .hint(
            "get a certificate from `firesteel certs issue client USER` and set security.folder (FIRESTEEL_SECURITY_FOLDER); \
             or say --insecure if the cluster has none",
        )),
        _ => Ok(()),
    }
}

fn is_this_host(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// The host that an address names, without the brackets of an IPv6 address.
fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Connects, and makes sure who is there.
pub(super) async fn open(
    security: Security,
    server: Server,
    uri: Uri,
) -> Result<Connected, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect((host(&uri), uri.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(match security.tls() {
        None => Either::Left(stream),
        Some(tls) => Either::Right(Box::new(secure(stream, tls, server, host(&uri)).await?)),
    }))
}

async fn secure(
    stream: TcpStream,
    tls: &Tls,
    server: Server,
    host: &str,
) -> Result<TlsStream<TcpStream>, Unsecured> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Unsecured {
        detail: format!("'{host}' is not a name that a certificate can have"),
        hint: None,
    })?;
    let role = match server {
        Server::Manager => Role::Manager,
        Server::Worker | Server::Executor => Role::Worker,
    };
    TlsConnector::from(tls.control_client(role)).connect(name, stream).await.map_err(|fault| why(&fault))
}

const SAME_AUTHORITY: &str =
    "both ends need certificates of the same authority: `firesteel certs show` tells who issued one";
const NO_TLS: &str = "if the cluster has no certificates, say --insecure here too";

fn why(fault: &io::Error) -> Unsecured {
    let told = |detail: String, hint| Unsecured { detail, hint };
    match fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => told("it does not speak TLS".to_owned(), Some(NO_TLS)),
        // Two authorities of one cluster's name differ in nothing but their keys.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => told("its certificate was issued by another authority".to_owned(), Some(SAME_AUTHORITY)),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => told("its certificate is over".to_owned(), Some("have a new one issued to it")),
        Some(rustls::Error::InvalidCertificate(fault)) => {
            told(format!("its certificate is not accepted: {fault}"), None)
        }
        Some(rustls::Error::General(text)) => told(text.clone(), None),
        Some(rustls::Error::AlertReceived(alert)) => {
            told(format!("it does not accept this certificate: {alert:?}"), Some(SAME_AUTHORITY))
        }
        Some(other) => told(other.to_string(), None),
        None if is_cut(fault) => {
            told("it ended the connection instead of speaking TLS".to_owned(), Some(NO_TLS))
        }
        None => told(fault.to_string(), None),
    }
}

fn is_cut(fault: &io::Error) -> bool {
    matches!(
        fault.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// What was said to somebody who spoke without TLS.
pub(super) const SECURED: &str = "it speaks TLS alone, and was asked without";
/// What to do about it.
pub(super) const SECURED_HINT: &str =
    "set security.folder (FIRESTEEL_SECURITY_FOLDER) to a certificate of the cluster";

/// Whether a server said that it speaks TLS alone.
pub(super) fn wants_tls(fault: &(dyn Error + 'static)) -> bool {
    causes(fault).any(|cause| {
        let reason = cause.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
        reason == Some(h2::Reason::INADEQUATE_SECURITY)
    })
}

/// An error and what caused it, one after the other.
pub(super) fn causes<'a>(
    fault: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(fault), |cause| (*cause).source())
}
