//! From layers to the resolved form.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Fault};
use super::key::Key;
use super::layer::{Flag, Layer, Source};
use super::settings::{
    Auto, ClientSettings, Config, ExecutorSettings, HostPort, LocalSettings, LogSettings, ManagerSettings,
    SecuritySettings, WorkerSettings,
};
use super::table::KEYS;
use super::value::{FromValue, Value};

/// The file that is read when none is named and it is there.
pub const SYSTEM_FILE: &str = "/etc/firesteel/firesteel.toml";

/// The environment variable that names the file.
const FILE_VARIABLE: &str = "FIRESTEEL_CONFIG";

/// Where a configuration is taken from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The file named on the command line.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// Values given on the command line.
    pub flags: Vec<Flag>,
}

/// A key, its value as text, and where that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: &'static Key,
    /// Its value as it was written.
    pub value: String,
    /// Where.
    pub source: Source,
}

/// Lays the layers over one another and resolves them.
///
/// # Errors
/// With every fault of every layer.
pub fn load(inputs: &Inputs) -> Result<Config, ConfigError> {
    let layers = [
        Layer::defaults(),
        file_layer(inputs),
        Layer::from_environment(inputs.environment.iter().cloned()),
        Layer::from_flags(&inputs.flags),
    ];
    let mut resolver = Resolver::default();
    for layer in layers {
        resolver.read(layer);
    }
    resolver.finish()
}

fn file_layer(inputs: &Inputs) -> Layer {
    let variable = inputs.environment.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
    let named = match (&inputs.file, variable) {
        (Some(file), _) => Some((file.clone(), Source::Flag("--config".to_owned()))),
        (None, Some((name, file))) => Some((PathBuf::from(file), Source::Environment(name.clone()))),
        (None, None) => None,
    };
    match named {
        Some((file, source)) => read_file(&file, source),
        None if Path::new(SYSTEM_FILE).exists() => read_file(Path::new(SYSTEM_FILE), Source::Default),
        None => Layer::default(),
    }
}

fn read_file(file: &Path, source: Source) -> Layer {
    match std::fs::read_to_string(file) {
        Ok(text) => Layer::from_toml(file, &text),
        Err(fault) => {
            let reason = format!("cannot read the configuration file {}: {fault}", file.display());
            let fault = Fault { key: String::new(), value: String::new(), reason, source };
            Layer { faults: vec![fault], ..Layer::default() }
        }
    }
}

/// Every value of every layer is checked, those that a later layer covers as well: they are wrong all the same.
#[derive(Default)]
struct Resolver {
    values: BTreeMap<&'static str, Value>,
    entries: BTreeMap<&'static str, Entry>,
    faults: Vec<Fault>,
}

impl Resolver {
    fn read(&mut self, layer: Layer) {
        self.faults.extend(layer.faults);
        for (name, (text, source)) in layer.values {
            let key = Key::named(name).expect("a layer holds known keys only");
            match key.kind.parse(&text) {
                Ok(value) => {
                    self.values.insert(name, value);
                    self.entries.insert(name, Entry { key, value: text, source });
                }
                Err(reason) => {
                    self.faults.push(Fault { key: name.to_owned(), value: text, reason, source });
                }
            }
        }
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        let config = self.settings();
        self.check_silence(&config.manager);
        self.check_peers(&config.manager);
        self.check_security(&config.security);
        if self.faults.is_empty() { Ok(config) } else { Err(ConfigError { faults: self.faults }) }
    }

    fn check_silence(&mut self, manager: &ManagerSettings) {
        let timeouts = [
            ("manager.node_suspect_after", manager.node_suspect_after, 2, "half"),
            ("manager.node_timeout", manager.node_timeout, 3, "a third"),
            ("manager.driver_timeout", manager.driver_timeout, 3, "a third"),
        ];
        for (name, timeout, parts, part) in timeouts {
            if manager.heartbeat > timeout / parts {
                self.relation("manager.heartbeat", format!("must be at most {part} of {name}"), timeout);
            }
        }
        if manager.node_suspect_after > manager.node_timeout {
            let reason = "must be at most manager.node_timeout".to_owned();
            self.relation("manager.node_suspect_after", reason, manager.node_timeout);
        }
    }

