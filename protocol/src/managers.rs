//! The managers of a cluster as those see them who look for the one that leads: workers, drivers and clients.
//!
//! ```text
//!   one address:   it is connected to, as any other peer is
//!   several:       all are asked at once who leads ──► the first that says "I do" is connected to
//!                         ▲                    └─────► nobody does: asked again after a moment, until patience ends
//!                         └── also those of whom the others say that they lead
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firesteel_base::{UserError, version};
use firesteel_certs::Security;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use crate::channel::{Channel, Server, connect, connect_alert, leader_told, told};
use crate::v1::members_client::MembersClient;
use crate::v1::{MemberRole, MemberView, ShowMemberRequest};

/// How long one manager may take to say who leads.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
const ASK_PAUSE: Duration = Duration::from_millis(100);
/// Managers that are asked at most: those that are named, and those that others name.
const ASKED_MAX: usize = 128;
/// The largest answer of one, in bytes.
const VIEW_BYTES_MAX: usize = 1 << 20;

/// The managers of one cluster. Clones share what they learn.
#[derive(Debug, Clone)]
pub struct Managers {
    named: Arc<[String]>,
    security: Security,
    told: Arc<Mutex<Option<String>>>,
}

/// What came of asking one who leads.
enum Asked {
    Leads(Channel),
    Not { why: String, leader: Option<String> },
}

impl Managers {
    /// Those of a list `host:port,host:port`, and how they are talked to.
    #[must_use]
    pub fn of(list: &str, security: Security) -> Self {
        let named = list.split(',').map(str::trim).filter(|address| !address.is_empty());
        Self { named: named.map(str::to_owned).collect(), security, told: Arc::default() }
    }

    /// The addresses that were named.
    #[must_use]
    pub fn named(&self) -> &[String] {
        &self.named
    }

    /// How they, and the executors of their cluster, are talked to.
    #[must_use]
    pub fn security(&self) -> &Security {
        &self.security
    }

    /// Whether there may be another one than the one that was talked to last.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.candidates().len() > 1
    }

    /// Learns who leads from a refusal. Says whether it was one for that reason.
    pub fn learn(&self, status: &Status) -> bool {
        match leader_told(status) {
            Some(leader) => {
                self.learn_leader(leader);
                true
            }
            None => false,
        }
    }

    fn learn_leader(&self, leader: Option<String>) {
        if let Some(leader) = leader {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(leader);
        }
    }

    fn candidates(&self) -> Vec<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let told = told.filter(|told| !self.named.contains(told));
        self.named.iter().cloned().chain(told).collect()
    }

    /// Connects to the manager that leads, and tells its address. One that is the only one is taken for it.
    ///
    /// # Errors
    /// When none of them leads within `patience`, with what is the matter with each.
    pub async fn connect(&self, patience: Duration) -> Result<(String, Channel), UserError> {
        let deadline = Instant::now() + patience;
        loop {
            let mut candidates = self.candidates();
            if let [only] = candidates.as_slice() {
                return connect(&self.security, Server::Manager, only)
                    .await
                    .map(|channel| (only.clone(), channel));
            }
            let mut reasons = BTreeMap::new();
            while !candidates.is_empty() {
                match self.ask_all(candidates, &mut reasons).await {
                    Ok(found) => return Ok(found),
                    // Those that others name are asked in the same round.
                    Err(more) => candidates = more,
                }
            }
            if Instant::now() + ASK_PAUSE >= deadline {
                return Err(self.nobody_leads(&reasons));
            }
            sleep(ASK_PAUSE).await;
        }
    }

    /// The first of these that leads; else those that they name and that were not asked. What is the matter with each goes to
    /// `reasons`.
    async fn ask_all(
        &self,
        candidates: Vec<String>,
        reasons: &mut BTreeMap<String, String>,
    ) -> Result<(String, Channel), Vec<String>> {
        let mut asking = JoinSet::new();
        for address in candidates {
            reasons.insert(address.clone(), "it was not heard".to_owned());
            let security = self.security.clone();
            asking.spawn(async move { (ask(&security, &address).await, address) });
        }
        let mut more = Vec::new();
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok((Asked::Leads(channel), address)) => {
                    self.learn_leader(Some(address.clone()));
                    return Ok((address, channel));
                }
                Ok((Asked::Not { why, leader }, address)) => {
                    reasons.insert(address, why);
                    more.extend(leader);
                }
                // A task that panicked has nothing to say.
                Err(_) => {}
            }
        }
        more.retain(|address| !reasons.contains_key(address));
        more.sort_unstable();
        more.dedup();
        more.truncate(ASKED_MAX.saturating_sub(reasons.len()));
        Err(more)
    }

    fn nobody_leads(&self, reasons: &BTreeMap<String, String>) -> UserError {
        let reasons: Vec<_> = reasons.iter().map(|(address, why)| format!("{address}: {why}")).collect();
        UserError::new(format!("none of the managers {self} leads"))
            .detail(reasons.join("; "))
            .hint("a majority of them must run and reach each other: `firesteel managers` shows which do")
    }
}

