//! Who somebody is in a cluster, as a URI in a certificate says it.

use std::fmt;

/// What a process is in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A manager: it steers, and keeps the journal with the others.
    Manager,
    /// A worker, with its executors and the drivers that it starts.
    Worker,
    /// A person's or a program's: it submits jobs, drives them, and asks about the cluster.
    Client,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who somebody is: a role in a cluster, and of clients whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The role in it.
    pub role: Role,
    /// The user, of clients alone.
    pub user: Option<String>,
}

const SCHEME: &str = "firesteel://";
/// The longest name of a cluster or a user.
const NAME_MAX: usize = 64;

impl Identity {
    /// Of a role in a cluster; clients have a user.
    #[must_use]
    pub fn of(cluster: &str, role: Role, user: Option<&str>) -> Self {
        Self { cluster: cluster.to_owned(), role, user: user.map(str::to_owned) }
    }

    /// What a URI says; `None` when it is not one of ours.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let (cluster, role) = (parts.next()?, parts.next()?);
        let (role, user) = match (role, parts.next()) {
            ("manager", None) => (Role::Manager, None),
            ("worker", None) => (Role::Worker, None),
            ("client", Some(user)) if is_name(user) => (Role::Client, Some(user)),
            _ => return None,
        };
        (is_name(cluster) && parts.next().is_none()).then(|| Self::of(cluster, role, user))
    }

    /// The URI that says it.
    #[must_use]
    pub fn uri(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("/{user}")).unwrap_or_default();
        format!("{SCHEME}{}/{}{user}", self.cluster, self.role)
    }
}

/// Whether it can be the name of a cluster or a user.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(allowed)
}

/// The URI by which an authority names its cluster.
pub(crate) fn authority_uri(cluster: &str) -> String {
    format!("{SCHEME}{cluster}/ca")
}

/// The cluster that an authority's URI names.
pub(crate) fn cluster_of_authority(uri: &str) -> Option<&str> {
    uri.strip_prefix(SCHEME)?.strip_suffix("/ca").filter(|cluster| is_name(cluster))
}

impl fmt::Display for Identity {
    /// `worker of the cluster 'prod'`, `client alice of the cluster 'prod'`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.role)?;
        if let Some(user) = &self.user {
            write!(f, " {user}")?;
        }
        write!(f, " of the cluster '{}'", self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_who_it_is() {
        for (uri, identity) in [
            ("firesteel://prod/manager", Identity::of("prod", Role::Manager, None)),
            ("firesteel://prod/worker", Identity::of("prod", Role::Worker, None)),
            ("firesteel://a.b-1/client/al@x.org", Identity::of("a.b-1", Role::Client, Some("al@x.org"))),
        ] {
            assert_eq!(Identity::parse(uri), Some(identity.clone()));
            assert_eq!(identity.uri(), uri);
        }
    }

    #[test]
    fn what_is_not_exactly_one_of_ours_says_nothing() {
        for uri in [
            "",
            "https://prod/manager",
            "firesteel://prod",
            "firesteel:///manager",
            "firesteel://prod/ca",
            "firesteel://prod/manager/x",
            "firesteel://prod/client",
            "firesteel://prod/client/",
            "firesteel://prod/client/a/b",
            "firesteel://prod/client/a b",
            "firesteel://prod/Manager",
        ] {
            assert_eq!(Identity::parse(uri), None, "{uri}");
        }
        assert_eq!(cluster_of_authority(&authority_uri("prod")), Some("prod"));
        assert_eq!(cluster_of_authority("firesteel://prod/worker"), None);
    }
}
