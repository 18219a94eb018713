//! Names of things, one newtype each. They print and parse as `job7/s2/p14/a1` wherever they appear.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A text that does not name what it was parsed as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

impl ParseIdError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.to_owned(), expected }
    }
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident($int:ty), $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or_else(|| ParseIdError::new(text, $expected))
            }
        }
    };
}

numbered!(
    /// One submitted query or dataflow. The manager numbers jobs from 1.
    JobId(u64), "job", "a job id such as job7"
);
numbered!(
    /// A stage of a job, numbered from 0 in the order of the stage graph.
    StageId(u32), "s", "a stage id such as s2"
);
numbered!(
    /// One loan of slots by the manager to a driver.
    LeaseId(u64), "lease", "a lease id such as lease12"
);
numbered!(
    /// The number that fences old owners: a message of an older epoch is stale and refused.
    Epoch(u64), "e", "an epoch such as e3"
);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A stage of a job: `job7/s2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StageKey {
    /// The job.
    pub job: JobId,
    /// The stage in it.
    pub stage: StageId,
}

/// A task of a stage: `job7/s2/p14`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The stage.
    pub stage: StageKey,
    /// The task's number in its stage, from 0.
    pub task: u32,
}

/// One try of a task: `job7/s2/p14/a1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The task.
    pub task: TaskKey,
    /// The try, counted from the first number of the driver that made it.
    pub attempt: u32,
}

/// Drivers count their attempts from a multiple of this on: the same task has other attempts when another driver runs its job,
/// as after a launch that was given up and lives on behind a cut network.
const ATTEMPTS_OF_A_DRIVER: u32 = 1 << 12;

impl AttemptKey {
    /// The first number of the attempts of a driver; `random` is what tells drivers apart.
    #[must_use]
    pub fn first_of_driver(random: u128) -> u32 {
        let low = u32::try_from(random % u128::from(u32::MAX / ATTEMPTS_OF_A_DRIVER)).expect("it is below");
        (low + 1) * ATTEMPTS_OF_A_DRIVER
    }

    /// The try of its driver, from 0.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.attempt % ATTEMPTS_OF_A_DRIVER
    }

    /// The key made of its four numbers.
    #[must_use]
    pub fn new(job: JobId, stage: StageId, task: u32, attempt: u32) -> Self {
        Self { task: TaskKey { stage: StageKey { job, stage }, task }, attempt }
    }

    /// The job it belongs to.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.task.stage.job
    }

    /// The stage it belongs to.
    #[must_use]
    pub fn stage(&self) -> StageId {
        self.task.stage.stage
    }
}

impl fmt::Display for StageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.stage)
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/p{}", self.stage, self.task)
    }
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/a{}", self.task, self.number())?;
        match self.attempt / ATTEMPTS_OF_A_DRIVER {
            0 => Ok(()),
            driver => write!(f, ".{driver:05x}"),
        }
    }
}

fn numbered_part(part: Option<&str>, prefix: &str) -> Option<u32> {
    part?.strip_prefix(prefix)?.parse().ok()
}

impl FromStr for StageKey {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (job, stage) =
            text.split_once('/').ok_or_else(|| ParseIdError::new(text, "a stage key such as job7/s2"))?;
        Ok(Self { job: job.parse()?, stage: stage.parse()? })
    }
}

impl FromStr for TaskKey {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fault = || ParseIdError::new(text, "a task key such as job7/s2/p14");
        let (stage, task) = text.rsplit_once('/').ok_or_else(fault)?;
        Ok(Self { stage: stage.parse()?, task: numbered_part(Some(task), "p").ok_or_else(fault)? })
    }
}

impl FromStr for AttemptKey {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fault = || ParseIdError::new(text, "an attempt key such as job7/s2/p14/a1");
        let (task, attempt) = text.rsplit_once('/').ok_or_else(fault)?;
        let (number, driver) = match attempt.split_once('.') {
            Some((number, driver)) => (number, u32::from_str_radix(driver, 16).map_err(|_| fault())?),
            None => (attempt, 0),
        };
        let number = numbered_part(Some(number), "a").ok_or_else(fault)?;
        let first = driver.checked_mul(ATTEMPTS_OF_A_DRIVER).filter(|_| number < ATTEMPTS_OF_A_DRIVER);
        let attempt = first.and_then(|first| first.checked_add(number)).ok_or_else(fault)?;
        Ok(Self { task: task.parse()?, attempt })
    }
}

/// A worker's name: what its operator calls the host. Letters, digits, `.`, `_` and `-`, 1 to 64 of them.
///
/// It is in nearly all that is kept and said of a cluster, so that copies of it share their text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WorkerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError::new(text, "a worker name (1 to 64 letters, digits, '.', '_' or '-')"))
        }
    }
}

impl Serialize for WorkerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for WorkerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An executor of a worker: `host3/e0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutorId {
    /// The worker that started it.
    pub worker: WorkerId,
    /// Its number on that worker, from 0.
    pub index: u32,
}

impl fmt::Display for ExecutorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/e{}", self.worker, self.index)
    }
}

impl FromStr for ExecutorId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fault = || ParseIdError::new(text, "an executor id such as host3/e0");
        let (worker, index) = text.rsplit_once('/').ok_or_else(fault)?;
        Ok(Self { worker: worker.parse()?, index: numbered_part(Some(index), "e").ok_or_else(fault)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_parse_the_same_everywhere() {
        let key = AttemptKey::new(JobId(7), StageId(2), 14, 1);
        assert_eq!(key.to_string(), "job7/s2/p14/a1");
        assert_eq!("job7/s2/p14/a1".parse(), Ok(key));
        let first = AttemptKey::first_of_driver(0x1234_5678_9abc_def0);
        let key = AttemptKey { attempt: first + 1, ..key };
        assert_eq!((key.number(), key.to_string().parse()), (1, Ok(key)));
        assert!(key.to_string().starts_with("job7/s2/p14/a1."));
        assert_eq!("job7/s2".parse(), Ok(key.task.stage));
        assert_eq!("host-3.lan/e1".parse::<ExecutorId>().unwrap().to_string(), "host-3.lan/e1");
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        for text in [
            "",
            "7",
            "job",
            "jobx",
            "job7/s2/p14",
            "job7/s2/p14/a",
            "job7/p14/s2/a1",
            "job-1/s0/p0/a0",
            "job7/s2/p14/a4096",
            "job7/s2/p14/a1.100000",
        ] {
            assert!(text.parse::<AttemptKey>().is_err(), "{text}");
        }
        let fault = "job7/s2".parse::<AttemptKey>().unwrap_err();
        assert!(fault.to_string().contains("job7/s2"), "{fault}");
        for text in ["", "a/b", "host 1", &"x".repeat(65)] {
            assert!(text.parse::<WorkerId>().is_err(), "{text}");
        }
    }
}