impl fmt::Display for Managers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named.join(","))
    }
}

/// What the manager at `address` says of itself and the others.
///
/// # Errors
/// When it does not answer in time, in words for a person.
pub async fn show(
    security: &Security,
    address: &str,
    patience: Duration,
) -> Result<(MemberView, Channel), String> {
    let asking = async {
        let channel = connect_alert(security, Server::Manager, address, patience)
            .await
            .map_err(|error| error.detail.unwrap_or(error.message))?;
        let request = ShowMemberRequest { wire_version: version::WIRE_OLDEST };
        let mut client = MembersClient::new(channel.clone()).max_decoding_message_size(VIEW_BYTES_MAX);
        let view = client.show(request).await.map_err(|status| match status.code() {
            Code::Unimplemented => "it is of a release that knows of no others".to_owned(),
            _ => told(&status),
        })?;
        Ok((view.into_inner(), channel))
    };
    timeout(patience, asking)
        .await
        .unwrap_or_else(|_| Err(format!("it did not answer within {} ms", patience.as_millis())))
}

async fn ask(security: &Security, address: &str) -> Asked {
    let (view, channel) = match show(security, address, ASK_TIMEOUT).await {
        Ok(shown) => shown,
        Err(why) => return Asked::Not { why, leader: None },
    };
    let leader = Some(view.leader.clone()).filter(|leader| !leader.is_empty());
    match view.role() {
        MemberRole::Alone => Asked::Leads(channel),
        MemberRole::Leader if view.serves => Asked::Leads(channel),
        role => Asked::Not { why: why_not(role, leader.as_deref()), leader },
    }
}

fn why_not(role: MemberRole, leader: Option<&str>) -> String {
    match (role, leader) {
        (MemberRole::Forming, _) => "it waits for all others, to form the cluster".to_owned(),
        (MemberRole::Joining, _) => "it catches up with the others".to_owned(),
        (MemberRole::Leader, _) => "it leads, but hears no majority, or has only begun".to_owned(),
        (_, Some(leader)) => format!("it follows {leader}"),
        (_, None) => "it knows of no leader".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::not_leader;

    #[test]
    fn a_list_is_read_and_said_again() {
        let managers = Managers::of("a:7400, b:7400,", Security::default());
        assert_eq!(managers.named(), ["a:7400", "b:7400"]);
        assert_eq!(managers.to_string(), "a:7400,b:7400");
        assert!(managers.are_several());
    }

    #[test]
    fn one_that_names_the_leader_makes_two() {
        let managers = Managers::of("a:7400", Security::default());
        assert!(!managers.are_several());
        assert!(!managers.learn(&Status::unavailable("gone")));
        assert!(managers.learn(&not_leader(None)) && !managers.are_several());
        assert!(managers.learn(&not_leader(Some("b:7400"))) && managers.are_several());
        assert_eq!(managers.candidates(), ["a:7400", "b:7400"]);
    }

    #[tokio::test]
    async fn who_finds_nobody_says_what_is_the_matter_with_each() {
        let taken = [std::net::TcpListener::bind("127.0.0.1:0"), std::net::TcpListener::bind("127.0.0.1:0")];
        let [gone, silent] = taken.map(Result::unwrap);
        let (gone_at, silent_at) = (gone.local_addr().unwrap(), silent.local_addr().unwrap());
        drop(gone);
        let managers = Managers::of(&format!("{gone_at},{silent_at}"), Security::default());
        let error = managers.connect(Duration::ZERO).await.unwrap_err();
        assert!(error.message.contains(&managers.to_string()), "{error:?}");
        let detail = error.detail.unwrap();
        assert!(detail.contains(&format!("{gone_at}: Connection refused")), "{detail}");
        assert!(detail.contains(&format!("{silent_at}: it did not answer within 500 ms")), "{detail}");
    }
}
