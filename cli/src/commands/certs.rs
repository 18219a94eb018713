//! `firesteel certs`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use firesteel_base::UserError;
use firesteel_certs::{Authority, Certificate, Lifetime, Request, Role, read_chain};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::output::results::{print, print_json};
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  # Once, on a machine that is looked after: whoever has ca.key can join the cluster as anybody
  firesteel certs init --ca ./ca --cluster prod

  # For each host, with all names and addresses under which others reach it
  firesteel certs issue manager head head.example.org 10.0.0.1 --ca ./ca --out ./head
  firesteel certs issue worker node7 10.0.0.7 --ca ./ca --out ./node7

  # For each person or program that submits jobs
  firesteel certs issue client alice --ca ./ca --out ./alice

  # Bring each folder to where it is used, to nobody else, and name it there
  FIRESTEEL_SECURITY_FOLDER=/etc/firesteel/node7 firesteel worker --manager head:7400
  FIRESTEEL_SECURITY_FOLDER=~/alice firesteel jobs --manager head:7400

  firesteel certs show ./node7

Each folder holds ca.pem (the authority) and node.pem (the certificate), which are no secrets, and
node.key (the key), which is one. A new certificate and key in place of the old ones are taken
within seconds, without a restart.

Certificates of an authority of your own do as well. One of their names, and only one, must be the
URI firesteel://CLUSTER/manager, firesteel://CLUSTER/worker or firesteel://CLUSTER/client/USER;
those of managers and workers must be for servers and for clients.";

/// Make the certificates of a cluster: an authority, and what managers, workers and users show each other
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CertsArgs {
    #[command(subcommand)]
    command: CertsCommand,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Make the authority of a cluster: ca.pem and ca.key in a folder
    Init(InitArgs),
    /// Issue a certificate: ca.pem, node.pem and node.key in a folder of its own
    #[command(subcommand)]
    Issue(IssueCommand),
    /// Show whose a certificate is, what it is for, and until when
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct InitArgs {
    /// The folder of the authority
    #[arg(long, value_name = "DIR", default_value = "firesteel-ca")]
    ca: PathBuf,
    /// The cluster's name
    #[arg(long, value_name = "NAME", default_value = "firesteel")]
    cluster: String,
    /// How long it holds
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = days())]
    days: u32,
}

#[derive(Debug, Subcommand)]
enum IssueCommand {
    /// For the manager on a host
    Manager(HostArgs),
    /// For the worker on a host, its executors and the drivers that it starts
    Worker(HostArgs),
    /// For a person or a program that submits jobs
    Client(ClientArgs),
}

#[derive(Debug, Args)]
struct HostArgs {
    /// All names and addresses under which others reach the host
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<String>,
    #[command(flatten)]
    common: IssueArgs,
}

#[derive(Debug, Args)]
struct ClientArgs {
    /// Whose it is
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    common: IssueArgs,
}

#[derive(Debug, Args)]
struct IssueArgs {
    /// The folder of the authority
    #[arg(long, value_name = "DIR", default_value = "firesteel-ca")]
    ca: PathBuf,
    /// The folder to make [default: ROLE-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How long the certificate holds
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = days())]
    days: u32,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// A file of certificates, or a folder with such files
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=36_500)
}

/// Runs the command.
pub fn run(args: &CertsArgs) -> Result<Exit, Failure> {
    match &args.command {
        CertsCommand::Init(args) => init(args)?,
        CertsCommand::Issue(IssueCommand::Manager(args)) => {
            issue(Role::Manager, None, &args.hosts, &args.common)?;
        }
        CertsCommand::Issue(IssueCommand::Worker(args)) => {
            issue(Role::Worker, None, &args.hosts, &args.common)?;
        }
        CertsCommand::Issue(IssueCommand::Client(args)) => {
            issue(Role::Client, Some(&args.user), &[], &args.common)?;
        }
        CertsCommand::Show(args) => show(args)?,
    }
    Ok(Exit::Done)
}

fn init(args: &InitArgs) -> Result<(), Failure> {
    Authority::create(&args.ca, &args.cluster, Lifetime::of_days(args.days))?;
    print(&format!(
        "made the authority of the cluster '{}' in {}\n  ca.key is its key: whoever has it can join the cluster as anybody\n",
        args.cluster,
        args.ca.display()
    ))
}

fn issue(role: Role, user: Option<&String>, hosts: &[String], args: &IssueArgs) -> Result<(), Failure> {
    let authority = Authority::open(&args.ca)?;
    let lifetime = Lifetime::of_days(args.days);
    let request = Request { role, user: user.cloned(), hosts: hosts.to_vec(), lifetime };
    let whose = user.or(hosts.first()).map_or("", String::as_str);
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{role}-{whose}")));
    authority.issue(&request)?.write(&folder)?;
    print(&format!(
        "issued {}\n  bring this folder to where it is used, to nobody else, and name it there: security.folder\n",
        line(&folder.join("node.pem"), &read_chain(&folder.join("node.pem"))?[0])
    ))
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let all: Vec<_> = files(&args.path)?
        .into_iter()
        .map(|file| Ok((read_chain(&file)?, file)))
        .collect::<Result<_, UserError>>()?;
    let each = all.iter().flat_map(|(chain, file)| chain.iter().map(move |certificate| (file, certificate)));
    if args.json {
        return print_json(&each.map(|(file, certificate)| as_json(file, certificate)).collect::<Vec<_>>());
    }
    let headers = ["FILE", "WHO", "HOSTS", "UNTIL", "ISSUED BY"];
    print(&text::columns(
        &headers,
        each.map(|(file, certificate)| {
            vec![
                file.display().to_string(),
                who(certificate),
                certificate.hosts.join(", "),
                certificate.end(),
                certificate.issuer.clone(),
            ]
        }),
    ))
}

/// The files of certificates in a folder, or the one that is named.
fn files(path: &Path) -> Result<Vec<PathBuf>, UserError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|fault| {
        UserError::new(format!("cannot read {}", path.display())).detail(fault.to_string())
    })?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "pem"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(UserError::new(format!("there are no certificates in {}", path.display()))
            .hint("files of certificates end with .pem"));
    }
    Ok(files)
}

fn who(certificate: &Certificate) -> String {
    match (&certificate.identity, &certificate.authority_of) {
        (Some(identity), _) => identity.to_string(),
        (None, Some(cluster)) => format!("authority of the cluster '{cluster}'"),
        (None, None) if certificate.is_authority => "an authority".to_owned(),
        (None, None) => "no role".to_owned(),
    }
}

fn line(file: &Path, certificate: &Certificate) -> String {
    let hosts = match certificate.hosts.as_slice() {
        [] => String::new(),
        hosts => format!(" at {}", hosts.join(", ")),
    };
    format!("{}: {}{hosts}, until {}", file.display(), who(certificate), certificate.end())
}

fn as_json(file: &Path, certificate: &Certificate) -> Value {
    let identity = certificate.identity.as_ref();
    json!({
        "file": file.display().to_string(),
        "role": identity.map(|identity| identity.role.as_str()),
        "user": identity.and_then(|identity| identity.user.as_ref()),
        "cluster": identity.map(|identity| &identity.cluster).or(certificate.authority_of.as_ref()),
        "is_authority": certificate.is_authority,
        "hosts": certificate.hosts,
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "begins_unix": certificate.begins,
        "ends_unix": certificate.ends,
    })
}
