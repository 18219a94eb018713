//! What a manager tells Prometheus: what it has counted, and what it sees of its machine when it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::Timestamp;
use firesteel_certs::Security;
use firesteel_metrics::{Health, Page, Source, put_process, table};
use firesteel_protocol::channel::TRAFFIC;

use super::grpc::Serving;
use super::run::View;
use super::{Counts, Manager, Member};
use crate::machine::Machine;
use crate::machine::job::Job;
use crate::machine::node::NodeState;
use crate::machine::show::JobState;

/// How long the machine may take to be looked at.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Queues that are told by name; the jobs of the others are told together.
const QUEUES_MAX: usize = 32;
/// Bytes of a queue's name that are told.
const QUEUE_NAME_MAX: usize = 64;
/// What the others are called.
const OTHERS: &str = "(other)";

/// A manager as its metrics are told.
pub struct ManagerMetrics {
    serving: Serving,
    counts: Arc<Counts>,
    security: Security,
}

impl ManagerMetrics {
    /// Of a manager that is the only one.
    #[must_use]
    pub fn alone(manager: &Arc<Manager>, security: &Security) -> Self {
        let counts = Arc::clone(&manager.counts);
        Self { serving: Serving::Alone(Arc::clone(manager)), counts, security: security.clone() }
    }

    /// Of one of several.
    #[must_use]
    pub fn member(member: &Arc<Member>, security: &Security) -> Self {
        let counts = Arc::clone(member.counts());
        Self { serving: Serving::Member(Arc::clone(member)), counts, security: security.clone() }
    }

    /// How it stands to the others.
    fn standing(&self) -> Standing {
        match &self.serving {
            Serving::Alone(manager) => {
                let leads = !manager.has_failed();
                Standing { leads, leader: leads.then(String::new), term: 0, behind: 0 }
            }
            Serving::Member(member) => member.standing(),
        }
    }

    /// What the machine looks like, if it can be seen.
    async fn look(&self) -> Option<Seen> {
        let manager = self.serving.manager().ok()?;
        let look = manager.look(Seen::of);
        tokio::time::timeout(LOOK_MAX, look).await.ok()?.ok()
    }
}

/// How a manager stands to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// It leads and serves.
    pub leads: bool,
    /// Who leads, if that is known and was heard lately; empty for itself.
    pub leader: Option<String>,
    pub term: u64,
    /// Records that it has and has not applied.
    pub behind: u64,
}

impl Source for ManagerMetrics {
    async fn page(&self) -> Page {
        let mut page = Page::default();
        put_process(&mut page, "manager");
        if let Some(tls) = self.security.tls() {
            page.put(&table::CERTIFICATE_EXPIRY, u64::try_from(tls.ends()).unwrap_or(0));
        }
        page.put(&table::CONNECTIONS, &TRAFFIC.open);
        page.put_each(&table::CONNECTIONS_REFUSED, TRAFFIC.refused());
        let calls = [("role", &TRAFFIC.role), ("token", self.counts.tokens_refused())];
        page.put_each(&table::CALLS_REFUSED, calls);
        let Standing { leads, leader, term, behind } = self.standing();
        page.put(&table::LEADS, leads);
        page.put(&table::LEADER_KNOWN, leader.is_some());
        page.put(&table::TERM, term);
        page.put(&table::RECORDS_BEHIND, behind);
        self.counts.put(&mut page);
        if let Ok(manager) = self.serving.manager() {
            let inputs = &manager.inputs;
            page.put(&table::MAILBOX, inputs.max_capacity() - inputs.capacity());
            page.put(&table::MAILBOX_MAX, inputs.max_capacity());
        }
        if let Some(seen) = self.look().await {
            seen.put(&mut page);
        }
        page
    }

    async fn health(&self) -> Health {
        let standing = self.standing();
        match standing.leader {
            None => Health::Ails("no manager leads, as far as this one knows".to_owned()),
            Some(leader) if !standing.leads => Health::Serves(format!("follows {leader}")),
            Some(_) if self.look().await.is_some() => Health::Serves("leads".to_owned()),
            Some(_) => Health::Ails(format!("the manager has not answered within {} s", LOOK_MAX.as_secs())),
        }
    }
}

/// Sums over the machine: as large for ten thousand nodes as for one.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Alive, suspect, lost, left.
    nodes: [u64; 4],
    draining: usize,
    silence: Duration,
    executors_up: u64,
    executors_down: u64,
    slots: u64,
    slots_lent: u64,
    leases: usize,
    drivers: usize,
    sessions: usize,
    queues: BTreeMap<String, Queued>,
}

/// The jobs of a queue that have not ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Queued {
    queued: u64,
    running: u64,
    /// How long the oldest one waits that is queued.
    oldest: Duration,
}

impl Queued {
    fn add(&mut self, other: Self) {
        self.queued += other.queued;
        self.running += other.running;
        self.oldest = self.oldest.max(other.oldest);
    }

    fn of(job: &Job, now: Timestamp) -> Self {
        match job.state() {
            JobState::Queued => Self { queued: 1, running: 0, oldest: now - job.submitted },
            JobState::Running => Self { queued: 0, running: 1, oldest: Duration::ZERO },
            JobState::Succeeded | JobState::Failed | JobState::Cancelled => Self::default(),
        }
    }
}

