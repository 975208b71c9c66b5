//! [`DaemonError`]: the error type of the daemon, with the exit status that follows from it.

use std::io;

use crate::datapath::LoadError;
use crate::datapath::attach::AttachError;
use crate::interfaces::InterfaceError;
use crate::source::kubernetes::AccessError;
use crate::yaml;

/// An error that ends the daemon or keeps it from starting.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A mistake in the config or the domain file: exit status 2.
    #[error(transparent)]
    Config(#[from] yaml::Error),
    /// Address or credentials of the API server are missing or invalid: exit status 2.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The BPF program could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Interfaces can't be watched, or one that `Ifname` names doesn't exist.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The program could not be attached to an interface that `Ifname` names.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The control socket can't be created.
    #[error(
        "the socket for commands in {dir}: {0}; run as root, or give {dir} to the user that runs the daemon",
        dir = crate::control::RUN_DIR
    )]
    Control(#[source] io::Error),
    /// A system call or thread failed; the text names the work.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl DaemonError {
    /// Whether the user's input caused it, so that the exit status is 2.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Access(_))
    }
}
