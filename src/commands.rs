//! Commands that ask the running daemon.

pub mod lookup;
pub mod pause;
pub mod records;
pub mod stats;
mod stream;
mod top;
pub mod trace;
pub mod verify;

use std::io::{self, Write};

use crate::control::client::ClientError;

/// Why a command ended with exit status 1 or 2.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Of the daemon, or on the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody reads the output.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    /// Something else on the way.
    #[error("{0}")]
    Failed(String),
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
}

/// Whether what was asked for is there: exit status 0 or 1.
pub type CommandResult = Result<bool, CommandError>;

/// Standard output, in pieces of sensible size.
fn stdout() -> io::BufWriter<impl Write> {
    io::BufWriter::new(io::stdout().lock())
}