impl Seen {
    fn of(view: &View<'_>) -> Self {
        let machine = view.machine;
        let mut seen = Self {
            draining: machine.drains().workers().len(),
            slots_lent: machine.leases().cores(),
            leases: machine.leases().iter().count(),
            drivers: machine.drivers().count(),
            sessions: view.sessions,
            queues: queues(machine, view.now),
            ..Self::default()
        };
        for node in machine.nodes().iter() {
            let state = match node.state {
                NodeState::Alive => 0,
                NodeState::Suspect => 1,
                NodeState::Lost { .. } => 2,
                NodeState::Left { .. } => 3,
            };
            seen.nodes[state] += 1;
            if !node.is_present() {
                continue;
            }
            seen.silence = seen.silence.max(view.now - node.heard);
            for executor in node.executors.values() {
                if executor.life.is_some() {
                    seen.executors_up += 1;
                    seen.slots += u64::from(executor.spec.slots);
                } else {
                    seen.executors_down += 1;
                }
            }
        }
        seen
    }

    fn put(&self, page: &mut Page) {
        let [alive, suspect, lost, left] = self.nodes;
        let nodes = [("alive", alive), ("suspect", suspect), ("lost", lost), ("left", left)];
        page.put_each(&table::NODES, nodes);
        page.put(&table::NODES_DRAINING, self.draining);
        page.put(&table::HEARTBEAT_AGE, self.silence);
        page.put_each(&table::EXECUTORS, [("up", self.executors_up), ("down", self.executors_down)]);
        page.put(&table::SLOTS, self.slots);
        page.put(&table::SLOTS_LENT, self.slots_lent);
        page.put(&table::LEASES, self.leases);
        page.put(&table::DRIVERS, self.drivers);
        page.put(&table::SESSIONS, self.sessions);
        let mut all = Queued::default();
        self.queues.values().for_each(|queue| all.add(*queue));
        page.put_each(&table::JOBS, [("queued", all.queued), ("running", all.running)]);
        page.put(&table::OLDEST_WAIT, all.oldest);
        for (queue, Queued { queued, running, oldest }) in &self.queues {
            page.put_with(&table::QUEUE_JOBS, [queue.as_str(), "queued"], *queued);
            page.put_with(&table::QUEUE_JOBS, [queue.as_str(), "running"], *running);
            page.put_with(&table::QUEUE_WAIT, [queue.as_str()], *oldest);
        }
    }
}

/// The queues with the most jobs by name, and the others together. The queue without a name is always told.
fn queues(machine: &Machine, now: Timestamp) -> BTreeMap<String, Queued> {
    let mut all = BTreeMap::from([("", Queued::default())]);
    for job in machine.jobs(false) {
        all.entry(job.queue.as_str()).or_default().add(Queued::of(job, now));
    }
    let mut by_jobs: Vec<_> = all.into_iter().collect();
    // Sorting keeps the order of names among those with as many.
    by_jobs.sort_by_key(|(name, queue)| (!name.is_empty(), std::cmp::Reverse(queue.queued + queue.running)));
    let mut told = BTreeMap::new();
    for (at, (name, queue)) in by_jobs.into_iter().enumerate() {
        let name = if at < QUEUES_MAX { &name[..name.floor_char_boundary(QUEUE_NAME_MAX)] } else { OTHERS };
        told.entry(name.to_owned()).or_insert_with(Queued::default).add(queue);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManagerConfig;
    use crate::machine::job::Phase;

    fn waiting(queue: &str, since: u64) -> Job {
        let job = Job::new(
            "a".to_owned(),
            "select 1".to_owned(),
            "u".to_owned(),
            Phase::Submitted,
            Timestamp(since),
        );
        Job { queue: queue.to_owned(), ..job }
    }

    /// A machine that comes up with these jobs in its journal.
    fn machine(jobs: Vec<Job>) -> Machine {
        let numbered = jobs.len() as u64;
        let jobs =
            jobs.into_iter().zip(1..).map(|(job, id)| Job { id: firesteel_base::JobId(id), ..job }).collect();
        Machine::restore(ManagerConfig::default(), jobs, numbered, Timestamp(1_000))
    }

    #[test]
    fn the_largest_queues_are_told_by_name_and_the_rest_together() {
        let mut jobs = vec![waiting("big", 500), waiting("big", 100), waiting("", 900)];
        jobs.extend((0..100).map(|number| waiting(&format!("small{number:03}"), 300)));
        jobs.push(waiting(&"ü".repeat(200), 800));
        jobs.push(waiting(&"ü".repeat(200), 800));
        let told = queues(&machine(jobs), Timestamp(1_000));
        assert_eq!(told.len(), QUEUES_MAX + 1);
        let queued = |queued, millis| Queued { queued, running: 0, oldest: Duration::from_millis(millis) };
        assert_eq!(told["big"], queued(2, 900));
        assert_eq!(told[""], queued(1, 100));
        assert_eq!(told[&"ü".repeat(QUEUE_NAME_MAX / 2)], queued(2, 200));
        assert_eq!(told[OTHERS], queued(100 - (QUEUES_MAX as u64 - 3), 700));
    }

    #[test]
    fn what_is_seen_of_an_idle_machine_is_told_as_zero() {
        let machine = machine(Vec::new());
        assert_eq!(queues(&machine, Timestamp(1_000)), BTreeMap::from([(String::new(), Queued::default())]));
        let mut page = Page::default();
        Seen::default().put(&mut page);
        let text = page.text();
        assert!(text.contains("firesteel_manager_nodes{state=\"alive\"} 0\n"), "{text}");
    }
}
