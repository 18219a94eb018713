//! Settings of a session: DataFusion's and our own, unknown ones refused.

use std::any::Any;
use std::collections::BTreeMap;

use datafusion::common::config_err;
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigField, ConfigOptions, ExtensionOptions};
use datafusion::error::Result;
use datafusion::prelude::SessionConfig;
use firesteel_base::{ByteSize, UserError};
use url::Url;

use super::SessionOptions;
use super::names::{did_you_mean, nearest};
use super::stores::{self, StoreOptions};
use crate::Settings;
use crate::stage::adapt::AdaptLimits;

const PARTITIONS: &str = "firesteel.partitions";
const BROADCAST_THRESHOLD: &str = "firesteel.broadcast_threshold";
const RUNTIME_FILTERS: &str = "firesteel.runtime_filters";
const ADAPTIVE: &str = "firesteel.adaptive";
const MERGE_PARTITIONS_BELOW: &str = "firesteel.merge_partitions_below";
const SPLIT_PARTITIONS_ABOVE: &str = "firesteel.split_partitions_above";
const PIPELINE_ABOVE: &str = "firesteel.pipeline_above";
const SPECULATION: &str = "firesteel.speculation";
const RANGE_SORTS: &str = "firesteel.range_sorts";
const RANGE_SORTS_ABOVE: &str = "firesteel.range_sorts_above";
const TARGET_PARTITIONS: &str = "datafusion.execution.target_partitions";
/// Lanes of a stage for each core thread, beyond which more of them make no core's end come sooner.
const LANES_PER_CORE: u64 = 4;
/// The most lanes that pick their keys out of all bytes of a partition.
const KEY_PARTS_MAX: usize = 8;
const OWN: &str = "firesteel.";
const RUNTIME: &str = "datafusion.runtime.";

/// Our own settings of a session.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// `firesteel.partitions`: partitions of parallel stages, 0 for as many as there are core threads.
    pub partitions: usize,
    /// `firesteel.broadcast_threshold`: on a cluster, the smaller side of a join is sent whole to every task when it is
    /// expected, or turns out, to be at most this large.
    pub broadcast_threshold: ByteSize,
    /// `firesteel.runtime_filters`: rows that a join would drop are dropped near their scan, where that pays.
    pub runtime_filters: bool,
    /// `firesteel.adaptive`: on a cluster, what a stage's inputs turn out to hold may change how it is run.
    pub adaptive: bool,
    /// `firesteel.merge_partitions_below`: neighbouring partitions are read together up to so many bytes.
    pub merge_partitions_below: ByteSize,
    /// `firesteel.split_partitions_above`: a partition of more bytes, and several times those of others, is read by several
    /// lanes.
    pub split_partitions_above: ByteSize,
    /// `firesteel.pipeline_above`: tasks that find free core threads begin to read an exchange of at least so many bytes for
    /// each of them before all that write it are done.
    pub pipeline_above: ByteSize,
    /// `firesteel.speculation`: on a cluster, tasks that take much longer than the others of their stage get a second attempt
    /// in core threads that nobody else needs.
    pub speculation: bool,
    /// `firesteel.range_sorts`: on a cluster, all core threads merge the sorted rows of a query, each a range of them.
    pub range_sorts: bool,
    /// `firesteel.range_sorts_above`: sorted rows of fewer bytes are merged by one core thread.
    pub range_sorts_above: ByteSize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            partitions: 0,
            broadcast_threshold: ByteSize(16 << 20),
            runtime_filters: true,
            adaptive: true,
            merge_partitions_below: ByteSize(256 << 10),
            split_partitions_above: ByteSize(64 << 20),
            pipeline_above: ByteSize(1 << 20),
            speculation: true,
            range_sorts: true,
            range_sorts_above: ByteSize(1 << 20),
        }
    }
}

