//! Why the daemon ended, or did not start.

use std::io;

use crate::datapath::LoadError;
use crate::datapath::attach::AttachError;
use crate::interfaces::InterfaceError;
use crate::source::kubernetes::AccessError;
use crate::yaml;

/// Why the daemon ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A mistake in config or records: exit status 2.
    #[error(transparent)]
    Config(#[from] yaml::Error),
    /// How the API server is to be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The BPF program could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Interfaces can't be followed, or one that is named is not there.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The program could not be attached to an interface that is named.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The socket for commands.
    #[error(
        "the socket for commands in {dir}: {0}; run as root, or give {dir} to the user that runs the daemon",
        dir = crate::control::RUN_DIR
    )]
    Control(#[source] io::Error),
    /// The rest.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl DaemonError {
    /// Whether the user's input is to blame (exit status 2).
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Access(_))
    }
}
