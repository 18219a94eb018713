//! While a member leads: the manager that runs here, and its right to act.

use std::sync::{Arc, Weak};
use std::time::Duration;

use firesteel_base::UserError;
use firesteel_protocol::channel::not_leader;
use openraft::ServerState;
use openraft::error::Fatal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};
use tonic::Status;

use super::lease::Lease;
use super::record::{Outcome, Raft, Record, Vote};
use super::{CLAIM_WAIT, HELD, Member, Peers, RETURNING_WAIT, WRITE_MAX};
use crate::ManagerConfig;
use crate::config::unix_ms;
use crate::shell::journal::records::{Change, Numbers, rows};
use crate::shell::{Journal, Manager};

/// How often a member that does not lead looks whether it does, and one that leads whether it may still act.
const LOOK: Duration = Duration::from_millis(50);

/// One manager's time as the leader, from a run that it has had begun.
#[derive(Clone)]
pub(in crate::shell) struct Office {
    raft: Raft,
    lease: Arc<Lease>,
    peers: Peers,
    vote: Vote,
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Office({})", self.vote)
    }
}

impl Office {
    fn of(member: &Member, vote: Vote) -> Self {
        Self {
            raft: member.raft.clone(),
            lease: Arc::clone(&member.lease),
            peers: member.peers.clone(),
            vote,
        }
    }

    /// Whether a majority has heard this leader so lately that no other can have been voted for.
    pub fn is_held(&self) -> bool {
        let leads = leads(&self.raft.metrics()) == Some(self.vote);
        leads && self.lease.age(&self.vote).is_some_and(|age| age < HELD)
    }

    /// Has a change written by a majority.
    ///
    /// # Errors
    /// When it is not known to be: another one leads, no majority answers, or another run has begun.
    pub async fn write(&self, change: Change) -> Result<(), UserError> {
        match self.propose(Record::Changes(change)).await? {
            Outcome::Changed => Ok(()),
            Outcome::Nothing | Outcome::Begun(_) | Outcome::Superseded => {
                Err(UserError::new("another run of the manager has begun since this one"))
            }
        }
    }

    async fn begin_run(&self) -> Result<Numbers, UserError> {
        match self.propose(Record::RunBegins { unix_ms: unix_ms() }).await? {
            Outcome::Begun(numbers) => Ok(numbers),
            Outcome::Nothing | Outcome::Changed | Outcome::Superseded => {
                Err(UserError::new("the log did not begin the run that it was asked to"))
            }
        }
    }

    async fn propose(&self, record: Record) -> Result<Outcome, UserError> {
        let fault = |detail: String| {
            UserError::new("a majority of the managers did not write a change").detail(detail)
        };
        let writing = timeout(WRITE_MAX, self.raft.client_write(record));
        let written = tokio::select! {
            written = writing => written,
            () = self.lost() => return Err(fault("this manager does not lead any more".to_owned())),
        };
        match written {
            Ok(Ok(written)) => Ok(written.data),
            Ok(Err(refused)) => Err(fault(refused.to_string())),
            Err(_) => Err(fault(format!("not within {} s", WRITE_MAX.as_secs()))),
        }
    }

    /// Completes when it is not held any more.
    async fn lost(&self) {
        while self.is_held() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What those are told who were with this manager.
    pub fn farewell(&self) -> Status {
        let leader = self.raft.metrics().borrow().current_leader.filter(|leader| *leader != self.peers.me());
        not_leader(leader.and_then(|leader| self.peers.address(leader)).as_deref())
    }
}

/// The vote under which a member leads.
fn leads(metrics: &watch::Receiver<openraft::RaftMetrics<u64, openraft::BasicNode>>) -> Option<Vote> {
    let metrics = metrics.borrow();
    (metrics.state == ServerState::Leader && metrics.vote.committed).then_some(metrics.vote)
}

/// Runs a manager whenever the member leads, until it is gone or cannot go on.
pub(super) async fn keep(member: Weak<Member>, config: ManagerConfig) {
    let Some(mut metrics) = member.upgrade().map(|member| member.raft.metrics()) else { return };
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            // A consensus that has ended tells nothing any more.
            Ok(()) = metrics.changed() => {}
        }
        let Some(member) = member.upgrade() else { return };
        if let Err(fault) = &metrics.borrow().running_state {
            if matches!(fault, Fatal::Stopped) {
                return;
            }
            let error = member
                .store
                .cannot("keep", fault)
                .hint("is its disk full? Another manager goes on meanwhile");
            member.failure.send_replace(Some(error));
            return;
        }
        look(&member, &config, leads(&metrics)).await;
    }
}

async fn look(member: &Arc<Member>, config: &ManagerConfig, vote: Option<Vote>) {
    let leading = member.leading.borrow().clone();
    match (leading, vote) {
        (Some((manager, office)), _) if !office.is_held() || manager.has_failed() => {
            tracing::warn!(me = member.peers.my_address(), "this manager does not lead any more");
            member.leading.send_replace(None);
            manager.stop().await;
        }
        (None, Some(vote)) => {
            let office = Office::of(member, vote);
            if office.is_held() {
                take_office(member, config, office).await;
            }
        }
        (Some(_), _) | (None, None) => {}
    }
}

async fn take_office(member: &Arc<Member>, config: &ManagerConfig, office: Office) {
    let begun = async {
        let numbers = office.begin_run().await?;
        let rows = member.store.read(rows).map_err(|fault| member.store.cannot("read", &fault))?;
        let journal = Journal::of_members(office.clone(), numbers, &rows);
        journal.map_err(|fault| member.store.cannot("read", &fault))
    };
    match begun.await {
        Ok(journal) => {
            let config = ManagerConfig {
                claim_wait: CLAIM_WAIT.min(config.claim_wait),
                returning_wait: RETURNING_WAIT.min(config.returning_wait),
                ..config.clone()
            };
            tracing::info!(me = member.peers.my_address(), vote = %office.vote, "this manager leads");
            let manager = Manager::start_with_journal(config, journal);
            member.leading.send_replace(Some((manager, office)));
        }
        // It is tried again for as long as this member leads.
        Err(error) => tracing::warn!(%error, "this manager cannot begin to lead"),
    }
}
