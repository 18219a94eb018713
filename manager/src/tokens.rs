//! The file of tokens: who may open, submit, list and cancel jobs, and in which queues.
//!
//! A token is 256 random bits as text. It is told once, when it is made; the file holds its SHA-256, which needs no salt and no
//! slow function: nobody can try all tokens.
//!
//! ```toml
//! [[token]]
//! id = "5f0c2e91"               # for `firesteel tokens remove`
//! user = "ana"
//! sha256 = "9f86d081884c7d65.."
//! queues = ["etl", "adhoc"]     # without it: all
//! admin = true                  # without it: no
//! expires_unix = 1798761600     # without it: never
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use firesteel_base::UserError;
use firesteel_protocol::token::{Secret, check_private};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::machine::rights::User;

/// Every token begins so: who finds one somewhere knows what it is.
const PREFIX: &str = "fst_";
/// Tokens of a file; more are refused.
const TOKENS_MAX: usize = 10_000;
const HEAD: &str = "# Tokens of a Firesteel cluster, made by `firesteel tokens`: the digests, not the tokens themselves.\n\n";

/// The tokens of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    #[serde(default, rename = "token", skip_serializing_if = "Vec::is_empty")]
    entries: Vec<Token>,
}

/// A token as the file has it: who shows it, and what that one may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// By which it is removed.
    pub id: String,
    /// Whom it names.
    pub user: String,
    sha256: String,
    /// The queues of jobs; all when it is not said which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<BTreeSet<String>>,
    /// Whether jobs of others may be cancelled and workers drained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
    /// Until when it is good, in seconds of the unix clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix: Option<u64>,
}

