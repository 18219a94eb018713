//! Hosts of a cluster as network namespaces, joined by a bridge in one more, where clients are.
//!
//! ```text
//!   manager 10.77.0.1 --- p0 \
//!   w0      10.77.0.2 --- p1  >- bridge 10.77.0.254, clients
//!   w1      10.77.0.3 --- p2 /
//! ```
//!
//! Packets are dropped at the bridge's ports by classic BPF programs, which every kernel with `cls_bpf` runs; netem is not needed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::host::{PREFIX, run};
use crate::schedule::Kind;

/// A verdict: drop the packet.
const DROP: u32 = 2;
/// A verdict: ask the next program.
const PASS: u32 = u32::MAX;
/// Where a program finds a random number: an offset that no packet has.
const RANDOM: u32 = 0xffff_f038;

/// A host, by its place on the bridge: the manager is 0, the workers follow.
pub type Host = u32;

/// The hosts; their namespaces are removed when dropped.
#[derive(Debug)]
pub struct Network {
    hosts: u32,
    prefix: String,
}

/// A fault under way on it.
#[derive(Debug, Clone, Copy)]
pub struct Broken {
    /// What was done.
    pub kind: Kind,
    /// To the links of whom.
    pub host: Host,
    /// Only towards this one.
    pub towards: Option<Host>,
    /// Tells apart what is broken at a time.
    pub number: u16,
}

impl Network {
    /// Lays one for so many hosts, named after this process.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn lay(hosts: u32) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let network = Self { hosts, prefix: format!("{PREFIX}{}-{number}", std::process::id()) };
        let switch = network.switch();
        run("ip", &["netns", "add", &switch])?;
        network.at_switch("ip link set lo up")?;
        network.at_switch("ip link add name br0 type bridge")?;
        network.at_switch(&format!("ip addr add {}/24 dev br0", network.client_address()))?;
        network.at_switch("ip link set br0 up")?;
        for host in 0..hosts {
            network.join(host)?;
        }
        Ok(network)
    }

    fn join(&self, host: Host) -> anyhow::Result<()> {
        let (name, address) = (self.namespace(host), Self::address(host));
        run("ip", &["netns", "add", &name])?;
        self.at_switch(&format!("ip link add p{host} type veth peer name eth0 netns {name}"))?;
        self.at_switch(&format!("ip link set p{host} master br0 up"))?;
        self.at_switch(&format!("tc qdisc add dev p{host} clsact"))?;
        for command in
            ["ip link set lo up", &format!("ip addr add {address}/24 dev eth0"), "ip link set eth0 up"]
        {
            within(&name, command)?;
        }
        Ok(())
    }

    /// The address of a host.
    #[must_use]
    pub fn address(host: Host) -> String {
        format!("10.77.0.{}", host + 1)
    }

    fn client_address(&self) -> &'static str {
        "10.77.0.254"
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}-h{host}", self.prefix)
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.prefix)
    }

    fn at_switch(&self, command: &str) -> anyhow::Result<()> {
        within(&self.switch(), command)
    }

    /// A command that becomes `program` on a host, or among the clients. Its process is the program's.
    #[must_use]
    pub fn command(&self, host: Option<Host>, program: &Path) -> Command {
        let name = host.map_or_else(|| self.switch(), |host| self.namespace(host));
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{name}")).arg("--").arg(program);
        command
    }

    /// Breaks a link.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn harm(&self, broken: Broken) -> anyhow::Result<()> {
        let Broken { kind, host, towards, number } = broken;
        let drop_in = |host: Host, direction: &str, program: &str| {
            self.at_switch(&format!(
                "tc filter add dev p{host} {direction} pref {} protocol all bpf da bytecode {program}",
                number + 1
            ))
        };
        match (kind, towards) {
            (Kind::Slow { kbit }, _) => {
                let shape = format!("root tbf rate {kbit}kbit burst 64k latency 400ms");
                self.at_switch(&format!("tc qdisc add dev p{host} {shape}"))?;
                within(&self.namespace(host), &format!("tc qdisc add dev eth0 {shape}"))
            }
            (_, Some(other)) => {
                drop_in(host, "ingress", &to_host(other))?;
                drop_in(other, "ingress", &to_host(host))
            }
            (kind, None) => {
                let percent = if let Kind::Loss { percent } = kind { percent } else { 100 };
                drop_in(host, "ingress", &by_chance(percent))?;
                drop_in(host, "egress", &by_chance(percent))
            }
        }
    }

    /// Mends what [`harm`](Self::harm) broke.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn mend(&self, broken: Broken) -> anyhow::Result<()> {
        let Broken { kind, host, towards, number } = broken;
        let pass_in = |host: Host, direction: &str| {
            self.at_switch(&format!("tc filter del dev p{host} {direction} pref {}", number + 1))
        };
        match (kind, towards) {
            (Kind::Slow { .. }, _) => {
                self.at_switch(&format!("tc qdisc del dev p{host} root"))?;
                within(&self.namespace(host), "tc qdisc del dev eth0 root")
            }
            (_, Some(other)) => {
                pass_in(host, "ingress")?;
                pass_in(other, "ingress")
            }
            (_, None) => {
                pass_in(host, "ingress")?;
                pass_in(host, "egress")
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let names = (0..self.hosts).map(|host| self.namespace(host)).chain([self.switch()]);
        names.for_each(|name| remove(&name));
    }
}