impl SessionSettings {
    /// The settings in force in `options`.
    #[must_use]
    pub fn of(options: &ConfigOptions) -> Self {
        options.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// What sizes may decide on a cluster of so many core threads.
    #[must_use]
    pub fn adapt_limits(&self, cores: usize) -> AdaptLimits {
        let (pipeline_above, speculate) = (self.pipeline_above.0, self.speculation);
        if !self.adaptive {
            return AdaptLimits { pipeline_above, speculate, ..AdaptLimits::NEVER };
        }
        AdaptLimits {
            pipeline_above,
            speculate,
            merge_below: self.merge_partitions_below.0,
            merge_beyond: u64::try_from(cores).unwrap_or(u64::MAX).saturating_mul(LANES_PER_CORE),
            split_above: self.split_partitions_above.0,
            key_parts_max: u32::try_from(cores.min(KEY_PARTS_MAX)).expect("a small number"),
            broadcast_below: self.broadcast_threshold.0,
            spare_inputs: true,
        }
    }
}

impl ConfigExtension for SessionSettings {
    const PREFIX: &'static str = "firesteel";
}

impl ExtensionOptions for SessionSettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "partitions" => match value.parse() {
                Ok(partitions) => self.partitions = partitions,
                Err(_) => return config_err!("'{value}' is not a number of partitions"),
            },
            "broadcast_threshold" => self.broadcast_threshold = size(value)?,
            "merge_partitions_below" => self.merge_partitions_below = size(value)?,
            "split_partitions_above" => self.split_partitions_above = size(value)?,
            "pipeline_above" => self.pipeline_above = size(value)?,
            "speculation" => self.speculation = switch(value)?,
            "range_sorts" => self.range_sorts = switch(value)?,
            "range_sorts_above" => self.range_sorts_above = size(value)?,
            "runtime_filters" => self.runtime_filters = switch(value)?,
            "adaptive" => self.adaptive = switch(value)?,
            _ => return config_err!("firesteel.{key} is not known"),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key: &str, value: String, description| ConfigEntry {
            key: key.to_owned(),
            value: Some(value),
            description,
        };
        vec![
            entry(
                PARTITIONS,
                self.partitions.to_string(),
                "Partitions of parallel stages; 0 means as many as there are core threads.",
            ),
            entry(
                BROADCAST_THRESHOLD,
                self.broadcast_threshold.to_string(),
                "On a cluster, the smaller side of a join is sent whole to every task when it is expected, or turns out, \
                 to be at most this large.",
            ),
            entry(
                RUNTIME_FILTERS,
                self.runtime_filters.to_string(),
                "Whether rows that a join would drop are dropped near their scan, where that pays.",
            ),
            entry(
                ADAPTIVE,
                self.adaptive.to_string(),
                "Whether, on a cluster, what a stage's inputs turn out to hold may change how it is run.",
            ),
            entry(
                MERGE_PARTITIONS_BELOW,
                self.merge_partitions_below.to_string(),
                "Neighbouring partitions are read together up to this many bytes; 0 means never.",
            ),
            entry(
                SPLIT_PARTITIONS_ABOVE,
                self.split_partitions_above.to_string(),
                "A partition of more bytes than this, and several times those of others, is read by several lanes where \
                 its plan allows; 0 means never.",
            ),
            entry(
                PIPELINE_ABOVE,
                self.pipeline_above.to_string(),
                "On a cluster, tasks that find free core threads begin to read an exchange of at least this many bytes for \
                 each of them before all that write it are done; 0 means never.",
            ),
            entry(
                SPECULATION,
                self.speculation.to_string(),
                "Whether, on a cluster, tasks that take much longer than the others of their stage get a second attempt in \
                 core threads that nobody else needs.",
            ),
            entry(
                RANGE_SORTS,
                self.range_sorts.to_string(),
                "Whether, on a cluster, all core threads merge the sorted rows of a query, each a range of them, instead of one.",
            ),
            entry(
                RANGE_SORTS_ABOVE,
                self.range_sorts_above.to_string(),
                "Sorted rows of fewer bytes than this are merged by one core thread.",
            ),
        ]
    }
}

fn size(value: &str) -> Result<ByteSize> {
    value.parse().or_else(|fault| config_err!("{fault}"))
}

fn switch(value: &str) -> Result<bool> {
    value.parse().or_else(|_| config_err!("'{value}' is neither true nor false"))
}

/// The configuration that a session starts with.
pub(super) fn session_config(options: &SessionOptions) -> Result<SessionConfig, UserError> {
    let mut config = ConfigOptions::new();
    config.extensions.insert(SessionSettings::default());
    config.catalog.information_schema = true;
    config.sql_parser.collect_spans = true;
    for (key, value) in options.conf.iter().filter(|(key, _)| !key.starts_with(stores::PREFIX)) {
        set(&mut config, key, value)?;
    }
    if let Some(partitions) = options.partitions {
        set(&mut config, PARTITIONS, &partitions.to_string())?;
    }
    Ok(SessionConfig::from(config))
}

