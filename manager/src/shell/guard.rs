//! Who calls: the token or the launched driver's secret that a call shows, and what its caller may do.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firesteel_base::{JobId, UserError};
use firesteel_protocol::channel::with_hint;
use firesteel_protocol::token::{self, Secret};
use firesteel_protocol::v1;
use sha2::{Digest, Sha256};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::Manager;
use crate::machine::message::Seed;
use crate::machine::rights::Rights;
use crate::tokens::{Tokens, Unknown, hex};

/// How often the file is looked at, when somebody calls.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What begins the secret of a launched driver; its job's number and a digest follow.
const DRIVER_PREFIX: &str = "fsd_";

/// The tokens of a file, read again when it changes. A file that makes no sense any more, or that others may read, is not taken
/// in place of what was there before: that is logged as an error.
#[derive(Debug)]
pub struct Guard {
    file: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    tokens: Tokens,
    stamp: Option<Stamp>,
    looked: Instant,
}

/// By which a file is known to have changed: it is replaced as a whole.
type Stamp = (u64, i64, i64, u64, u32);

impl Guard {
    /// Reads the file.
    ///
    /// # Errors
    /// When there is none, others may read it, or it makes no sense.
    pub fn open(file: &Path) -> Result<Self, UserError> {
        let (stamp, tokens) = (stamp(file), Tokens::read(file)?);
        let read = Mutex::new(Read { tokens, stamp, looked: Instant::now() });
        Ok(Self { file: file.to_owned(), read })
    }

    fn rights(&self, secret: &Secret) -> Result<Rights, Unknown> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.looked.elapsed() >= LOOK_INTERVAL {
            read.looked = Instant::now();
            self.look(&mut read);
        }
        read.tokens.user(secret, unix_now()).map(Rights::User)
    }

    fn look(&self, read: &mut Read) {
        let stamp = stamp(&self.file);
        if stamp == read.stamp {
            return;
        }
        read.stamp = stamp;
        match Tokens::read(&self.file) {
            Ok(tokens) => {
                tracing::info!(file = %self.file.display(), tokens = tokens.iter().count(), "read the tokens again");
                read.tokens = tokens;
            }
            Err(error) => tracing::error!(%error, "the tokens that were read before stay in force"),
        }
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let found = fs::metadata(file).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len(), found.mode()))
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Manager {
    /// What the caller may do who shows this.
    ///
    /// # Errors
    /// When tokens are asked for, and none that is good is shown.
    pub(super) async fn rights(&self, metadata: &MetadataMap) -> Result<Rights, Status> {
        let Some(guard) = &self.guard else { return Ok(Rights::All) };
        let rights = self.rights_shown(guard, metadata).await;
        if rights.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated) {
            self.counts.token_refused();
        }
        rights
    }

    async fn rights_shown(&self, guard: &Guard, metadata: &MetadataMap) -> Result<Rights, Status> {
        let secret = token::shown(metadata).ok_or_else(no_token)?;
        match launched_for(&secret) {
            Some(job) => self.rights_of_launched(job, secret).await,
            None => guard.rights(&secret).map_err(refused),
        }
    }

    async fn rights_of_launched(&self, id: JobId, secret: Secret) -> Result<Rights, Status> {
        let known = move |launch: &crate::machine::job::Launch| {
            secret.is(driver_secret(launch.seed, id, launch.launches).expose())
        };
        let look = self
            .look(move |view| view.machine.job(id).and_then(|job| job.launch.as_ref()).is_some_and(known));
        if look.await? { Ok(Rights::Launched(id)) } else { Err(refused(Unknown::Wrong)) }
    }

    /// A job as this caller may see it: its text and the way to its result are its user's.
    pub(super) fn seen(rights: &Rights, job: v1::JobInfo) -> v1::JobInfo {
        if rights.cover(&job.user) {
            return job;
        }
        v1::JobInfo { sql: String::new(), result_ticket: String::new(), failure: None, ..job }
    }
}

fn no_token() -> Status {
    with_hint(
        Status::unauthenticated("this cluster asks for a token, and none was shown"),
        Some("put yours in a file and name that with client.token_file, or set FIRESTEEL_TOKEN"),
    )
}

fn refused(why: Unknown) -> Status {
    let hint = "an administrator makes one with `firesteel tokens add`";
    let text = match why {
        Unknown::Wrong => "the token is not one of this cluster",
        Unknown::Expired => "the token has expired",
    };
    with_hint(Status::unauthenticated(text), Some(hint))
}

/// The job that a launched driver's secret names.
fn launched_for(secret: &Secret) -> Option<JobId> {
    let (job, _) = secret.expose().strip_prefix(DRIVER_PREFIX)?.split_once('_')?;
    job.parse().ok().map(JobId)
}

/// By which the driver of that launch is known.
pub(super) fn driver_secret(seed: Seed, job: JobId, launch: u32) -> Secret {
    Secret::new(format!("{DRIVER_PREFIX}{}_{}", job.0, derived(seed, "driver", job, launch)))
}

/// What who fetches a job's result must show.
pub(super) fn result_ticket(seed: Seed, job: JobId) -> String {
    derived(seed, "result", job, 0)
}

fn derived(seed: Seed, what: &str, job: JobId, launch: u32) -> String {
    let mut digest = Sha256::new();
    for part in [&seed.0[..], what.as_bytes(), &job.0.to_be_bytes(), &launch.to_be_bytes()] {
        digest.update(part);
    }
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Wanted;

    fn wanted(user: &str) -> Wanted {
        Wanted { user: user.to_owned(), queues: None, admin: false, good_for: None }
    }

    #[test]
    fn a_driver_is_known_by_its_job_and_launch() {
        let secret = |seed: u8, job, launch| driver_secret(Seed([seed; 32]), JobId(job), launch);
        assert_eq!(launched_for(&secret(1, 7, 1)), Some(JobId(7)));
        let others = [secret(1, 7, 2), secret(1, 8, 1), secret(2, 7, 1)];
        assert!(others.iter().all(|other| *other != secret(1, 7, 1)));
        assert_ne!(result_ticket(Seed([1; 32]), JobId(7)), result_ticket(Seed([1; 32]), JobId(8)));
        for text in ["fst_7_1", "fsd_7", "fsd_x_1", ""] {
            assert_eq!(launched_for(&Secret::new(text)), None, "{text}");
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_one_that_makes_no_sense_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        let mut tokens = Tokens::default();
        let ana = tokens.add(wanted("ana"), 0).unwrap();
        tokens.write(&file).unwrap();
        let guard = Guard::open(&file).unwrap();
        let later = |guard: &Guard| {
            let mut read = guard.read.lock().unwrap();
            guard.look(&mut read);
        };
        assert!(guard.rights(&ana).is_ok());
        tokens.remove("ana");
        let bob = tokens.add(wanted("bob"), 0).unwrap();
        tokens.write(&file).unwrap();
        later(&guard);
        assert_eq!((guard.rights(&ana), guard.rights(&bob).is_ok()), (Err(Unknown::Wrong), true));
        fs::write(&file, "nonsense").unwrap();
        later(&guard);
        assert!(guard.rights(&bob).is_ok(), "what was read before stays");
        assert!(Guard::open(&file).is_err());
    }
}