/// A token that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// For whom.
    pub user: String,
    /// For which queues; `None`: all.
    pub queues: Option<BTreeSet<String>>,
    /// Whether it is an administrator's.
    pub admin: bool,
    /// How long it is good; `None`: for ever.
    pub good_for: Option<Duration>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It is none of the file's.
    Wrong,
    /// It was good once.
    Expired,
}

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// When there is none, others may read it, or it makes no sense.
    pub fn read(file: &Path) -> Result<Self, UserError> {
        check_private(file)?;
        let cannot = |fault: String| {
            UserError::new(format!("cannot read the tokens in {}", file.display())).detail(fault)
        };
        let text = fs::read_to_string(file).map_err(|fault| cannot(fault.to_string()))?;
        let tokens: Self = toml::from_str(&text).map_err(|fault| cannot(fault.message().to_owned()))?;
        match tokens.fault() {
            Some(fault) => Err(cannot(fault)),
            None => Ok(tokens),
        }
    }

    fn fault(&self) -> Option<String> {
        if self.entries.len() > TOKENS_MAX {
            return Some(format!("there are more than {TOKENS_MAX} of them"));
        }
        self.entries.iter().find_map(|token| {
            let is_digest = token.sha256.len() == 64 && token.sha256.bytes().all(|b| b.is_ascii_hexdigit());
            (!is_digest).then(|| format!("token '{}' has no SHA-256 of 64 hexadecimal digits", token.id))
        })
    }

    /// Writes the file anew, as a whole, so that nobody else may read it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), UserError> {
        let text = toml::to_string(self).expect("plain data becomes TOML");
        let beside = file.with_extension(format!("{}.new", std::process::id()));
        let written = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&beside)
            .and_then(|mut new| {
                new.write_all(HEAD.as_bytes())?;
                new.write_all(text.as_bytes())?;
                new.sync_all()
            })
            .and_then(|()| fs::rename(&beside, file));
        written.map_err(|fault| {
            // It may not even have been made.
            let _ = fs::remove_file(&beside);
            UserError::new(format!("cannot write the tokens to {}", file.display())).detail(fault.to_string())
        })
    }

    /// Makes a token. It is told here and never again.
    ///
    /// # Errors
    /// When there are too many, or the system gives no random bytes.
    pub fn add(&mut self, wanted: Wanted, now_unix: u64) -> Result<Secret, UserError> {
        if self.entries.len() >= TOKENS_MAX {
            return Err(UserError::new(format!("the file has {TOKENS_MAX} tokens, and takes no more")));
        }
        let (id, secret) = (hex(&random::<4>()?), format!("{PREFIX}{}", hex(&random::<32>()?)));
        self.entries.push(Token {
            id,
            user: wanted.user,
            sha256: digest(&secret),
            queues: wanted.queues,
            admin: wanted.admin,
            expires_unix: wanted.good_for.map(|span| now_unix.saturating_add(span.as_secs())),
        });
        Ok(Secret::new(secret))
    }

    /// Removes the token of that id, or all of that user. Returns how many went.
    pub fn remove(&mut self, id_or_user: &str) -> usize {
        let before = self.entries.len();
        self.entries.retain(|token| token.id != id_or_user && token.user != id_or_user);
        before - self.entries.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.entries.iter()
    }

    /// Who shows this secret, and may do what. All are looked at, whichever it is.
    ///
    /// # Errors
    /// When it is none of these, or was good once.
    pub fn user(&self, secret: &Secret, now_unix: u64) -> Result<User, Unknown> {
        let shown = digest(secret.expose());
        let mut found = None;
        for token in &self.entries {
            if bool::from(token.sha256.as_bytes().ct_eq(shown.as_bytes())) {
                found = Some(token);
            }
        }
        let token = found.ok_or(Unknown::Wrong)?;
        if token.expires_unix.is_some_and(|until| now_unix >= until) {
            return Err(Unknown::Expired);
        }
        Ok(User { name: token.user.clone(), queues: token.queues.clone(), is_admin: token.admin })
    }
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// Random bytes that nobody can guess.
///
/// # Errors
/// When the system gives none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], UserError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|fault| UserError::new("the system gives no random bytes").detail(fault.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn wanted(user: &str) -> Wanted {
        Wanted { user: user.to_owned(), queues: None, admin: false, good_for: None }
    }

    #[test]
    fn a_token_is_known_by_its_digest_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let mut tokens = Tokens::default();
        let queues = Some(BTreeSet::from(["etl".to_owned()]));
        let secret = tokens.add(Wanted { queues: queues.clone(), ..wanted("ana") }, 0).unwrap();
        tokens.write(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(secret.expose()), "{text}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let read = Tokens::read(&file).unwrap();
        assert_eq!(read, tokens);
        let ana = User { name: "ana".to_owned(), queues, is_admin: false };
        assert_eq!(read.user(&secret, u64::MAX), Ok(ana));
        assert_eq!(read.user(&Secret::new("fst_other"), 0), Err(Unknown::Wrong));
    }

    #[test]
    fn a_token_expires_and_is_removed_by_its_id_or_with_its_user() {
        let mut tokens = Tokens::default();
        let day = Some(Duration::from_secs(86_400));
        let ana = tokens.add(Wanted { good_for: day, ..wanted("ana") }, 1_000).unwrap();
        let bob = tokens.add(Wanted { admin: true, ..wanted("bob") }, 1_000).unwrap();
        tokens.add(wanted("bob"), 1_000).unwrap();
        assert!(tokens.user(&ana, 1_000 + 86_399).is_ok());
        assert_eq!(tokens.user(&ana, 1_000 + 86_400), Err(Unknown::Expired));
        assert!(tokens.user(&bob, 0).unwrap().is_admin);
        let id = tokens.iter().next().unwrap().id.clone();
        assert_eq!((tokens.remove(&id), tokens.remove(&id), tokens.remove("bob")), (1, 0, 2));
        assert_eq!(tokens.iter().count(), 0);
    }

    #[test]
    fn a_file_that_others_may_read_or_that_makes_no_sense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        Tokens::default().write(&file).unwrap();
        assert_eq!(Tokens::read(&file).unwrap(), Tokens::default());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let fault = Tokens::read(&file).unwrap_err().to_string();
        assert!(fault.contains("0644") && fault.contains("chmod 600"), "{fault}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        for (text, told) in [
            ("[[token]]\nid = \"1\"\nuser = \"ana\"\nsha256 = \"12\"\n", "no SHA-256"),
            ("[[token]]\nuser = \"ana\"\n", "id"),
            ("[[tokens]]\n", "tokens"),
            ("no toml", "tokens.toml"),
        ] {
            fs::write(&file, text).unwrap();
            let fault = Tokens::read(&file).unwrap_err().to_string();
            assert!(fault.contains(told), "{text}: {fault}");
        }
    }
}
