//! `firesteel certs`, and what daemons and commands say without certificates.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::support::{names_in, run};

fn certs(folder: &Path, arguments: &[&str]) -> crate::support::Ended {
    let ca = folder.join("ca");
    let mut all = vec!["certs"];
    all.extend(arguments);
    if arguments[0] != "show" {
        all.extend(["--ca", ca.to_str().unwrap()]);
    }
    run(&all)
}

#[test]
fn an_authority_issues_what_is_then_shown() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("node7");
    let made = certs(folder.path(), &["init", "--cluster", "prod"]).printed();
    assert!(made.contains("authority of the cluster 'prod'"), "{made}");
    let arguments = ["issue", "worker", "node7", "10.0.0.7", "--days", "30", "--out", out.to_str().unwrap()];
    let issued = certs(folder.path(), &arguments).printed();
    assert!(issued.contains("worker of the cluster 'prod' at node7, 10.0.0.7"), "{issued}");
    assert_eq!(names_in(&out), ["ca.pem", "node.key", "node.pem"]);
    let mode = std::fs::metadata(out.join("node.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let shown = certs(folder.path(), &["show", out.to_str().unwrap()]).printed();
    assert!(
        shown.contains("authority of the cluster 'prod'") && shown.contains("node7, 10.0.0.7"),
        "{shown}"
    );
    let json = certs(folder.path(), &["show", out.join("node.pem").to_str().unwrap(), "--json"]).printed();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["role"], &json[0]["cluster"]), (&"worker".into(), &"prod".into()));
    let days = (json[0]["ends_unix"].as_i64().unwrap() - json[0]["begins_unix"].as_i64().unwrap()) / 86_400;
    assert_eq!(days, 30);

    certs(folder.path(), &arguments).told(1, &["is there already", "node7"]);
    certs(folder.path(), &["init"]).told(1, &["is there already"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    certs(folder.path(), &["issue", "client", "alice"]).told(1, &["no authority", "certs init"]);
    certs(folder.path(), &["init", "--cluster", "a b"]).told(1, &["'a b'"]);
    certs(folder.path(), &["init"]).printed();
    certs(folder.path(), &["issue", "worker", "node7:7400"]).told(1, &["node7:7400", "without a port"]);
    let ended = certs(folder.path(), &["issue", "worker"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("<HOST>"), "{}", ended.stderr);
    certs(folder.path(), &["show", "/no/such/file.pem"]).told(1, &["/no/such/file.pem"]);
    certs(folder.path(), &["show", folder.path().to_str().unwrap()]).told(1, &["there are no certificates"]);
}

#[test]
fn daemons_do_not_start_without_certificates_unless_they_are_told_to() {
    let names = ["has no certificate", "security.folder", "firesteel certs", "--insecure"];
    run(&["manager", "--bind", "127.0.0.1:0"]).told(2, &names);
    run(&["worker", "--manager", "127.0.0.1:1"]).told(2, &names);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = run(&["manager", "--insecure", "--log-level", "off", "--bind", &address]).told(1, &[]);
    assert!(said.contains("WARNING: this manager has no certificates and no TLS"), "{said}");
    let logged = run(&["manager", "--insecure", "--bind", &address]).told(1, &[]);
    assert_eq!(logged.matches("whoever reaches its ports may run code here").count(), 2, "{logged}");
}

#[test]
fn other_hosts_are_not_talked_to_without_certificates() {
    let names = ["is on another host", "security.folder", "--insecure"];
    run(&["jobs", "--manager", "10.255.255.1:7400"]).told(3, &names);
    run(&["sql", "--manager", "10.255.255.1:7400", "-c", "select 1"]).told(3, &names);
}
