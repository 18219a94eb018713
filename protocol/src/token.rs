//! Secrets that say who calls: how they are read, kept out of sight, and carried with a call.
//!
//! A secret travels in the `authorization` metadata of a call, as `Bearer SECRET`. It is never logged: its `Debug` says nothing.

use std::fmt;
use std::path::Path;

use firesteel_base::UserError;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::channel::{Channel, STEERING_BYTES_MAX};
use crate::v1::manager_client::ManagerClient;

const HEADER: &str = "authorization";
const SCHEME: &str = "Bearer ";
/// Longer texts are no secrets of ours.
const SECRET_BYTES_MAX: usize = 512;

/// A text that nobody may see.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text for one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever sends it on or makes a digest of it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is that text, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// Reads a secret from a file that nobody else may read: its first line.
    ///
    /// # Errors
    /// When there is no such file, others may read it, or it holds none.
    pub fn read(file: &Path) -> Result<Self, UserError> {
        check_private(file)?;
        let text = std::fs::read_to_string(file).map_err(|fault| cannot_read(file, &fault))?;
        let line = text.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            return Err(UserError::new(format!("the file {} holds no token", file.display()))
                .hint("`firesteel tokens add` prints one: put it there, on a line of its own"));
        }
        Ok(Self::new(line))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Refuses a file with secrets that other users may read or write.
///
/// # Errors
/// When it is so, or there is no such file.
pub fn check_private(file: &Path) -> Result<(), UserError> {
    let found = std::fs::metadata(file).map_err(|fault| cannot_read(file, &fault))?;
    let words = || format!("others may read or write the file {}, which holds secrets", file.display());
    firesteel_certs::check_private(file, &found, words)
}

fn cannot_read(file: &Path, fault: &std::io::Error) -> UserError {
    UserError::new(format!("cannot read the file of secrets {}", file.display())).detail(fault.to_string())
}

/// What every call of a client shows; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Credential(Option<MetadataValue<Ascii>>);

impl Credential {
    /// One that shows a secret.
    ///
    /// # Errors
    /// When it has characters that cannot be sent.
    pub fn of(secret: &Secret) -> Result<Self, UserError> {
        let value: Result<MetadataValue<Ascii>, _> = format!("{SCHEME}{}", secret.expose()).parse();
        let mut value = value.map_err(|_| UserError::new("the token has characters that no token has"))?;
        // It is not kept in tables of headers that were seen, and not told by `Debug`.
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert(HEADER, value.clone());
        }
        Ok(request)
    }
}

/// The secret that a call shows, if any.
#[must_use]
pub fn shown(metadata: &MetadataMap) -> Option<Secret> {
    let value = metadata.get(HEADER)?.to_str().ok()?;
    let text = value.strip_prefix(SCHEME)?.trim();
    (!text.is_empty() && text.len() <= SECRET_BYTES_MAX).then(|| Secret::new(text))
}

/// A client of a manager that shows who calls.
pub type ManagerCaller = ManagerClient<InterceptedService<Channel, Credential>>;

/// A client of the manager at the end of a channel.
#[must_use]
pub fn manager_caller(channel: Channel, credential: Credential) -> ManagerCaller {
    ManagerClient::with_interceptor(channel, credential)
        .max_decoding_message_size(STEERING_BYTES_MAX)
        .max_encoding_message_size(STEERING_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_says_nothing_of_itself_and_is_compared() {
        let secret = Secret::new("fst_1234");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert!(secret.is("fst_1234") && !secret.is("fst_1235") && !secret.is("fst_123"));
        let credential = Credential::of(&secret).unwrap();
        assert!(!format!("{credential:?}").contains("1234"), "{credential:?}");
        assert!(Credential::of(&Secret::new("a\nb")).is_err());
    }

    #[test]
    fn what_a_call_shows_is_found_again() {
        let mut credential = Credential::of(&Secret::new("fst_1234")).unwrap();
        let request = credential.call(Request::new(())).unwrap();
        assert!(shown(request.metadata()).unwrap().is("fst_1234"));
        let bare = Credential::default().call(Request::new(())).unwrap();
        assert_eq!(shown(bare.metadata()), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_by_its_name() {
        let file = std::env::temp_dir().join(format!("firesteel-token-{}", std::process::id()));
        fs::write(&file, "fst_1234\nnotes\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let fault = Secret::read(&file).unwrap_err().to_string();
        assert!(fault.contains("mode is 0640") && fault.contains("chmod 600"), "{fault}");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert!(Secret::read(&file).unwrap().is("fst_1234"));
        fs::remove_file(&file).unwrap();
        assert!(Secret::read(&file).unwrap_err().to_string().contains("cannot read"));
    }
}