fn remove(name: &str) {
    if let Err(error) = run("ip", &["netns", "del", name]) {
        eprintln!("warning: {error}");
    }
}

/// Drops so many of a hundred packets.
fn by_chance(percent: u32) -> String {
    let limit = u64::from(u32::MAX) * u64::from(percent.min(100)) / 100;
    if percent >= 100 {
        return format!("1,6 0 0 {DROP}");
    }
    // ld rand; jgt limit: pass, else drop.
    format!("4,32 0 0 {RANDOM},37 1 0 {limit},6 0 0 {DROP},6 0 0 {PASS}")
}

/// Drops IPv4 packets to a host, and no others.
fn to_host(host: Host) -> String {
    let address = (10_u32 << 24) | (77 << 16) | (host + 1);
    // ldh type; jeq IPv4; ld destination; jeq host: drop, else pass.
    format!("6,40 0 0 12,21 0 3 2048,32 0 0 30,21 0 1 {address},6 0 0 {DROP},6 0 0 {PASS}")
}

/// Runs a command of words in a namespace. The programs of a BPF filter are one word with blanks.
fn within(namespace: &str, command: &str) -> anyhow::Result<()> {
    let network = format!("--net=/run/netns/{namespace}");
    let (words, program) = command.split_once(" bytecode ").unwrap_or((command, ""));
    let mut arguments = vec![network.as_str(), "--"];
    arguments.extend(words.split(' '));
    if !program.is_empty() {
        arguments.extend(["bytecode", program]);
    }
    run("nsenter", &arguments)
}

/// Whether it can be laid and harmed here.
#[must_use]
pub fn is_possible() -> bool {
    if ["ip", "tc", "nsenter"].into_iter().any(|name| crate::proc::program(name).is_none()) {
        return false;
    }
    let tried = Network::lay(1).and_then(|network| {
        [Kind::Cut, Kind::Loss { percent: 1 }, Kind::Slow { kbit: 1000 }].into_iter().try_for_each(|kind| {
            let broken = Broken { kind, host: 0, towards: None, number: 0 };
            network.harm(broken)?;
            network.mend(broken)
        })
    });
    tried.is_ok()
}

/// Removes the namespaces whose names say that they were left.
pub fn sweep(is_left: impl Fn(&str) -> bool) {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_left(&name) {
            remove(&name);
        }
    }
}
