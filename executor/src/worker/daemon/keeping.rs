//! The part of a worker that keeps what executors leave behind.

use std::sync::Arc;

use firesteel_shuffle::ServeConfig;
use firesteel_shuffle::keep::{Keeper, KeeperConfig};

use super::host_port;
use crate::worker::WorkerConfig;

/// What serves the blocks of executors that are gone, and where. A host that cannot have it does without.
pub(super) fn start(config: &WorkerConfig) -> Option<(Arc<Keeper>, String)> {
    let start = || {
        let listener = std::net::TcpListener::bind((config.listen.ip(), 0))?;
        let serve = ServeConfig {
            also_user: config.run_as.map(|user| user.uid),
            ..config.blocks.serves(&config.security)
        };
        let keeper_config = KeeperConfig { serve, ..KeeperConfig::default() };
        let keeper = Keeper::start(listener, keeper_config)?;
        let address = host_port(&config.advertise_host, keeper.local_addr().port());
        Ok::<_, std::io::Error>((Arc::new(keeper), address))
    };
    start()
        .inspect_err(|fault| {
            tracing::warn!(worker = %config.id, %fault, "blocks of an executor will end with it: they cannot be kept");
        })
        .ok()
}
