//! Why a topology could not be had.

use std::path::PathBuf;

use firesteel_base::UserError;

/// Why a topology could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// hwloc could not read this machine.
    #[error("hwloc cannot read this machine's topology: {fault}")]
    Discover {
        /// What hwloc says.
        fault: String,
    },
    /// The XML file is not there or cannot be read.
    #[error("cannot read the topology file {}: {fault}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        fault: String,
    },
    /// The file is no hwloc XML.
    #[error("{} is no topology file of hwloc", path.display())]
    NoXml {
        /// The file.
        path: PathBuf,
    },
    /// The text is no synthetic description.
    #[error("'{description}' is no synthetic topology")]
    NoSynthetic {
        /// The text.
        description: String,
    },
    /// It was read, but what it describes is no machine one can compute on.
    #[error("the topology of {of} has no {what}")]
    Incomplete {
        /// The file, the description or the machine.
        of: String,
        /// What it lacks.
        what: &'static str,
    },
    /// A restriction to CPUs that are not there.
    #[error("none of the CPUs {asked} is a CPU this process may use")]
    NoSuchCpus {
        /// What was asked for.
        asked: String,
        /// What there is.
        has: String,
    },
    /// The JSON text is no topology.
    #[error("this JSON is no topology: {fault}")]
    Json {
        /// What is wrong with it.
        fault: String,
    },
}

impl From<TopologyError> for UserError {
    fn from(fault: TopologyError) -> Self {
        let error = Self::new(fault.to_string());
        match fault {
            TopologyError::Discover { .. } => error.hint("check that /sys and /proc are mounted and readable"),
            TopologyError::Unreadable { .. } => error.hint("check the path and the permission to read it"),
            TopologyError::NoXml { .. } | TopologyError::Incomplete { .. } => {
                error.hint("write one on the host itself: lstopo --of xml host.xml")
            }
            TopologyError::NoSynthetic { .. } => error.hint(
                "for example 'pack:2 [numa(memory=68719476736)] l3:4 core:8 pu:2': from the machine down to 'pu', \
                 each level with its count; memory in bytes",
            ),
            TopologyError::NoSuchCpus { has, .. } => {
                error.detail(format!("this process may use CPUs {has}")).hint("name CPUs out of that list")
            }
            TopologyError::Json { .. } => error.hint("sender and receiver must be of the same release"),
        }
    }
}
