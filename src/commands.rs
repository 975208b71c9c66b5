//! The commands that ask the running daemon over its control socket.

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

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The daemon could not be asked, or refused the request.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output can't be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    /// Another failure at run time: exit status 1.
    #[error("{0}")]
    Failed(String),
    /// A bad argument: exit status 2.
    #[error("{0}")]
    Usage(String),
}

/// The result of a command: true is exit status 0, false exit status 1 without an error text.
pub type CommandResult = Result<bool, CommandError>;

/// Standard output, locked and buffered.
fn stdout() -> io::BufWriter<impl Write> {
    io::BufWriter::new(io::stdout().lock())
}
