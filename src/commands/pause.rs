//! `edns pause` and `edns resume`.

use std::path::Path;
use std::time::Duration;

use super::CommandResult;
use crate::control::Request;
use crate::control::client::ask_one;

/// Makes the daemon pass all queries, for a time or until [`resume`].
///
/// # Errors
/// If no daemon runs.
pub fn pause(config: &Path, time: Option<Duration>) -> CommandResult {
    ask_one::<()>(config, &Request::Pause { seconds: time.map(|t| t.as_secs()) })?;
    Ok(true)
}

/// Ends a pause.
///
/// # Errors
/// If no daemon runs.
pub fn resume(config: &Path) -> CommandResult {
    ask_one::<()>(config, &Request::Resume)?;
    Ok(true)
}
