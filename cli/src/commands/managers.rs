//! `firesteel managers`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use firesteel_base::UserError;
use firesteel_protocol::managers::{Managers, show};
use firesteel_protocol::v1::{MemberRole, MemberView};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::args::{Flags, Global};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::{print, print_json};
use crate::output::text;
use crate::runtime;

const EXAMPLES: &str = "\
Examples:
  firesteel managers
  firesteel managers --manager a:7400,b:7400,c:7400 --json | jq '.managers[] | select(.role == \"leader\")'

All are asked, those that are named and those that these name. A leader serves while it hears a majority of them.";

/// How long each may take to answer.
const SHOW_TIMEOUT: Duration = Duration::from_secs(2);

/// List the managers of a cluster: which one leads, which can be reached, and how far each has what is kept
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ManagersArgs {
    /// The cluster's manager; of several all, or some of them [env: FIRESTEEL_MANAGER] [default: 127.0.0.1:7400]
    #[arg(long, value_name = "HOST:PORT,..")]
    manager: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What each says, or why it says nothing, by address.
type Views = BTreeMap<String, Result<MemberView, String>>;

/// Runs the command.
pub fn run(global: &Global, args: &ManagersArgs) -> Result<Exit, Failure> {
    let mut flags = Flags::default();
    flags.put("client.manager", "--manager", args.manager.as_ref());
    let context = Context::load(global, flags.0, Role::Command)?;
    let managers = context.client()?.managers();
    let views = runtime::run(async { Ok::<_, Failure>(ask_all(&managers).await) })?;
    if args.json {
        let all: Vec<_> = views.iter().map(|(address, view)| as_json(address, view)).collect();
        print_json(&json!({ "leader": leader(&views), "managers": all }))?;
    } else {
        let headers = ["MANAGER", "ROLE", ">TERM", ">RECORDS", ">APPLIED", ">HEARD", "STARTED", "RELEASE"];
        print(&text::columns(&headers, views.iter().map(|(address, view)| row(address, view))))?;
    }
    match leader(&views) {
        Some(_) => Ok(Exit::Done),
        None => Err(nobody_leads(&managers, &views)),
    }
}

/// Asks those, and whom they name beside them.
async fn ask_all(managers: &Managers) -> Views {
    let mut views = Views::new();
    let mut next = managers.named().to_vec();
    while !next.is_empty() {
        let asked = next.drain(..).map(|address| async move {
            let view = show(managers.security(), &address, SHOW_TIMEOUT).await.map(|(view, _)| view);
            (address, view)
        });
        views.extend(join_all(asked).await);
        let members = views.values().flatten().flat_map(|view| view.members.split(','));
        let unknown = members.filter(|member| !member.is_empty() && !views.contains_key(*member));
        next = unknown.map(str::to_owned).collect();
        next.sort_unstable();
        next.dedup();
    }
    views
}

/// The one that serves. Two may say so for a moment, while one is being replaced: the later one does.
fn leader(views: &Views) -> Option<&str> {
    let serving = views.iter().filter_map(|(address, view)| Some((view.as_ref().ok()?, address)));
    let serving = serving.filter(|(view, _)| view.serves);
    serving.max_by_key(|(view, _)| view.term).map(|(_, address)| address.as_str())
}

fn nobody_leads(managers: &Managers, views: &Views) -> Failure {
    let reachable = views.values().filter(|view| view.is_ok()).count();
    Failure::cluster(
        UserError::new(format!("none of the managers {managers} leads"))
            .detail(format!("{reachable} of {} can be reached", views.len()))
            .hint("a majority of them must run and reach each other; when the cluster is first formed, all"),
    )
}

fn role(view: &MemberView) -> &'static str {
    match view.role() {
        MemberRole::Unspecified => "unknown",
        MemberRole::Alone => "alone",
        MemberRole::Leader if view.serves => "leader",
        MemberRole::Leader => "leader, unheard",
        MemberRole::Follower => "follower",
        MemberRole::Forming => "forming",
        MemberRole::Joining => "joining",
    }
}

fn row(address: &str, view: &Result<MemberView, String>) -> Vec<String> {
    let view = match view {
        Ok(view) => view,
        Err(why) => return vec![address.to_owned(), format!("unreachable: {why}")],
    };
    let heard = view
        .heard_ms
        .map_or_else(String::new, |heard| format!("{} ago", text::span(Duration::from_millis(heard))));
    let is_alone = view.role() == MemberRole::Alone;
    let number = |number: u64| if is_alone { String::new() } else { number.to_string() };
    vec![
        address.to_owned(),
        role(view).to_owned(),
        number(view.term),
        number(view.last_record),
        number(view.applied),
        heard,
        text::ago(view.started_unix_ms),
        view.release.clone(),
    ]
}

fn as_json(address: &str, view: &Result<MemberView, String>) -> Value {
    match view {
        Err(why) => json!({ "manager": address, "reachable": false, "fault": why }),
        Ok(view) => json!({
            "manager": address,
            "reachable": true,
            "role": role(view),
            "serves": view.serves,
            "leader": Some(&view.leader).filter(|leader| !leader.is_empty()),
            "term": view.term,
            "last_record": view.last_record,
            "applied": view.applied,
            "heard_ms": view.heard_ms,
            "started_unix_ms": view.started_unix_ms,
            "release": view.release,
            "members": view.members.split(',').filter(|member| !member.is_empty()).collect::<Vec<_>>(),
        }),
    }
}
