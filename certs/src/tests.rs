#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use firesteel_base::UserError;
use firesteel_base::config::{Auto, SecuritySettings};

use crate::{
    Authority, Files, Handover, Identity, Lifetime, Pem, Reach, Request, Role, Security, Tls, read_chain,
};

fn request(role: Role, hosts: &[&str]) -> Request {
    let user = (role == Role::Client).then(|| "alice".to_owned());
    let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
    Request { role, user, hosts, lifetime: Lifetime::of_days(90) }
}

fn authority(folder: &Path) -> Authority {
    let folder = folder.join("ca");
    Authority::create(&folder, "test", Lifetime::of_days(90)).unwrap();
    Authority::open(&folder).unwrap()
}

fn issue(authority: &Authority, folder: &Path, request: &Request) -> Result<Tls, UserError> {
    authority.issue(request)?.write(folder)?;
    Tls::of_files(Files::of_folder(folder))
}

fn settings(folder: Option<&Path>, insecure: bool) -> SecuritySettings {
    let folder = folder.map_or(Auto::Auto, |folder| Auto::Set(folder.to_str().unwrap().to_owned()));
    SecuritySettings { folder, ca: Auto::Auto, certificate: Auto::Auto, key: Auto::Auto, insecure }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_issued_says_who_it_is_and_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let node = folder.path().join("w");
    let tls = issue(&authority, &node, &request(Role::Worker, &["w.example.org", "10.0.0.7"])).unwrap();
    assert_eq!(*tls.identity(), Identity::of("test", Role::Worker, None));
    assert!(tls.covers("w.example.org") && tls.covers("10.0.0.7"));
    assert!(!tls.covers("10.0.0.8") && !tls.covers("example.org") && !tls.covers("no host"));
    assert_eq!(
        (mode(&node.join("node.key")), mode(&node.join("node.pem")), mode(&node)),
        (0o600, 0o644, 0o700)
    );
    assert_eq!(mode(&folder.path().join("ca/ca.key")), 0o600);
    let shown = read_chain(&node.join("node.pem")).unwrap().remove(0);
    assert_eq!(shown.hosts, ["w.example.org", "10.0.0.7"]);
    assert!(!shown.is_authority && shown.issuer.contains("Firesteel authority of test"), "{shown:?}");
    let ca = read_chain(&node.join("ca.pem")).unwrap().remove(0);
    assert_eq!((ca.is_authority, ca.authority_of.as_deref(), ca.identity), (true, Some("test"), None));
}

#[test]
fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let node = folder.path().join("w");
    let before = authority.issue(&request(Role::Worker, &["w"])).unwrap();
    before.write(&node).unwrap();
    let key = std::fs::read_to_string(node.join("node.key")).unwrap();
    let told = authority.issue(&request(Role::Worker, &["w"])).unwrap().write(&node).unwrap_err();
    assert!(told.message.contains("is there already"), "{told}");
    assert_eq!(std::fs::read_to_string(node.join("node.key")).unwrap(), key);
    let again = Authority::create(&folder.path().join("ca"), "test", Lifetime::of_days(1)).unwrap_err();
    assert!(again.message.contains("is there already"), "{again}");
}

#[test]
fn who_serves_has_a_host_and_names_make_sense() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let refused = |request: &Request| authority.issue(request).unwrap_err().to_string();
    assert!(refused(&request(Role::Manager, &[])).contains("needs a host"));
    assert!(refused(&request(Role::Worker, &["a b"])).contains("'a b' is not the name"));
    assert!(refused(&request(Role::Worker, &["a:7400"])).contains("without a port"));
    let nobody = Request { user: Some("a/b".to_owned()), ..request(Role::Client, &[]) };
    assert!(refused(&nobody).contains("cannot be the name of a user"));
}

#[test]
fn a_key_that_others_can_read_is_refused_with_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let node = folder.path().join("w");
    authority.issue(&request(Role::Worker, &["w"])).unwrap().write(&node).unwrap();
    let key = node.join("node.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let told = Tls::of_files(Files::of_folder(&node)).unwrap_err();
    assert!(told.message.contains("is not secret"), "{told}");
    assert_eq!(told.hint.unwrap(), format!("chmod 600 {}", key.display()));
}

