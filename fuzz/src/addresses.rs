//! Short texts that name something: addresses, lists of managers, sizes, spans of time, workers, executors, attempts.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use firesteel_base::config::HostPort;
use firesteel_base::units::{display_duration, parse_duration};
use firesteel_base::{AttemptKey, ByteSize, ExecutorId, JobId, StageKey, TaskKey, WorkerId};
use firesteel_certs::Security;
use firesteel_protocol::channel::{leader_told, not_leader};
use firesteel_protocol::managers::Managers;

use super::change::{Numbers, change_text};

/// The largest input that is changed: what is larger takes longer and finds no more.
const INPUT_BYTES_MAX: usize = 512;
/// A larger size, which no machine has, may be said rounded past the largest that can be read.
const SIZE_MAX: u64 = 1 << 60;
/// So may a longer time.
const SPAN_MAX: Duration = Duration::from_secs(1 << 40);

/// Reads an input as each kind of name; tells whether it is one.
///
/// # Panics
/// When a reader is at fault.
pub fn run(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let named = [
        is_said_again::<HostPort>(&text),
        is_said_again::<WorkerId>(&text),
        is_said_again::<ExecutorId>(&text),
        is_said_again::<JobId>(&text),
        is_said_again::<StageKey>(&text),
        is_said_again::<TaskKey>(&text),
        is_said_again::<AttemptKey>(&text),
        is_size(&text),
        is_span(&text),
        is_list(&text),
    ];
    // A refusal that names who leads, whatever that is called.
    if let Some(leader) = leader_told(&not_leader(Some(&text))) {
        assert!(leader.is_none_or(|leader| leader == text));
    }
    named.contains(&true)
}

/// Whether it is one; then it is said as one that is read back as the same.
fn is_said_again<T: FromStr + Display + PartialEq + Debug>(text: &str) -> bool {
    let Ok(read) = text.parse::<T>() else { return false };
    let said = read.to_string();
    let again = said.parse::<T>().unwrap_or_else(|_| panic!("'{text}' is said as '{said}', which is none"));
    assert_eq!(again, read, "'{text}' is said as '{said}'");
    true
}

/// A size is said rounded.
fn is_size(text: &str) -> bool {
    let Ok(size) = text.parse::<ByteSize>() else { return false };
    if size.0 > SIZE_MAX {
        return true;
    }
    let said = size.to_string();
    let again: ByteSize =
        said.parse().unwrap_or_else(|_| panic!("'{text}' is said as '{said}', which is none"));
    assert!(again.0.abs_diff(size.0) <= size.0 / 10, "'{text}' is said as '{said}'");
    true
}

/// A span of time is said in whole milliseconds.
fn is_span(text: &str) -> bool {
    let Ok(span) = parse_duration(text) else { return false };
    if span > SPAN_MAX {
        return true;
    }
    let said = display_duration(span);
    let again =
        parse_duration(&said).unwrap_or_else(|_| panic!("'{text}' is said as '{said}', which is none"));
    let (least, most) = (span.min(again), span.max(again));
    assert!(most - least <= most / 1000 + Duration::from_millis(1), "'{text}' is said as '{said}'");
    true
}

fn is_list(text: &str) -> bool {
    let managers = Managers::of(text, Security::default());
    let said = managers.to_string();
    let named = managers.named();
    assert!(named.iter().all(|one| !one.is_empty() && one.trim() == one && !one.contains(',')));
    assert_eq!(Managers::of(&said, Security::default()).named(), named);
    named.len() > 1
}

/// Changes an input, the same way for the same seed.
pub fn change(input: &mut Vec<u8>, seed: u64) {
    let n = &mut Numbers::new(seed);
    if input.is_empty() || input.len() > INPUT_BYTES_MAX || n.below(16) == 0 {
        *input = valid(n.next());
        return;
    }
    for _ in 0..=n.below(3) {
        change_text(input, &WORDS, n);
    }
}

const WORDS: [&str; 30] = [
    ":",
    "::",
    ":7400",
    "[",
    "]",
    "[::1]",
    ",",
    " ",
    "localhost",
    "127.0.0.1",
    "/",
    "/e",
    "/s",
    "/p",
    "/a",
    "job",
    "e",
    "-",
    ".",
    "..",
    "0",
    "65535",
    "65536",
    "18446744073709551615",
    "ms",
    "s",
    "h",
    "min",
    "MiB",
    "TiB",
];

/// An input that is a name.
#[must_use]
pub fn valid(seed: u64) -> Vec<u8> {
    let n = &mut Numbers::new(seed);
    let (one, two) = (n.number(), n.number());
    let text = match n.below(9) {
        0 => format!("host{one}.rack:{}", two as u16),
        1 => format!("[fe80::{:x}]:{}", one as u16, two as u16),
        2 => format!("worker-{one}"),
        3 => format!("worker-{one}/e{}", two as u32),
        4 => format!("job{one}/s{}/p{}/a{}", two as u32, n.number() as u32, n.number() as u32),
        5 => format!("job{one}"),
        6 => format!("{}{}", one % 10_000, n.pick(&["B", "KiB", "MiB", "GiB", "TiB", ""])),
        7 => format!("{}.{}{}", one % 10_000, two % 10, n.pick(&["ms", "s", "m", "min", "h"])),
        _ => format!("a:{}, b:{},[::1]:7400", one as u16, two as u16),
    };
    text.into_bytes()
}