    /// Two managers are not available when one is gone, so they are worth less than one.
    fn check_peers(&mut self, manager: &ManagerSettings) {
        let Auto::Set(peers) = &manager.peers else {
            if matches!(manager.advertise, Auto::Set(_)) {
                self.fault("manager.advertise", "names one of manager.peers, which is not set".to_owned());
            }
            return;
        };
        if let Some(twice) = (1..peers.len()).map(|at| &peers[at]).find(|peer| is_twice(peers, peer)) {
            self.fault("manager.peers", format!("names {twice} twice"));
        }
        let count = peers.len();
        if count == 2 || count > PEERS_MAX {
            self.fault("manager.peers", format!("names {count} managers: {}", why_not(count)));
        }
        if count > 1 && manager.state == Auto::Auto {
            let reason = "managers that keep the journal together need a folder each: set manager.state";
            self.fault("manager.peers", reason.to_owned());
        }
        if let Auto::Set(me) = &manager.advertise
            && !peers.contains(me)
        {
            self.fault("manager.advertise", "must be one of manager.peers".to_owned());
        }
    }

    /// A certificate is of no use without its key and its authority.
    fn check_security(&mut self, security: &SecuritySettings) {
        if matches!(security.folder, Auto::Set(_)) {
            return;
        }
        let single = [
            ("security.ca", &security.ca),
            ("security.certificate", &security.certificate),
            ("security.key", &security.key),
        ];
        let missing: Vec<_> =
            single.iter().filter(|(_, file)| **file == Auto::Auto).map(|(name, _)| *name).collect();
        if missing.is_empty() || missing.len() == single.len() {
            return;
        }
        let reason =
            format!("also needs {}, or security.folder for what is not named", missing.join(" and "));
        let set = single.iter().find(|(_, file)| matches!(file, Auto::Set(_)));
        self.fault(set.expect("one of them is set").0, reason);
    }

    fn fault(&mut self, name: &'static str, reason: String) {
        let entry = &self.entries[name];
        let (value, source) = (entry.value.clone(), entry.source.clone());
        self.faults.push(Fault { key: name.to_owned(), value, reason, source });
    }

    fn relation(&mut self, name: &'static str, reason: String, other: Duration) {
        let entry = &self.entries[name];
        self.faults.push(Fault {
            key: name.to_owned(),
            value: entry.value.clone(),
            reason: format!("{reason}, which is {}", crate::units::display_duration(other)),
            source: entry.source.clone(),
        });
    }

    fn get<T: FromValue>(&self, name: &'static str) -> T {
        let value = self.values[name].clone();
        T::from_value(value).expect("the table's kind gives the setting's type")
    }

    fn settings(&self) -> Config {
        Config {
            manager: ManagerSettings {
                bind: self.get("manager.bind"),
                heartbeat: self.get("manager.heartbeat"),
                node_suspect_after: self.get("manager.node_suspect_after"),
                node_timeout: self.get("manager.node_timeout"),
                driver_timeout: self.get("manager.driver_timeout"),
                state: self.get("manager.state"),
                peers: self.get("manager.peers"),
                advertise: self.get("manager.advertise"),
                jobs: self.get("manager.jobs"),
                jobs_size: self.get("manager.jobs_size"),
                queued_jobs: self.get("manager.queued_jobs"),
                tokens: self.get("manager.tokens"),
                open_jobs: self.get("manager.open_jobs"),
                workers: self.get("manager.workers"),
                metrics: self.get("manager.metrics"),
            },
            worker: WorkerSettings {
                id: self.get("worker.id"),
                manager: self.get("worker.manager"),
                bind: self.get("worker.bind"),
                advertise: self.get("worker.advertise"),
                rack: self.get("worker.rack"),
                executors: self.get("worker.executors"),
                cores: self.get("worker.cores"),
                control_cores: self.get("worker.control_cores"),
                smt: self.get("worker.smt"),
                cpus: self.get("worker.cpus"),
                pin: self.get("worker.pin"),
                memory: self.get("worker.memory"),
                drivers: self.get("worker.drivers"),
                driver_memory: self.get("worker.driver_memory"),
                scratch: self.get("worker.scratch"),
                log_folder: self.get("worker.log_folder"),
                results: self.get("worker.results"),
                results_size: self.get("worker.results_size"),
                keep_blocks: self.get("worker.keep_blocks"),
                drain: self.get("worker.drain"),
                run_as: self.get("worker.run_as"),
                cgroups: self.get("worker.cgroups"),
                executor_restarts: self.get("worker.executor_restarts"),
                executor_restart_window: self.get("worker.executor_restart_window"),
                metrics: self.get("worker.metrics"),
            },
            executor: ExecutorSettings {
                block_memory_fraction: self.get("executor.block_memory_fraction"),
                transport: self.get("executor.transport"),
                scratch_engine: self.get("executor.scratch_engine"),
                scratch_direct: self.get("executor.scratch_direct"),
                link_compression: self.get("executor.link_compression"),
                scratch_compression: self.get("executor.scratch_compression"),
            },
            local: LocalSettings {
                cores: self.get("local.cores"),
                memory: self.get("local.memory"),
                scratch: self.get("local.scratch"),
            },
            client: ClientSettings {
                manager: self.get("client.manager"),
                queue: self.get("client.queue"),
                token_file: self.get("client.token_file"),
            },
            security: SecuritySettings {
                folder: self.get("security.folder"),
                ca: self.get("security.ca"),
                certificate: self.get("security.certificate"),
                key: self.get("security.key"),
                insecure: self.get("security.insecure"),
            },
            log: LogSettings { level: self.get("log.level"), format: self.get("log.format") },
            entries: KEYS.iter().filter_map(|key| self.entries.get(key.name).cloned()).collect(),
        }
    }
}

