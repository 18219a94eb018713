//! Where connections take this process's certificate and key from: files that may be renewed meanwhile.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use firesteel_base::UserError;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Own;
use crate::files::{Files, Pem};

/// How often the files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The latest certificate and key.
pub(super) struct Source {
    files: Files,
    provider: Arc<CryptoProvider>,
    latest: Mutex<Latest>,
}

struct Latest {
    pem: Pem,
    key: Arc<CertifiedKey>,
    looked: Instant,
    stamp: Option<[(SystemTime, u64, u64); 2]>,
}

impl Source {
    pub fn new(pem: Pem, key: Arc<CertifiedKey>, files: Files, provider: Arc<CryptoProvider>) -> Self {
        let stamp = files.stamp();
        Self { files, provider, latest: Mutex::new(Latest { pem, key, looked: Instant::now(), stamp }) }
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    pub fn pem(&self) -> Pem {
        self.latest(LOOK_EVERY, |latest| latest.pem.clone())
    }

    pub fn key(&self) -> Arc<CertifiedKey> {
        self.latest(LOOK_EVERY, |latest| Arc::clone(&latest.key))
    }

    /// What is there, looked for anew when that was not done for `every`.
    fn latest<T>(&self, every: Duration, take: impl FnOnce(&Latest) -> T) -> T {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.looked.elapsed() >= every {
            latest.looked = Instant::now();
            self.renew(&mut latest);
        }
        take(&latest)
    }

    /// Takes what is in the files when they have changed. What cannot be used is not taken: the two are not written at a time.
    fn renew(&self, latest: &mut Latest) {
        // An executor that runs as another user may not look.
        let Some(stamp) = self.files.stamp() else { return };
        if latest.stamp.replace(stamp) == Some(stamp) {
            return;
        }
        match self.read() {
            Ok((pem, own)) => {
                tracing::info!(certificate = %self.files.certificate.display(), until = own.certificate.end(),
                    "took a renewed certificate");
                (latest.pem, latest.key) = (pem, own.key);
            }
            Err(fault) => tracing::warn!(%fault, "the certificate has changed, but is not taken"),
        }
    }

    fn read(&self) -> Result<(Pem, Own), UserError> {
        let pem = self.files.read()?;
        let own = Own::read(&pem, &self.files, &self.provider)?;
        Ok((pem, own))
    }

    #[cfg(test)]
    pub fn look_now(&self) -> Arc<CertifiedKey> {
        self.latest(Duration::ZERO, |latest| Arc::clone(&latest.key))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.files).finish()
    }
}

impl ResolvesServerCert for Source {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl ResolvesClientCert for Source {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
