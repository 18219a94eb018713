//! What somebody may do who asks for something: as the token says that was shown, or as the driver of one job.
//!
//! | who | opens and submits jobs | cancels, gets results | drains workers |
//! | --- | --- | --- | --- |
//! | anybody, where no tokens are asked for | in any queue | of all | yes |
//! | a user | in the token's queues, as that user | of that user | no |
//! | an administrator | the same | of all | yes |
//! | a driver that was launched for a job | that job alone | no | no |

use std::collections::BTreeSet;

use firesteel_base::JobId;

use super::job::Job;
use super::message::{OpenJob, Refusal};

/// What somebody may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rights {
    /// Everything: nobody is asked who they are.
    #[default]
    All,
    /// What a token says.
    User(User),
    /// To run the job that a driver was launched for.
    Launched(JobId),
}

/// Whom a token names, and what that one may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The queues; all when it is not said which.
    pub queues: Option<BTreeSet<String>>,
    /// Whether jobs of others and workers are this one's business.
    pub is_admin: bool,
}

impl Rights {
    /// The user that a job is of, when that is not for its client to say.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::User(user) => Some(&user.name),
            Self::All | Self::Launched(_) => None,
        }
    }

    /// Whether the jobs of a user are this one's business.
    #[must_use]
    pub fn cover(&self, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::User(this) => this.is_admin || this.name == user,
            Self::Launched(_) => false,
        }
    }

    /// Whether workers are.
    pub(super) fn refusal_to_steer(&self) -> Option<Refusal> {
        match self {
            Self::All => None,
            Self::User(user) if user.is_admin => None,
            Self::User(_) | Self::Launched(_) => Some(Refusal::NotAdmin),
        }
    }

    /// Why no job may be in that queue.
    pub(super) fn refusal_of_queue(&self, queue: &str) -> Option<Refusal> {
        match self {
            Self::All => None,
            Self::User(User { queues, name, .. }) => {
                let allowed = queues.as_ref()?;
                let refusal = || Refusal::OtherQueue {
                    queue: queue.to_owned(),
                    user: name.clone(),
                    allowed: allowed.iter().cloned().collect(),
                };
                (!allowed.contains(queue)).then(refusal)
            }
            Self::Launched(_) => Some(Refusal::OtherJob),
        }
    }

    /// Why a job may not be cancelled.
    pub(super) fn refusal_to_cancel(&self, job: &Job) -> Option<Refusal> {
        let refusal = || Refusal::OtherUser { job: job.id, user: job.user.clone() };
        (!self.cover(&job.user)).then(refusal)
    }

    /// Whether a driver takes for its own what it may: a submitted job is that of the driver that was launched for it.
    pub(super) fn may_run(&self, open: &OpenJob) -> bool {
        match self {
            Self::All => true,
            Self::User(_) => open.submitted_job.is_none(),
            Self::Launched(job) => {
                open.submitted_job == Some(*job) && open.resumes.as_ref().is_none_or(|r| r.job == *job)
            }
        }
    }
}
