//! The list of members, the same on each.

use std::fmt;
use std::net::{IpAddr, UdpSocket};

use firesteel_base::UserError;
use firesteel_base::config::HostPort;

/// All members in order, and which of them this one is. They are numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    addresses: Vec<String>,
    me: usize,
}

impl Peers {
    /// The list of a configuration, in an order that is the same for everybody who has it. This one is `advertised`; where that
    /// is not set, the one with an address of this host and the port of `bind`.
    ///
    /// # Errors
    /// When this one is not in it, or cannot be told from another.
    pub async fn find(
        peers: &[HostPort],
        advertised: Option<&HostPort>,
        bind: &HostPort,
    ) -> Result<Self, UserError> {
        let mut here = Vec::new();
        for peer in peers {
            let is_this = match advertised {
                Some(advertised) => peer == advertised,
                None => peer.port == bind.port && is_here(peer, bind).await,
            };
            here.extend(is_this.then(|| peer.to_string()));
        }
        let list = firesteel_base::config::address_list(peers);
        let hint = "say which of them it is with --advertise HOST:PORT (manager.advertise)";
        match here.as_slice() {
            [me] => Ok(Self::new(peers.iter().map(ToString::to_string), me)),
            [] => Err(UserError::new(format!("this manager is none of the managers {list}"))
                .detail(format!("none has an address of this host and the port of {bind} (manager.bind)"))
                .hint(format!("name it in --peers (manager.peers), the same list for each, or {hint}"))),
            several => {
                Err(UserError::new(format!("this manager may be any of {}", several.join(", "))).hint(hint))
            }
        }
    }

    pub(super) fn new(addresses: impl IntoIterator<Item = String>, me: &str) -> Self {
        let mut addresses: Vec<_> = addresses.into_iter().collect();
        addresses.sort_unstable();
        let me = addresses.iter().position(|address| address == me).expect("it is one of them");
        Self { addresses, me }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.addresses.len()
    }

    pub(super) fn majority(&self) -> usize {
        self.count() / 2 + 1
    }

    pub(super) fn me(&self) -> u64 {
        self.me as u64 + 1
    }

    /// The address of this one.
    #[must_use]
    pub fn my_address(&self) -> &str {
        &self.addresses[self.me]
    }

    pub(super) fn address(&self, id: u64) -> Option<String> {
        self.addresses.get(usize::try_from(id).ok()?.checked_sub(1)?).cloned()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &str)> {
        (1..).zip(self.addresses.iter().map(String::as_str))
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        self.all().filter(|(id, _)| *id != self.me()).map(|(_, address)| address)
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addresses.join(","))
    }
}

/// Whether a member has an address of this host at which this manager listens.
async fn is_here(peer: &HostPort, bind: &HostPort) -> bool {
    let bound: Option<Vec<IpAddr>> =
        addresses(bind).await.filter(|bound| !bound.iter().any(IpAddr::is_unspecified));
    let found = addresses(peer).await.unwrap_or_default();
    found.iter().any(|address| match &bound {
        Some(bound) => bound.contains(address),
        // Only an address of this host can be bound to. Nothing is sent.
        None => UdpSocket::bind((*address, 0)).is_ok(),
    })
}

async fn addresses(of: &HostPort) -> Option<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((of.host.as_str(), of.port)).await.ok()?;
    Some(found.map(|address| address.ip()).collect())
}
