//! Configuration: an input is the text of a file, and behind a byte of 0 the variables of an environment, one a line.

use std::path::Path;

use firesteel_base::UserError;
use firesteel_base::config::{Flag, Inputs, KEYS, Layer, SECTIONS, Source, load};

use super::change::{Numbers, change_text};

/// The largest input that is changed: what is larger takes longer and finds no more.
const INPUT_BYTES_MAX: usize = 4096;

/// Reads an input, and resolves what it says; tells whether it is a configuration.
///
/// # Panics
/// When the reader is at fault.
pub fn run(input: &[u8]) -> bool {
    let (file, environment) = parts(input);
    let layer = Layer::from_toml(Path::new("firesteel.toml"), &file);
    let lines = 1 + file.matches('\n').count();
    let sources = layer.values.values().map(|(_, source)| source);
    for source in sources.chain(layer.faults.iter().map(|fault| &fault.source)) {
        assert!(
            matches!(source, Source::File(_, line) if (1..=lines).contains(line)),
            "{source}, of {lines} lines"
        );
    }
    assert!(layer.faults.iter().all(|fault| !fault.to_string().is_empty()));
    let is_sound = layer.faults.is_empty();
    // What the file says is laid over the rest, as a flag would be: there is no file to be read.
    let flags = layer.values.into_iter().map(|(key, (value, _))| Flag { key, flag: "--file", value });
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // One of them could name a file of the machine that runs this.
    let environment = environment.filter(|(name, _)| name != "FIRESTEEL_CONFIG").collect();
    match load(&Inputs { file: None, environment, flags: flags.collect() }) {
        Ok(config) => {
            assert_eq!(config.entries.len(), KEYS.len());
            for entry in &config.entries {
                assert!(entry.key.kind.parse(&entry.value).is_ok(), "{} was taken for good", entry.value);
            }
            is_sound
        }
        Err(error) => {
            assert!(!error.faults.is_empty());
            assert!(!UserError::from(error).message.is_empty());
            false
        }
    }
}

fn parts(input: &[u8]) -> (String, String) {
    let mut parts = input.splitn(2, |byte| *byte == 0).map(String::from_utf8_lossy);
    let mut next = || parts.next().unwrap_or_default().into_owned();
    (next(), next())
}

/// Changes an input, the same way for the same seed.
pub fn change(input: &mut Vec<u8>, seed: u64) {
    let n = &mut Numbers::new(seed);
    if input.is_empty() || input.len() > INPUT_BYTES_MAX || n.below(64) == 0 {
        *input = valid(n.next());
        return;
    }
    let keys = KEYS.iter().map(|key| key.name.split('.').next_back().expect("a key has a name"));
    let words: Vec<&str> = keys.chain(SECTIONS.iter().map(|section| section.name)).chain(WORDS).collect();
    for _ in 0..=n.below(3) {
        change_text(input, &words, n);
    }
}

const WORDS: [&str; 22] = [
    "auto",
    "true",
    "\"",
    "'",
    "[",
    "]\n",
    " = ",
    "\n",
    ",",
    "a:1,b:2,c:3",
    "[::1]:7400",
    "10s",
    "0ms",
    "8GiB",
    "64TiB",
    "1e9",
    "\\u0000",
    "\"\"\"",
    "0x7f",
    "\0FIRESTEEL_MANAGER=",
    "FIRESTEEL_WORKER_CORES=",
    "1979-05-27T07:32:00Z",
];

/// An input that holds a configuration: some keys with their defaults.
#[must_use]
pub fn valid(seed: u64) -> Vec<u8> {
    let n = &mut Numbers::new(seed);
    let mut text = String::new();
    let mut variables = String::new();
    for section in SECTIONS.iter().filter(|_| n.below(2) == 0).collect::<Vec<_>>() {
        text.push_str(&format!("[{}]\n", section.name));
        for key in KEYS.iter().filter(|key| key.section() == section.name) {
            match n.below(6) {
                0 => text.push_str(&format!("{} = \"{}\"\n", name(key.name), key.default)),
                1 => variables.push_str(&format!("{}={}\n", key.variable(), key.default)),
                _ => {}
            }
        }
    }
    [text.as_bytes(), &[0], variables.as_bytes()].concat()
}

fn name(key: &str) -> &str {
    key.split_once('.').map_or(key, |(_, name)| name)
}
