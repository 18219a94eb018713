//! Configuration: what an operator writes, and what the program then works with.
//!
//! Each place a setting can come from is read into a raw [`Layer`]: some keys, as text, each with its [`Source`]. The
//! layers are laid over one another in the order default, file, environment, flag, and resolved once into a
//! [`Config`]: no `Option`, units in the types, relations between keys proven. *All* faults of all layers are reported
//! together.
//!
//! [`KEYS`] is the one table of keys. Resolution, `firesteel config`, the reference page ([`reference_page`]) and
//! the file to begin with ([`template`]) are made from it.

mod error;
mod key;
mod kind;
mod layer;
mod reference;
mod resolve;
mod settings;
mod table;
mod template;
mod value;

pub use error::{ConfigError, Fault};
pub use key::{Key, Section};
pub use kind::Kind;
pub use layer::{Flag, Layer, Source};
pub use reference::reference_page;
pub use resolve::{Entry, Inputs, SYSTEM_FILE, load};
pub use settings::{
    Auto, ClientSettings, Config, ExecutorSettings, HostPort, LocalSettings, LogFormat, LogSettings,
    ManagerSettings, SecuritySettings, WorkerSettings, address_list,
};
pub use table::{KEYS, SECTIONS};
pub use template::template;
pub use value::Value;
