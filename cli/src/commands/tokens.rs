//! `firesteel tokens`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use firesteel_base::UserError;
use firesteel_base::units::parse_duration;
use firesteel_manager::tokens::{Token, Tokens, Wanted};
use serde_json::json;

use crate::args::{Flags, Global};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::output::results::{print, print_json};
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  firesteel tokens add ana --queue etl --queue adhoc --expires 90d --file /etc/firesteel/tokens.toml
  firesteel tokens add ops --admin --file /etc/firesteel/tokens.toml
  firesteel tokens list --file /etc/firesteel/tokens.toml
  firesteel tokens remove 5f0c2e91 --file /etc/firesteel/tokens.toml

The file is the manager's (manager.tokens); of several managers each has the same. It holds digests, not tokens. A token is
printed once, when it is made: its user puts it in a file that nobody else may read (client.token_file), or in FIRESTEEL_TOKEN.";

/// Make, list and remove the tokens by which a manager knows its users
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TokensArgs {
    #[command(subcommand)]
    command: TokensCommand,
    /// The file of tokens [default: manager.tokens of the configuration]
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<String>,
}

#[derive(Debug, Subcommand)]
enum TokensCommand {
    /// Make a token and print it: it is not kept anywhere
    Add {
        /// Whom it names; jobs are listed under this name
        user: String,
        /// A queue in which the user may have jobs; may be given several times [default: all queues]
        #[arg(long = "queue", value_name = "NAME")]
        queues: Vec<String>,
        /// Let the user cancel jobs of others, fetch their results and drain workers
        #[arg(long)]
        admin: bool,
        /// How long it is good, such as 12h or 90d [default: for ever]
        #[arg(long, value_name = "DURATION", value_parser = good_for)]
        expires: Option<Duration>,
    },
    /// List the tokens: whom they name, not what they are
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a token, or all of a user; jobs that are open go on
    Remove {
        /// Its id as listed, or the user's name
        #[arg(value_name = "ID|USER")]
        which: String,
    },
}

/// Days, or what any other duration is written as.
fn good_for(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let span = match days {
        Some(days) => Ok(Duration::from_secs(u64::from(days) * 86_400)),
        None => parse_duration(text).map_err(|fault| fault.to_string()),
    }?;
    if span.is_zero() { Err("it would be good for nothing".to_owned()) } else { Ok(span) }
}

/// Runs the command.
pub fn run(global: &Global, args: &TokensArgs) -> Result<Exit, Failure> {
    let mut flags = Flags::default();
    flags.put("manager.tokens", "--file", args.file.as_ref());
    let context = Context::load(global, flags.0, Role::Command)?;
    let file = context.config.manager.tokens.clone().set().map(PathBuf::from).ok_or_else(|| {
        let error = UserError::new("there is no file of tokens to work on");
        Failure::usage(error.hint("name it with --file FILE, or set manager.tokens"))
    })?;
    match &args.command {
        TokensCommand::Add { user, queues, admin, expires } => {
            check_name(user)?;
            let queues = (!queues.is_empty()).then(|| queues.iter().cloned().collect::<BTreeSet<_>>());
            add(&file, Wanted { user: user.clone(), queues, admin: *admin, good_for: *expires })?;
        }
        TokensCommand::List { json } => list(&Tokens::read(&file)?, *json)?,
        TokensCommand::Remove { which } => remove(&file, which)?,
    }
    Ok(Exit::Done)
}

fn check_name(user: &str) -> Result<(), Failure> {
    let is_name =
        !user.is_empty() && user.len() <= 64 && !user.chars().any(|c| c.is_control() || c.is_whitespace());
    let fault = || {
        UserError::new(format!("'{user}' is not the name of a user"))
            .hint("give 1 to 64 characters, no spaces")
    };
    if is_name { Ok(()) } else { Err(Failure::usage(fault())) }
}

fn add(file: &Path, wanted: Wanted) -> Result<(), Failure> {
    let mut tokens = if file.exists() { Tokens::read(file)? } else { Tokens::default() };
    let secret = tokens.add(wanted, text::unix_ms_now() / 1000)?;
    tokens.write(file)?;
    print(&format!("{}\n", secret.expose()))
}

fn remove(file: &Path, which: &str) -> Result<(), Failure> {
    let mut tokens = Tokens::read(file)?;
    let removed = tokens.remove(which);
    if removed == 0 {
        let error =
            UserError::new(format!("{} has no token '{which}', and none of such a user", file.display()));
        return Err(error.hint("`firesteel tokens list` shows ids and users").into());
    }
    tokens.write(file)?;
    print(&format!("removed {}\n", text::count(removed as u64, "token")))
}

fn list(tokens: &Tokens, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let one = |token: &Token| {
            json!({
                "id": token.id,
                "user": token.user,
                "queues": token.queues,
                "admin": token.admin,
                "expires_unix": token.expires_unix,
            })
        };
        return print_json(&tokens.iter().map(one).collect::<Vec<_>>());
    }
    let row = |token: &Token| {
        let queues = token.queues.iter().flatten().cloned().collect::<Vec<_>>().join(",");
        vec![
            token.id.clone(),
            token.user.clone(),
            if token.queues.is_some() { queues } else { "all".to_owned() },
            if token.admin { "yes" } else { "no" }.to_owned(),
            expires(token.expires_unix),
        ]
    };
    print(&text::columns(&["ID", "USER", "QUEUES", "ADMIN", "EXPIRES"], tokens.iter().map(row)))
}

fn expires(unix: Option<u64>) -> String {
    let now = text::unix_ms_now() / 1000;
    match unix {
        None => "never".to_owned(),
        Some(unix) if unix <= now => "has expired".to_owned(),
        Some(unix) => format!("in {}", text::span(Duration::from_secs(unix - now))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_days_or_shorter() {
        assert_eq!(good_for("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(good_for("12h"), Ok(Duration::from_secs(12 * 3600)));
        assert!(good_for("0d").is_err() && good_for("soon").is_err());
    }
}
