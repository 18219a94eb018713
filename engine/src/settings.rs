//! The session settings that travel with a stage's plan.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::config::ConfigOptions;
use datafusion::prelude::SessionConfig;
use firesteel_base::UserError;

use crate::session::SessionSettings;

/// DataFusion settings by key, those that differ from the defaults: what an attempt needs to run a plan the way the
/// session that planned it meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(pub BTreeMap<String, String>);

/// Keys that are this project's own, not DataFusion's.
const OWN_PREFIX: &str = "firesteel.";
const ANALYZE: &str = "firesteel.analyze";

/// Every setting of a session at its default.
fn defaults() -> ConfigOptions {
    let mut options = ConfigOptions::new();
    options.extensions.insert(SessionSettings::default());
    options
}

impl Settings {
    /// These settings, with attempts asked to report their operators' metrics.
    #[must_use]
    pub fn with_analyze(mut self) -> Self {
        self.0.insert(ANALYZE.to_owned(), "true".to_owned());
        self
    }

    /// Whether attempts report their operators' metrics.
    #[must_use]
    pub fn analyze(&self) -> bool {
        self.0.get(ANALYZE).is_some_and(|value| value == "true")
    }

    /// The settings of `options` that differ from the defaults.
    #[must_use]
    pub fn differing_from_defaults(options: &ConfigOptions) -> Self {
        let defaults: BTreeMap<_, _> =
            defaults().entries().into_iter().map(|entry| (entry.key, entry.value)).collect();
        let differing = options.entries().into_iter().filter_map(|entry| {
            let same = defaults.get(&entry.key) == Some(&entry.value);
            (!same).then_some((entry.key, entry.value?))
        });
        Self(differing.collect())
    }

    /// A session configuration with these settings, and with what an executor must have besides.
    ///
    /// # Errors
    /// When a key or value is unknown to this release.
    pub fn session_config(&self) -> Result<SessionConfig, UserError> {
        let mut options = defaults();
        let known: BTreeSet<_> = options.entries().into_iter().map(|entry| entry.key).collect();
        // Our own besides those of a session are for whoever runs the plan, not for DataFusion.
        let meant = |key: &str| !key.starts_with(OWN_PREFIX) || known.contains(key);
        for (key, value) in self.0.iter().filter(|(key, _)| meant(key)) {
            options.set(key, value).map_err(|fault| {
                UserError::new(format!("the setting {key} = {value} is not known here"))
                    .detail(fault.strip_backtrace())
                    .hint("is every process of the cluster of the same release?")
            })?;
        }
        // Partitions of one scan read their own files only, unless a task turns this on: with a shared queue, one that runs
        // some of the partitions would read the whole table.
        options.execution.enable_file_stream_work_stealing = false;
        Ok(SessionConfig::from(options))
    }
}
