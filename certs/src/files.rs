//! Files of certificates and keys.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use firesteel_base::UserError;
use serde::{Deserialize, Serialize};

/// A process's own: where its certificate and key are, and the authority that it trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The authority's certificate, or several.
    pub ca: PathBuf,
    /// The process's certificate, and those between it and the authority's.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What is in such files, as PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pem {
    /// The authority's certificate, or several.
    pub ca: String,
    /// The process's certificate, and those between it and the authority's.
    pub certificate: String,
    /// Its key: a secret.
    pub key: String,
}

impl fmt::Debug for Pem {
    /// Without what is in it: a key must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem(..)")
    }
}

/// No certificate or key is larger.
const BYTES_MAX: u64 = 1 << 20;

/// Whom else than its owner the mode of a file lets do something.
const OTHERS: u32 = 0o077;

impl Files {
    /// Those of a folder, as `firesteel certs` writes them.
    #[must_use]
    pub fn of_folder(folder: &Path) -> Self {
        Self { ca: folder.join("ca.pem"), certificate: folder.join("node.pem"), key: folder.join("node.key") }
    }

    /// Reads them.
    ///
    /// # Errors
    /// When one is not there, or the key can be read by others than its owner.
    pub fn read(&self) -> Result<Pem, UserError> {
        check_key(&self.key)?;
        Ok(Pem { ca: read(&self.ca)?, certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    /// What changes when the certificate or the key is renewed; `None` when they cannot be looked at.
    pub(crate) fn stamp(&self) -> Option<[(SystemTime, u64, u64); 2]> {
        let stamp = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len(), file.ino()))
        };
        Some([stamp(&self.certificate)?, stamp(&self.key)?])
    }
}

/// Refuses a file that others than its owner can read or change, with these words. `file` is what the system says of it.
///
/// # Errors
/// When it is so.
pub fn check_private(path: &Path, file: &Metadata, words: impl FnOnce() -> String) -> Result<(), UserError> {
    if file.mode() & OTHERS == 0 {
        return Ok(());
    }
    Err(UserError::new(words())
        .detail(format!("its mode is {:04o}: others than its owner have access", file.mode() & 0o7777))
        .hint(format!("chmod 600 {}", path.display())))
}

/// Refuses a key that is not its owner's alone.
pub(crate) fn check_key(path: &Path) -> Result<(), UserError> {
    let file = std::fs::metadata(path).map_err(|fault| unreadable(path, &fault))?;
    check_private(path, &file, || format!("the key {} is not secret", path.display()))
}

pub(crate) fn read(path: &Path) -> Result<String, UserError> {
    let mut text = String::new();
    let file = File::open(path).map_err(|fault| unreadable(path, &fault))?;
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|fault| unreadable(path, &fault))?;
    Ok(text)
}

fn unreadable(path: &Path, fault: &std::io::Error) -> UserError {
    UserError::new(format!("cannot read {}", path.display())).detail(fault.to_string()).hint(
        "`firesteel certs` makes certificates and keys; security.folder names the folder that they lie in",
    )
}
