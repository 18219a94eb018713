//! What a key's value may be.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::HostPort;
use super::value::Value;
use crate::units::{display_duration, parse_duration};
use crate::{ByteSize, WorkerId};

/// The type and the range of a key's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `host:port` to listen on; port 0 takes any free one.
    Listen,
    /// `host:port` to reach somebody at.
    Address,
    /// One or more of those, separated by commas.
    Addresses,
    /// A duration from .. to, ends included.
    Duration(Duration, Duration),
    /// A number of bytes from .. to, ends included.
    Size(ByteSize, ByteSize),
    /// A whole number from .. to, ends included.
    Count(u32, u32),
    /// A number from .. to, ends included.
    Fraction(f64, f64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// A worker's name.
    Name,
    /// Any text.
    Text,
    /// Directives for what is logged: a level, or `target=level` parts separated by commas.
    Filter,
    /// One or more folders, separated by commas.
    Folders,
    /// CPUs as a list of numbers and ranges.
    Cpus,
    /// `auto`, or a value of that kind.
    OrAuto(&'static Kind),
    /// `off`, or a value of that kind.
    OrOff(&'static Kind),
}

impl Kind {
    /// Reads a value of this kind.
    ///
    /// # Errors
    /// When the text is none; the error says what would be.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        self.value(text).ok_or_else(|| format!("must be {self}"))
    }

    fn value(&self, text: &str) -> Option<Value> {
        Some(match self {
            Self::Listen => Value::HostPort(text.parse().ok()?),
            Self::Address => Value::HostPort(reachable(text)?),
            Self::Addresses => Value::HostPorts(addresses(text)?),
            Self::Duration(min, max) => Value::Duration(within(parse_duration(text).ok()?, *min, *max)?),
            Self::Size(min, max) => Value::Size(within(text.parse().ok()?, *min, *max)?),
            Self::Count(min, max) => Value::Count(within(text.parse().ok()?, *min, *max)?),
            Self::Fraction(min, max) => Value::Fraction(within(text.parse().ok()?, *min, *max)?),
            Self::Choice(words) => Value::Word(words.iter().find(|word| **word == text)?),
            Self::Switch => Value::Switch(text.parse().ok()?),
            Self::Name => Value::Text(text.parse::<WorkerId>().ok()?.to_string()),
            Self::Text => Value::Text(text.to_owned()),
            Self::Filter => Value::Text(crate::telemetry::is_filter(text).then(|| text.to_owned())?),
            Self::Folders => Value::Folders(folders(text)?),
            Self::Cpus => Value::Cpus(cpus(text)?),
            Self::OrAuto(_) if text == "auto" => Value::Auto,
            Self::OrOff(_) if text == "off" => Value::Off,
            Self::OrAuto(kind) | Self::OrOff(kind) => return kind.value(text),
        })
    }
}

fn within<T: PartialOrd>(value: T, min: T, max: T) -> Option<T> {
    (min <= value && value <= max).then_some(value)
}

fn reachable(text: &str) -> Option<HostPort> {
    let address: HostPort = text.parse().ok()?;
    (address.port != 0).then_some(address)
}

/// More managers than anybody runs.
const ADDRESSES_MAX: usize = 64;

fn addresses(text: &str) -> Option<Vec<HostPort>> {
    let all: Vec<_> = text.split(',').map(|part| reachable(part.trim())).collect::<Option<_>>()?;
    (all.len() <= ADDRESSES_MAX).then_some(all)
}

fn folders(text: &str) -> Option<Vec<PathBuf>> {
    let parts: Vec<_> = text.split(',').map(str::trim).map(PathBuf::from).collect();
    parts.iter().all(|part| !part.as_os_str().is_empty()).then_some(parts)
}

/// No machine has a CPU of a higher number.
const CPU_MAX: u32 = 65_535;

fn cpus(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > CPU_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

impl fmt::Display for Kind {
    /// As it reads after "must be".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen => f.write_str("host:port with a port from 0 to 65535, 0 for any free one"),
            Self::Address => f.write_str("host:port with a port from 1 to 65535"),
            Self::Addresses => {
                f.write_str("host:port with a port from 1 to 65535, or several, separated by commas")
            }
            Self::Duration(min, max) => {
                write!(f, "a duration from {} to {}", display_duration(*min), display_duration(*max))
            }
            Self::Size(min, max) => write!(f, "a size from {min} to {max}, such as 512MiB or 4GiB"),
            Self::Count(min, max) => write!(f, "a whole number from {min} to {max}"),
            Self::Fraction(min, max) => write!(f, "a number from {min} to {max}"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Switch => f.write_str("true or false"),
            Self::Name => f.write_str("1 to 64 letters, digits, '.', '_' or '-'"),
            Self::Text => f.write_str("text"),
            Self::Filter => f.write_str(
                "error, warn, info, debug, trace or off, or a list such as info,firesteel_shuffle=debug",
            ),
            Self::Folders => f.write_str("one or more folders, separated by commas"),
            Self::Cpus => f.write_str("a list of CPUs such as 0-3,8"),
            Self::OrAuto(kind) => write!(f, "auto, or {kind}"),
            Self::OrOff(kind) => write!(f, "off, or {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_numbers_and_ranges() {
        let read = |text| Kind::Cpus.parse(text);
        assert_eq!(read("0-2, 8,1"), Ok(Value::Cpus(vec![0, 1, 2, 8])));
        for text in ["", "3-1", "0-", "a", "0-99999999"] {
            assert_eq!(read(text), Err("must be a list of CPUs such as 0-3,8".to_owned()), "{text}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for text in ["0.0.0.0:0", "[::]:7400", "head-1.example.org:7400"] {
            assert!(Kind::Listen.parse(text).is_ok(), "{text}");
        }
        for text in ["", ":7400", "head", "head:", "head:65536", "a b:1", "::1:7400", "[head]:1:2"] {
            assert!(Kind::Listen.parse(text).is_err(), "{text}");
        }
        assert!(Kind::Address.parse("head:0").is_err());
        let or_off = Kind::OrOff(&Kind::Listen);
        assert_eq!(or_off.parse(" off "), Ok(Value::Off));
        assert!(or_off.parse("127.0.0.1:7401").is_ok());
        let told = "must be off, or host:port with a port from 0 to 65535, 0 for any free one";
        for text in ["", "on", "auto", "7401", "OFF"] {
            assert_eq!(or_off.parse(text), Err(told.to_owned()), "{text}");
        }
        assert!(Kind::Addresses.parse("a:7400, b:7400,[::1]:7400").is_ok());
        for text in ["", "a:7400,", "a:7400,b", "a:0"] {
            assert!(Kind::Addresses.parse(text).is_err(), "{text}");
        }
    }
}