/// The stores that settings (`firesteel.store.<url>.aws.<key>`) describe.
pub(super) fn stores_in(conf: &BTreeMap<String, String>) -> Result<Vec<(Url, StoreOptions)>, UserError> {
    stores::stores_in(&Settings(conf.clone())).into_iter().collect()
}

/// Sets `key` to `value`.
pub(super) fn set(options: &mut ConfigOptions, key: &str, value: &str) -> Result<(), UserError> {
    let default = default_of(key, options)?;
    options.set(key, value).map_err(|fault| {
        UserError::new(format!("'{value}' is no value for {key}"))
            .detail(super::classify(&fault).1.message)
            .hint(format!("its default is {default}"))
    })?;
    if key == TARGET_PARTITIONS {
        // The number of partitions follows the cluster unless somebody asked for one.
        options.set(PARTITIONS, value).map_err(|fault| super::classify(&fault).1)?;
    }
    Ok(())
}

/// Sets `key` to its default.
pub(super) fn reset(options: &mut ConfigOptions, key: &str) -> Result<(), UserError> {
    let default = default_of(key, options)?;
    let done = match key.starts_with(OWN) {
        true => options.set(key, &default),
        false => options.reset(key),
    };
    done.map_err(|fault| super::classify(&fault).1)?;
    if key == TARGET_PARTITIONS {
        reset(options, PARTITIONS)?;
    }
    Ok(())
}

/// The default of `key`; an error when there is no such key.
fn default_of(key: &str, options: &ConfigOptions) -> Result<String, UserError> {
    if key.starts_with(RUNTIME) {
        return Err(UserError::new(format!("{key} cannot be set in a session")).detail(
            "memory, scratch space and caches belong to the executors, which are set up when they start",
        ));
    }
    // Short names of DataFusion's, which stand for several keys.
    const SHORT: [&str; 1] = ["datafusion.optimizer.enable_dynamic_filter_pushdown"];
    let mut defaults = ConfigOptions::new();
    defaults.extensions.insert(SessionSettings::default());
    let entries = defaults.entries();
    if let Some(entry) = entries.iter().find(|entry| entry.key == key) {
        return Ok(entry.value.clone().unwrap_or_default());
    }
    if SHORT.contains(&key) || options.entries().iter().any(|entry| entry.key == key) {
        return Ok(String::new());
    }
    let error = UserError::new(format!("there is no setting {key}"));
    Err(match nearest(key, entries.iter().map(|entry| entry.key.as_str())) {
        Some(name) => error.hint(did_you_mean(name)),
        None => error.hint("'show all' lists the settings"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(key: &str, value: &str) -> String {
        let conf = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        session_config(&SessionOptions { conf, partitions: None }).unwrap_err().to_string()
    }

    #[test]
    fn unknown_settings_are_refused_with_the_nearest_known_one() {
        let text = fault("datafusion.execution.batch_sise", "1");
        assert!(text.contains("did you mean datafusion.execution.batch_size?"), "{text}");
        let text = fault("firesteel.partition", "1");
        assert!(text.contains("did you mean firesteel.partitions?"), "{text}");
        assert!(fault("spark.master", "local").contains("there is no setting spark.master"));
        assert!(fault("datafusion.runtime.memory_limit", "1G").contains("executors"));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        assert!(
            fault("firesteel.partitions", "many").contains("'many' is no value for firesteel.partitions")
        );
        assert!(fault("datafusion.execution.batch_size", "big").contains("its default is 8192"));
    }

    #[test]
    fn partitions_follow_whichever_key_names_them() {
        let conf = BTreeMap::from([(TARGET_PARTITIONS.to_owned(), "7".to_owned())]);
        let config = session_config(&SessionOptions { conf, partitions: None }).unwrap();
        assert_eq!(SessionSettings::of(config.options()).partitions, 7);
        let options = SessionOptions { partitions: Some(3), ..Default::default() };
        assert_eq!(SessionSettings::of(session_config(&options).unwrap().options()).partitions, 3);
    }
}
