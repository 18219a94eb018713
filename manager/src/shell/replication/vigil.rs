//! What a member does beside answering: it forms the cluster with the others, catches up, lets the others know that it leads,
//! and stands for election when nobody does.
//!
//! ```text
//!   nothing kept ──► forming: all others have kept nothing either ──► has a vote ──► follower ◄──► leader
//!        └─────────► joining: others have something; it has caught up ─┘
//! ```
//!
//! A member that kept nothing cannot tell its first start from one after its disk was lost. In the latter case it may have voted,
//! and acknowledged entries, and must not do so again in another way. So it has no vote until it has seen that nobody has kept
//! anything, which takes all members, once; or has what the leader has had written. Who was seen so, and has the same folder still,
//! has a vote at once.
//!
//! Before it stands for election a member asks the others whether they hear a leader, and stands only where a majority does not.
//! What one alone believes, because it was cut off or stood still, unseats nobody.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use firesteel_base::UserError;
use firesteel_protocol::managers::show;
use firesteel_protocol::v1::{MemberRole, MemberView};
use openraft::ServerState;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::record::LogId;
use super::{CALL, HEARTBEAT, LEASE, Member, RANK_WAIT};

const TURN: Duration = Duration::from_millis(50);
/// How long another member may take to tell of itself.
const SHOW_TIMEOUT: Duration = Duration::from_millis(500);
/// How often members that have not formed a cluster look for each other, and how often they say so.
const FORM_PAUSE: Duration = Duration::from_millis(300);
const FORM_SAY: Duration = Duration::from_secs(10);
/// How often the wait between elections in vain is doubled.
const RETRY_DOUBLINGS: u32 = 3;
/// A member that lost what it kept has no vote for so long after its start: no call of its former life is under way any more.
const JOIN_MIN: Duration = Duration::from_secs(3);

/// What it remembers from turn to turn.
struct Vigil {
    /// When it does something of this kind next.
    beat: Instant,
    form: Instant,
    stand: Instant,
    say: Instant,
    /// How often it has stood for election since it heard a leader.
    tries: u32,
}

/// Keeps watch until the member is gone or cannot go on.
pub(super) async fn keep(member: Weak<Member>) {
    let now = Instant::now();
    let mut vigil = Vigil { beat: now, form: now, stand: now, say: now, tries: 0 };
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Some(member) = member.upgrade() else { return };
        if member.raft.metrics().borrow().running_state.is_err() {
            return;
        }
        if let Err(error) = vigil.turn(&member).await {
            member.failure.send_replace(Some(error));
            return;
        }
    }
}

impl Vigil {
    async fn turn(&mut self, member: &Arc<Member>) -> Result<(), UserError> {
        let now = Instant::now();
        let (state, is_blank) = {
            let metrics = member.raft.metrics().borrow().clone();
            (metrics.state, metrics.last_log_index.is_none())
        };
        let is_new = is_blank || !member.has_vote();
        if is_new && !member.is_behind.load(Ordering::Acquire) {
            if now >= self.form {
                self.form(member, is_blank).await?;
                self.form = Instant::now() + FORM_PAUSE;
            }
        } else if state == ServerState::Leader {
            if now >= self.beat {
                self.beat = now + HEARTBEAT;
                // A consensus that has ended says so elsewhere.
                let _ = member.raft.trigger().heartbeat().await;
            }
        } else if member.heard() < LEASE {
            self.tries = 0;
        } else if member.has_vote() && now >= self.stand && member.heard() >= patience(member) {
            let stood = stand(member).await;
            self.tries += u32::from(stood);
            self.stand = Instant::now() + if stood { retry_wait(member, self.tries) } else { RANK_WAIT };
        }
        Ok(())
    }

    /// Begins the cluster, once all have been seen and nobody has kept anything; or finds that others have begun it.
    async fn form(&mut self, member: &Arc<Member>, is_blank: bool) -> Result<(), UserError> {
        let mine = member.peers.to_string();
        let (mut waiting, mut begun, mut founders) =
            (Vec::new(), Vec::new(), vec![member.store.folder().to_owned()]);
        for (address, view) in views(member).await {
            match view {
                Ok(view) if view.members != mine => waiting.push(format!(
                    "{address} has another list of managers: '{}'. Give all the same",
                    view.members
                )),
                Ok(view) if view.blank => founders.push(view.folder),
                Ok(view) => begun.push((address, view)),
                Err(why) => waiting.push(format!("{address}: {why}")),
            }
        }
        if !begun.is_empty() {
            return find_place(member, begun).await;
        }
        // A vote was gained when all had been seen before.
        if is_blank && (waiting.is_empty() || member.has_vote()) {
            return begin(member, founders).await;
        }
        if Instant::now() >= self.say {
            self.say = Instant::now() + FORM_SAY;
            tracing::warn!(waiting = waiting.join("; "), "waiting for all managers, to form the cluster");
        }
        Ok(())
    }
}

