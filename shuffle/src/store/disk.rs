//! What does the input and output of a scratch folder.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use firesteel_hw::pages::Pages;
use firesteel_hw::ring;
use firesteel_hw::scratch::{EngineKind, Scratch, ScratchConfig, ScratchError, ScratchFile, takes_direct};
use rustix::fs::{FsWord, statfs};

use super::FileConfig;
use crate::pack::Compression;

/// A scratch folder's service, started when the first piece is written.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    config: ScratchConfig,
    wait_max: Duration,
    compression: Compression,
    is_memory: bool,
    service: OnceLock<Scratch>,
    #[cfg(test)]
    pub gate: super::tests::Gate,
}

impl Disk {
    /// Finds out what the folder can do. What is asked for and cannot be had is said once, here.
    pub fn new(folder: &Path, number: usize, wanted: &FileConfig) -> Self {
        let mut reasons = Vec::new();
        let engine = match wanted.engine {
            EngineKind::Ring => ring::usable().err().map_or(EngineKind::Ring, |fault| {
                reasons.push(format!("there is no ring ({fault})"));
                EngineKind::Blocking
            }),
            other => other,
        };
        let mut direct = wanted.direct;
        if let Some(fault) = direct.then(|| takes_direct(folder).err()).flatten() {
            reasons.push(format!("its file system takes no direct writes ({fault})"));
            direct = false;
        }
        if !reasons.is_empty() {
            let (reasons, folder) = (reasons.join("; "), folder.display());
            tracing::warn!(%folder, %reasons, %engine, direct, "shuffle files are written in a slower way");
        }
        let config = ScratchConfig { name: format!("scratch-{number}"), engine, direct, cpu: None };
        Self {
            folder: folder.to_owned(),
            config,
            wait_max: wanted.wait_max,
            compression: wanted.compression,
            is_memory: is_memory(folder),
            service: OnceLock::new(),
            #[cfg(test)]
            gate: super::tests::Gate::default(),
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How long anyone waits for it.
    pub fn wait_max(&self) -> Duration {
        self.wait_max
    }

    /// Whether frames are packed in it.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Whether its files lie in memory.
    pub fn is_memory(&self) -> bool {
        self.is_memory
    }

    /// A buffer for what is to be written; none while all are in use. Starts the service, on the caller's CPUs.
    pub fn buffer(&self, len: usize) -> Result<Option<Pages>, ScratchError> {
        Ok(self.start()?.buffer(len))
    }

    pub async fn create(&self, path: &Path) -> Result<ScratchFile, ScratchError> {
        self.start()?.create(path).await
    }

    fn start(&self) -> Result<&Scratch, ScratchError> {
        if let Some(service) = self.service.get() {
            return Ok(service);
        }
        let started = Scratch::start(&self.config).or_else(|fault| {
            if self.config.engine == EngineKind::Blocking {
                return Err(fault);
            }
            tracing::warn!(folder = %self.folder.display(), %fault, "shuffle files are written by blocking calls");
            Scratch::start(&ScratchConfig { engine: EngineKind::Blocking, ..self.config.clone() })
        })?;
        Ok(self.service.get_or_init(|| started))
    }
}

/// Whether files in a folder lie in memory: in a tmpfs, or a ramfs.
fn is_memory(folder: &Path) -> bool {
    const TMPFS: FsWord = 0x0102_1994;
    const RAMFS: FsWord = 0x8584_58f6;
    // A folder that cannot be asked is a disk; what is wrong with it is found out when it is written to.
    statfs(folder).is_ok_and(|found| matches!(found.f_type, TMPFS | RAMFS))
}