/// Each of them more makes every write wait for more disks, and nine stand no more than seven do in practice.
const PEERS_MAX: usize = 7;

fn is_twice(peers: &[HostPort], peer: &HostPort) -> bool {
    peers.iter().filter(|other| *other == peer).count() > 1
}

fn why_not(count: usize) -> &'static str {
    if count == 2 {
        "a majority of two is both, so the cluster would stand still when either is gone; take one, or three"
    } else {
        "take three, or five where two may be gone at a time; at most seven"
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LogFormat, address_list};
    use super::*;
    use crate::{ByteSize, UserError};

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn defaults_resolve_and_every_key_is_listed() {
        let config = load(&Inputs::default()).unwrap();
        assert_eq!(config.entries.len(), KEYS.len());
        assert_eq!(config.manager.bind.to_string(), "0.0.0.0:7400");
        assert_eq!(config.worker.cores, Auto::Auto);
        assert_eq!(config.log.format, LogFormat::Text);
    }

    #[test]
    fn later_layers_win_and_the_source_is_kept() {
        let file =
            file("[worker]\ncores = 4\nmemory = \"8GiB\"\nscratch = [\"/a\", \"/b\"]\nrack = \"r1\"\n");
        let config = load(&Inputs {
            file: Some(file.path().to_owned()),
            environment: environment(&[("FIRESTEEL_WORKER_CORES", "6"), ("FIRESTEEL_WORKER_RACK", "r2")]),
            flags: vec![Flag { key: "worker.cores", flag: "--cores", value: "7".to_owned() }],
        })
        .unwrap();
        let worker = &config.worker;
        assert_eq!((worker.cores, worker.memory), (Auto::Set(7), Auto::Set(ByteSize(8 << 30))));
        assert_eq!(worker.rack, "r2");
        assert_eq!(worker.scratch, [PathBuf::from("/a"), PathBuf::from("/b")]);
        let source = |name| {
            let entry = config.entries.iter().find(|entry| entry.key.name == name).unwrap();
            entry.source.to_string()
        };
        assert_eq!(source("worker.cores"), "flag --cores");
        assert_eq!(source("worker.rack"), "environment variable FIRESTEEL_WORKER_RACK");
        assert_eq!(source("worker.memory"), format!("{} line 3", file.path().display()));
        assert_eq!(source("worker.smt"), "default");
    }

    #[test]
    fn all_faults_are_reported_together() {
        let file = file(
            "[manager]\nbnd = \"1:2\"\nheartbeat = \"10s\"\n[worker]\ncores = 0\nmemory = \"3 parsecs\"\n[wroker]\nid = 1\n",
        );
        let error = load(&Inputs {
            file: Some(file.path().to_owned()),
            environment: environment(&[
                ("FIRESTEEL_WORKER_BIND", "here:99999"),
                ("FIRESTEEL_UNRELATED", "x"),
            ]),
            flags: vec![Flag { key: "log.level", flag: "--log-level", value: "loud=very=much".to_owned() }],
        })
        .unwrap_err();
        let place = file.path().display();
        let told: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
        let expected = [
            format!("manager.bnd: unknown key; did you mean manager.bind? ({place} line 2)"),
            format!(
                "wroker: not a section (there are manager, worker, executor, local, client, security, log); \
                 did you mean [worker]? ({place} line 7)"
            ),
            format!("worker.cores = '0': must be auto, or a whole number from 1 to 4096 ({place} line 5)"),
            format!(
                "worker.memory = '3 parsecs': must be auto, or a size from 64MiB to 64TiB, such as 512MiB or \
                 4GiB ({place} line 6)"
            ),
            "worker.bind = 'here:99999': must be host:port with a port from 0 to 65535, 0 for any free one \
             (environment variable FIRESTEEL_WORKER_BIND)"
                .to_owned(),
            "log.level = 'loud=very=much': must be auto, or error, warn, info, debug, trace or off, or a list \
             such as info,firesteel_shuffle=debug (flag --log-level)"
                .to_owned(),
            format!(
                "manager.heartbeat = '10s': must be at most half of manager.node_suspect_after, which is 6s \
                 ({place} line 3)"
            ),
            format!(
                "manager.heartbeat = '10s': must be at most a third of manager.node_timeout, which is 15s \
                 ({place} line 3)"
            ),
            format!(
                "manager.heartbeat = '10s': must be at most a third of manager.driver_timeout, which is 15s \
                 ({place} line 3)"
            ),
        ];
        assert_eq!(told, expected);
        let user = UserError::from(error);
        assert_eq!(user.message, "the configuration has 9 faults");
    }

    #[test]
    fn a_file_that_is_named_must_be_there_and_be_toml() {
        let missing = Inputs { file: Some("/nowhere/firesteel.toml".into()), ..Inputs::default() };
        let error = load(&missing).unwrap_err();
        assert!(
            error.to_string().contains("cannot read the configuration file /nowhere/firesteel.toml"),
            "{error}"
        );

        let broken = file("[worker\ncores = \n");
        let error = load(&Inputs { file: Some(broken.path().to_owned()), ..Inputs::default() }).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }

    #[test]
    fn managers_are_one_or_three_or_more_that_have_a_folder() {
        let load_with = |pairs: &[(&str, &str)]| {
            load(&Inputs { environment: environment(pairs), ..Inputs::default() })
                .map_err(|error| error.faults[0].to_string())
        };
        let (peers, state) = ("FIRESTEEL_MANAGER_PEERS", ("FIRESTEEL_MANAGER_STATE", "/s"));
        let three = (peers, "a:1,b:1,c:1");
        assert_eq!(load_with(&[three, state]).unwrap().manager.peers.set().unwrap().len(), 3);
        assert!(load_with(&[(peers, "a:1")]).is_ok());
        assert!(load_with(&[three]).unwrap_err().contains("set manager.state"));
        assert!(load_with(&[(peers, "a:1,b:1"), state]).unwrap_err().contains("a majority of two is both"));
        assert!(load_with(&[(peers, "a:1,b:1,a:1"), state]).unwrap_err().contains("names a:1 twice"));
        let not_in_it = load_with(&[three, state, ("FIRESTEEL_MANAGER_ADVERTISE", "d:1")]).unwrap_err();
        assert!(not_in_it.contains("must be one of manager.peers"), "{not_in_it}");
    }

    #[test]
    fn a_certificate_comes_with_its_key_and_its_authority() {
        let load_with = |pairs: &[(&str, &str)]| {
            load(&Inputs { environment: environment(pairs), ..Inputs::default() })
                .map_err(|error| error.faults[0].to_string())
        };
        let (ca, key) = (("FIRESTEEL_SECURITY_CA", "/c"), ("FIRESTEEL_SECURITY_KEY", "/k"));
        let folder = ("FIRESTEEL_SECURITY_FOLDER", "/f");
        assert!(load_with(&[ca, key, ("FIRESTEEL_SECURITY_CERTIFICATE", "/n")]).is_ok());
        assert!(load_with(&[ca, folder]).is_ok() && load_with(&[folder]).is_ok());
        let told = load_with(&[ca, key]).unwrap_err();
        assert!(
            told.contains("security.ca = '/c': also needs security.certificate, or security.folder"),
            "{told}"
        );
    }

    #[test]
    fn the_short_variable_names_the_manager_of_clients() {
        let environment = environment(&[("FIRESTEEL_MANAGER", "[::1]:7400,b:7400")]);
        let config = load(&Inputs { environment, ..Inputs::default() }).unwrap();
        assert_eq!(address_list(&config.client.manager.set().unwrap()), "[::1]:7400,b:7400");
    }
}