/// Finds out whether the others began with this one, and with this very folder: then it has forgotten nothing.
async fn find_place(member: &Arc<Member>, begun: Vec<(String, MemberView)>) -> Result<(), UserError> {
    let knows_me =
        |(_, view): &&(String, MemberView)| view.founders.iter().any(|id| id == member.store.folder());
    if let Some((_, view)) = begun.iter().find(knows_me) {
        tracing::info!(members = %member.peers, me = member.peers.my_address(), "the managers have formed a cluster");
        return member.gain_vote(view.founders.clone()).await;
    }
    if !member.has_vote() {
        let others: Vec<_> = begun.iter().map(|(address, _)| address.as_str()).collect();
        tracing::warn!(
            others = others.join(","),
            "this manager has kept nothing, but others have: it has no vote until it has caught up"
        );
        member.is_behind.store(true, Ordering::Release);
    }
    Ok(())
}

async fn begin(member: &Arc<Member>, founders: Vec<String>) -> Result<(), UserError> {
    if !member.has_vote() {
        member.gain_vote(founders).await?;
    }
    tracing::info!(members = %member.peers, me = member.peers.my_address(), "the managers form a cluster");
    if let Err(fault) = member.raft.initialize(member.nodes()).await {
        // Another one that began before has made this one its follower.
        tracing::debug!(%fault, "the cluster was begun by another member");
    }
    Ok(())
}

/// Those later in the list wait longer, so that they do not all stand at a time.
fn patience(member: &Member) -> Duration {
    let rank = u32::try_from(member.peers.me()).unwrap_or(u32::MAX);
    LEASE + RANK_WAIT * rank
}

/// Votes are written to disks that may be slow, and an election that is begun anew too soon ends the one before.
fn retry_wait(member: &Member, tries: u32) -> Duration {
    (CALL + patience(member) - LEASE) * 2_u32.pow(tries.saturating_sub(1).min(RETRY_DOUBLINGS))
}

/// Stands for election, if a majority hears no leader. Says whether it did.
async fn stand(member: &Arc<Member>) -> bool {
    let lease = LEASE.as_millis();
    let hears_nobody = |view: &MemberView| {
        let follows = view.role() == MemberRole::Follower;
        let silent = view.heard_ms.is_none_or(|heard| u128::from(heard) >= lease);
        let led_in_vain = view.role() == MemberRole::Leader && silent;
        (follows && silent) || led_in_vain
    };
    let others = views(member).await;
    let agree = others.iter().filter(|(_, view)| view.as_ref().is_ok_and(hears_nobody)).count();
    let hears_by_now = member.heard() < LEASE;
    if agree + 1 < member.peers.majority() || hears_by_now {
        tracing::debug!(agree, "no leader is heard here, but a majority does not say so too");
        return false;
    }
    tracing::info!(me = member.peers.my_address(), "no leader is heard: this manager stands for election");
    // A consensus that has ended says so elsewhere.
    let _ = member.raft.trigger().elect().await;
    true
}

/// What all others tell of themselves.
async fn views(member: &Member) -> Vec<(String, Result<MemberView, String>)> {
    let mut asking = JoinSet::new();
    for address in member.peers.others().map(str::to_owned) {
        let security = member.security.clone();
        asking.spawn(async move {
            let view = show(&security, &address, SHOW_TIMEOUT).await.map(|(view, _)| view);
            (address, view)
        });
    }
    asking.join_all().await
}

/// Gives a member that lost what it kept its vote back, when it has all that the leader has had written.
pub(super) async fn caught_up(member: &Arc<Member>, committed: Option<LogId>) {
    if member.has_vote() {
        return;
    }
    let Some(committed) = committed else { return };
    let last = member.raft.metrics().borrow().last_log_index;
    if member.started.elapsed() < JOIN_MIN || last < Some(committed.index) {
        return;
    }
    match member.gain_vote(Vec::new()).await {
        Ok(()) => {
            member.is_behind.store(false, Ordering::Release);
            tracing::info!(record = committed.index, "this manager has caught up, and has a vote again");
        }
        Err(error) => {
            member.failure.send_replace(Some(error));
        }
    }
}