#[test]
fn what_others_would_not_take_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(folder.path()), authority(&folder.path().join("other")));
    let (past, day) = (SystemTime::now() - Duration::from_secs(86_400), Duration::from_secs(86_400));
    let lifetime = Lifetime { begins: past - day, ends: past };
    let over = Request { lifetime, ..request(Role::Worker, &["w"]) };
    let told = issue(&ours, &folder.path().join("over"), &over).unwrap_err();
    assert!(told.message.contains("is over: it held until"), "{told}");

    let foreign = folder.path().join("foreign");
    issue(&other, &foreign, &request(Role::Worker, &["w"])).unwrap();
    let files = Files { ca: folder.path().join("ca/ca.pem"), ..Files::of_folder(&foreign) };
    let told = Tls::of_files(files).unwrap_err();
    assert!(told.message.contains("is not one of the authority in"), "{told}");

    let one = folder.path().join("one");
    issue(&ours, &one, &request(Role::Worker, &["w"])).unwrap();
    let mixed = Files { key: foreign.join("node.key"), ..Files::of_folder(&one) };
    let told = Tls::of_files(mixed).unwrap_err();
    assert!(told.message.contains("do not belong together"), "{told}");

    let authority_itself = Files {
        certificate: one.join("ca.pem"),
        key: folder.path().join("ca/ca.key"),
        ..Files::of_folder(&one)
    };
    assert!(Tls::of_files(authority_itself).unwrap_err().message.contains("gives no role"));
}

#[test]
fn a_certificate_that_ends_soon_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let soon = Request { lifetime: Lifetime::of_days(3), ..request(Role::Client, &[]) };
    let tls = issue(&authority, &folder.path().join("soon"), &soon).unwrap();
    assert!(tls.ends_soon().unwrap() > Duration::from_secs(2 * 86_400));
    let tls = issue(&authority, &folder.path().join("late"), &request(Role::Client, &[])).unwrap();
    assert_eq!(tls.ends_soon(), None);
}

#[test]
fn daemons_need_a_certificate_of_their_role_or_to_be_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let node = folder.path().join("w");
    issue(&authority, &node, &request(Role::Worker, &["w"])).unwrap();
    let told = Security::of_daemon(&settings(None, false), Role::Manager).unwrap_err();
    assert!(told.message.contains("the manager has no certificate"), "{told}");
    assert!(told.detail.unwrap().contains("security.folder") && told.hint.unwrap().contains("--insecure"));
    let told = Security::of_daemon(&settings(Some(&node), false), Role::Manager).unwrap_err();
    assert!(told.message.contains("is of a worker of the cluster 'test', not of a manager"), "{told}");
    let secured = Security::of_daemon(&settings(Some(&node), false), Role::Worker).unwrap();
    assert!(secured.tls().is_some());
    assert!(secured.check_host("w").is_ok());
    assert!(secured.check_host("other").unwrap_err().detail.unwrap().contains("it names w"));
    let plain = Security::of_daemon(&settings(Some(&node), true), Role::Worker).unwrap();
    assert!(matches!(plain, Security::Plain(Reach::Anywhere)));
}

#[test]
fn commands_without_a_certificate_stay_on_this_host() {
    let of = |settings| Security::of_client(&settings).unwrap();
    assert!(matches!(of(settings(None, false)), Security::Plain(Reach::ThisHost)));
    assert!(matches!(of(settings(None, true)), Security::Plain(Reach::Anywhere)));
    let told = Security::of_client(&settings(Some(Path::new("/no/such")), false)).unwrap_err();
    assert!(told.message.contains("/no/such"), "{told}");
}

#[test]
fn what_a_child_is_told_makes_the_same_again_and_shows_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let node = folder.path().join("w");
    let tls = issue(&authority, &node, &request(Role::Worker, &["w"])).unwrap();
    let key = std::fs::read_to_string(node.join("node.key")).unwrap();
    let secured = Security::Tls(std::sync::Arc::new(tls));
    let handover = secured.handover();
    for shown in [format!("{handover:?}"), format!("{secured:?}"), format!("{authority:?}")] {
        assert!(key.lines().all(|line| !shown.contains(line)), "{shown}");
    }
    // The child may not be let at the files.
    std::fs::remove_dir_all(&node).unwrap();
    assert!(matches!(&handover, Handover::Tls { pem: Pem { key: told, .. }, .. } if *told == key));
    let again = handover.accept().unwrap();
    assert_eq!(*again.tls().unwrap().identity(), Identity::of("test", Role::Worker, None));
    assert!(matches!(Security::default().handover().accept(), Ok(Security::Plain(Reach::ThisHost))));
}

#[test]
fn a_renewed_certificate_is_taken_and_a_half_written_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(folder.path());
    let (node, next) = (folder.path().join("w"), folder.path().join("next"));
    let tls = issue(&authority, &node, &request(Role::Worker, &["w"])).unwrap();
    authority.issue(&request(Role::Worker, &["w"])).unwrap().write(&next).unwrap();
    let first = tls.certificate_now();
    std::fs::copy(next.join("node.pem"), node.join("node.pem")).unwrap();
    assert_eq!(tls.certificate_now(), first, "the key is still the old one");
    std::fs::copy(next.join("node.key"), node.join("node.key")).unwrap();
    assert_ne!(tls.certificate_now(), first);
}
