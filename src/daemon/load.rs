//! Reads the config and the domain file. Static names are parsed in another thread: a million take seconds.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::DaemonError;
use crate::config::{Config, DOMAIN_FILE};
use crate::source::file::{self, FileWatcher};
use crate::yaml;
use crate::zone::name::Name;
use crate::zone::node::Node;
use crate::zone::statics;

/// A start that waits longer than this for a file logs it.
const LOG_AFTER: Duration = Duration::from_secs(1);

/// Content of the config and the domain file.
pub(super) struct Loaded {
    pub config: Config,
    pub nodes: Vec<(Name, Node)>,
    /// Whether the domain file exists.
    pub has_names: bool,
}

/// Reads both files once they are complete. The returned watcher reports their changes from then on.
///
/// # Errors
/// [`DaemonError::Config`] if a file is missing, has a mistake, or never stops changing.
pub(super) async fn start(path: &Path) -> Result<(FileWatcher, Loaded), DaemonError> {
    // Each file may have to be watched for 10 s, so the default domain file is watched at the same time as the config.
    let usual = path.with_file_name(DOMAIN_FILE);
    let mut files = FileWatcher::new(&[path.to_owned(), usual]);
    wait_complete(&mut files, path).await?;
    loop {
        match load(path, &mut files).await? {
            Ok(loaded) => {
                files.mark_applied();
                return Ok((files, loaded));
            }
            Err(domain_file) => wait_complete(&mut files, &domain_file).await?,
        }
    }
}

/// Like [`FileWatcher::wait_complete`]; logs what it waits for if that takes long.
async fn wait_complete(files: &mut FileWatcher, path: &Path) -> Result<(), yaml::Error> {
    if let Ok(done) = timeout(LOG_AFTER, files.wait_complete(path)).await {
        return done;
    }
    log::info!(
        "{}: waiting for its writer: changed less than 10 s ago and may be half-written; waiting until it has not changed for 10 s, or \
         ends with a newline and has no writer",
        path.display()
    );
    files.wait_complete(path).await
}

/// Parses the last complete versions of both files. Returns `Ok(Err(path))` if no version of the domain file was complete yet.
///
/// # Errors
/// [`DaemonError::Config`], as in [`start`].
pub(super) async fn load(path: &Path, files: &mut FileWatcher) -> Result<Result<Loaded, PathBuf>, DaemonError> {
    let text = files.text(path).cloned().unwrap_or(Ok(None))?.ok_or_else(|| file::missing(path))?;
    let config = Config::parse(path, &text)?;
    files.set(&[path.to_owned(), config.domain_file.clone()]);
    let Some(text) = files.text(&config.domain_file).cloned() else { return Ok(Err(config.domain_file)) };
    let parse = move || -> Result<Loaded, yaml::Error> {
        let entries = file::parse(&config.domain_file, &text, config.domain_file_optional)?;
        let has_names = entries.is_some();
        let nodes = statics::nodes(&entries.unwrap_or_default(), &config.pass_names, config.ttl);
        Ok(Loaded { config, nodes, has_names })
    };
    let parsed =
        spawn_blocking(parse).await.map_err(|e| DaemonError::System("reading the config", io::Error::from(e)))?;
    Ok(Ok(parsed?))
}
