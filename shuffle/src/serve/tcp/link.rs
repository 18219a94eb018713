//! What a connection's link carries while it is busy, and what of it is packed.
//!
//! The link is busy from one moment at which the kernel takes no more bytes to the next, unless it had sent all of them
//! in between: then it was not the link that was slow. What it took from one such moment to the next, it has sent.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::pack::{Codecs, Compression, Judge};

/// A link is measured over this time at least.
const MEASURED_MIN: Duration = Duration::from_millis(20);

/// A connection's link.
#[derive(Debug)]
pub(super) struct Link {
    /// How its client takes frames packed.
    pub codecs: Codecs,
    pub judge: Judge,
    /// Something depends on what it carries.
    pub is_measured: bool,
    /// Since when it is busy, and the bytes that were taken since.
    busy: Option<(Instant, u64)>,
}

impl Link {
    /// The link of a greeted connection.
    pub fn of(stream: &TcpStream, codecs: Codecs, setting: Compression) -> Self {
        let address =
            |address: std::io::Result<std::net::SocketAddr>| address.ok().map(|address| address.ip());
        let (peer, own) = (address(stream.peer_addr()), address(stream.local_addr()));
        // No measurement is as sure: memory is faster than any packing.
        let is_memory = is_on_this_host(peer, own);
        let setting = if setting == Compression::Auto && is_memory { Compression::None } else { setting };
        Self::new(codecs, setting)
    }

    fn new(codecs: Codecs, setting: Compression) -> Self {
        let is_measured = setting == Compression::Auto;
        Self { codecs, judge: Judge::new(setting, codecs), is_measured, busy: None }
    }

    /// More is about to be written; says whether the kernel has sent all that came before, and whether a packed frame is
    /// among what comes.
    pub fn begin(&mut self, all_sent: bool, is_packed: bool) {
        if all_sent {
            self.busy = None;
        }
        if is_packed {
            self.judge.was_idle(all_sent);
        }
    }

    /// The kernel took so many bytes.
    pub fn took(&mut self, bytes: usize) {
        if let Some((_, taken)) = &mut self.busy {
            *taken += bytes as u64;
        }
    }

    /// The kernel takes no more for now.
    pub fn is_full(&mut self, now: Instant) {
        let (since, taken) = *self.busy.get_or_insert((now, 0));
        let time = now - since;
        if time >= MEASURED_MIN {
            self.judge.carried(taken, time);
            self.busy = Some((now, 0));
        }
    }
}

fn is_on_this_host(peer: Option<IpAddr>, own: Option<IpAddr>) -> bool {
    peer.is_some_and(|peer| peer.to_canonical().is_loopback()) || (peer.is_some() && peer == own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Codec;

    #[test]
    fn a_link_is_measured_while_it_is_busy() {
        let mut link = Link::new(Codecs::ALL, Compression::Auto);
        let (mut now, step) = (Instant::now(), Duration::from_millis(10));
        assert_eq!(link.judge.choose(), None, "it was not measured yet");
        // 125 KB in 10 ms: 100 Mbit/s.
        for _ in 0..10 {
            link.begin(false, false);
            link.took(125_000);
            link.is_full(now);
            now += step;
        }
        assert_eq!(link.judge.choose(), Some(Codec::Zstd));
        // What follows came after a pause in which the link had nothing to do.
        let mut paused = Link::new(Codecs::ALL, Compression::Auto);
        for _ in 0..10 {
            paused.begin(true, false);
            paused.took(125_000);
            paused.is_full(now);
            now += step;
        }
        assert_eq!(paused.judge.choose(), None, "it may carry much more");
        for _ in 0..50 {
            link.begin(false, false);
            link.took(12_500_000);
            link.is_full(now);
            now += step;
        }
        assert_eq!(link.judge.choose(), None, "it has become fast");
    }

    #[test]
    fn what_stays_on_this_host_is_known() {
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (peer, own) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("10.0.0.7", "10.0.0.7")] {
            assert!(is_on_this_host(address(peer), address(own)), "{peer}");
        }
        assert!(is_on_this_host(address("::ffff:127.0.0.9"), address("::ffff:127.0.0.1")));
        assert!(!is_on_this_host(address("10.0.0.7"), address("10.0.0.8")));
        assert!(!is_on_this_host(None, None));
    }
}
