//! Values as read, and how they become the types of the resolved form.

use std::path::PathBuf;
use std::time::Duration;

use super::settings::{Auto, HostPort, LogFormat};
use crate::ByteSize;

/// A value of some [`Kind`](super::Kind).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `auto`.
    Auto,
    /// `off`.
    Off,
    /// An address.
    HostPort(HostPort),
    /// Addresses.
    HostPorts(Vec<HostPort>),
    /// A duration.
    Duration(Duration),
    /// A number of bytes.
    Size(ByteSize),
    /// A whole number.
    Count(u32),
    /// A number.
    Fraction(f64),
    /// One of the words of a choice.
    Word(&'static str),
    /// `true` or `false`.
    Switch(bool),
    /// Text.
    Text(String),
    /// Folders.
    Folders(Vec<PathBuf>),
    /// CPUs, ascending.
    Cpus(Vec<u32>),
}

/// A type of the resolved form. The table gives each key a kind, and the resolved form gives it a type; `None` means
/// that the two disagree, which a test over the defaults excludes.
pub(super) trait FromValue: Sized {
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($type:ty: $pattern:pat => $result:expr;)*) => {$(
        impl FromValue for $type {
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    $pattern => $result,
                    _ => None,
                }
            }
        }
    )*};
}

from_value! {
    HostPort: Value::HostPort(address) => Some(address);
    Vec<HostPort>: Value::HostPorts(addresses) => Some(addresses);
    Duration: Value::Duration(span) => Some(span);
    ByteSize: Value::Size(size) => Some(size);
    u32: Value::Count(count) => Some(count);
    f64: Value::Fraction(number) => Some(number);
    bool: Value::Switch(on) => Some(on);
    String: Value::Text(text) => Some(text);
    Vec<PathBuf>: Value::Folders(folders) => Some(folders);
    Vec<u32>: Value::Cpus(cpus) => Some(cpus);
    &'static str: Value::Word(word) => Some(word);
    LogFormat: Value::Word(word) => LogFormat::from_word(word);
}

impl<T: FromValue> FromValue for Auto<T> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Auto => Some(Self::Auto),
            set => T::from_value(set).map(Self::Set),
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Off => Some(None),
            set => T::from_value(set).map(Some),
        }
    }
}
