//! TLS under the block protocol over TCP (`PROTOCOL.md`, "Under TLS"): nothing of a block is on the wire in the clear, and each end
//! has seen the other's certificate before it says a word of the protocol.
//!
//! Which certificates are good is said by who makes the configurations ([`ServeConfig::tls`](crate::ServeConfig),
//! [`FetchConfig::tls`](crate::FetchConfig)). What holds whatever they say: a client without a certificate is not served, no session
//! is resumed, so that each connection is judged by certificates that are good now, nothing is sent before the handshake is
//! over, and both ends name the block protocol, so that no end of another protocol passes for one of this.

mod stream;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::{AlertDescription, ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use tokio::net::TcpStream;

pub(crate) use stream::TlsStream;

/// What both ends name as the protocol that TLS carries.
const PROTOCOL: &[u8] = b"firesteel-blocks";
/// Bytes that a client takes from the kernel at a time: what comes is frames.
const CLIENT_READ_BYTES: usize = 128 << 10;
/// The same of a server, to which short messages come.
const SERVER_READ_BYTES: usize = 8 << 10;

/// Why there is no TLS with a peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// It began with the greeting of the block protocol.
    #[error("it speaks without TLS, and here blocks are moved over TLS alone")]
    Plain,
    /// The peer's address names nobody whose certificate could be checked.
    #[error("'{0}' has no host name or IP address that a certificate could be for")]
    Name(String),
    /// It speaks TLS, and something else over it.
    #[error("it does not speak the block protocol over TLS")]
    OtherProtocol,
    /// It showed no certificate, and was let through.
    #[error("it shows no certificate")]
    NoCertificate,
    /// The handshake failed, or what came later is not what was sent.
    #[error("TLS failed: {0}")]
    Failed(#[from] rustls::Error),
}

impl TlsError {
    /// Whether another connection would fare no better. What may have been damaged on its way may come whole the next time.
    pub fn is_for_good(&self) -> bool {
        use AlertDescription as Told;
        use rustls::Error;
        match self {
            Self::Failed(Error::AlertReceived(alert)) => !matches!(
                alert,
                Told::BadRecordMac
                    | Told::DecodeError
                    | Told::UnexpectedMessage
                    | Told::IllegalParameter
                    | Told::RecordOverflow
                    | Told::InternalError
            ),
            Self::Failed(error) => matches!(
                error,
                Error::InvalidCertificate(_)
                    | Error::InvalidCertRevocationList(_)
                    | Error::NoCertificatesPresented
                    | Error::PeerIncompatible(_)
                    | Error::NoApplicationProtocol
                    | Error::UnsupportedNameType
            ),
            Self::Plain | Self::Name(_) | Self::OtherProtocol | Self::NoCertificate => true,
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// How a server of blocks takes clients in, whatever else these settings are used for.
pub(crate) fn for_server(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Arc::new(config)
}

/// How a client of block servers connects, whatever else these settings are used for.
pub(crate) fn for_client(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Arc::new(config)
}

/// Shakes hands with the server that was connected to at `address`.
pub(crate) async fn connect(
    socket: TcpStream,
    address: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream> {
    let name = server_name(address)?;
    let session = ClientConnection::new(Arc::clone(config), name).map_err(TlsError::from)?;
    let stream = TlsStream::new(socket, session.into(), CLIENT_READ_BYTES);
    stream.shake_hands().await?;
    stream.check_protocol()?;
    Ok(stream)
}

/// Shakes hands with a client. One that begins without TLS is told `to_plain`, in the clear.
pub(crate) async fn accept(
    socket: TcpStream,
    config: &Arc<ServerConfig>,
    to_plain: &[u8],
) -> io::Result<TlsStream> {
    let session = ServerConnection::new(Arc::clone(config)).map_err(TlsError::from)?;
    let mut stream = TlsStream::new(socket, session.into(), SERVER_READ_BYTES);
    match stream.shake_hands().await {
        Ok(()) => {
            stream.check_protocol()?;
            stream.check_certificate()?;
            Ok(stream)
        }
        Err(error) => {
            let is_plain = matches!(of(&error), Some(TlsError::Plain));
            stream.take_leave(if is_plain { to_plain } else { &[] }).await;
            Err(error)
        }
    }
}

/// What of TLS an error is about, if it is.
pub(crate) fn of(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// Whether a message begins as a client's first one of TLS does: a record of the handshake.
pub(crate) fn is_begun_by(bytes: [u8; 4]) -> bool {
    bytes[..2] == [22, 3]
}

/// Whose certificate the server at `host:port` must show.
fn server_name(address: &str) -> Result<ServerName<'static>, TlsError> {
    let nobody = || TlsError::Name(address.to_owned());
    let (host, _) = address.rsplit_once(':').ok_or_else(nobody)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    ServerName::try_from(host.to_owned()).map_err(|_| nobody())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_host_of_the_address() {
        let name = |address: &str| server_name(address).map(|name| name.to_str().into_owned());
        assert_eq!(name("host3.rack:7080").unwrap(), "host3.rack");
        assert_eq!(name("127.0.0.1:7080").unwrap(), "127.0.0.1");
        assert_eq!(name("[::1]:7080").unwrap(), "::1");
        assert_eq!(name("[::ffff:10.0.0.7]:7080").unwrap(), "10.0.0.7");
        for nobody in ["host3", ":7080", "a b:1", "[host3]:7080", ""] {
            assert!(matches!(name(nobody), Err(TlsError::Name(said)) if said == nobody), "{nobody}");
        }
    }

    #[test]
    fn what_may_be_damage_is_tried_again() {
        use rustls::{CertificateError, Error};
        let alert = |alert| TlsError::from(Error::AlertReceived(alert));
        assert!(TlsError::Plain.is_for_good());
        assert!(TlsError::from(Error::InvalidCertificate(CertificateError::Expired)).is_for_good());
        assert!(alert(AlertDescription::UnknownCA).is_for_good());
        // What is said of a certificate whose signature is wrong.
        assert!(alert(AlertDescription::DecryptError).is_for_good());
        assert!(!alert(AlertDescription::BadRecordMac).is_for_good());
        assert!(!TlsError::from(Error::DecryptError).is_for_good());
    }
}
