//! What the files say, read in a thread of its own: a million names take seconds, and a disk may hang.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::DaemonError;
use crate::config::Config;
use crate::source::file;
use crate::yaml;
use crate::zone::name::Name;
use crate::zone::node::Node;
use crate::zone::statics;

/// A file that changes while it is read is read again after this.
const AGAIN: Duration = Duration::from_millis(50);
const TRIES: usize = 100;

/// Config and static names.
pub(super) struct Loaded {
    pub config: Config,
    pub nodes: Vec<(Name, Node)>,
    /// Whether there is a domain file.
    pub has_names: bool,
}

/// Reads both files, as they are at one moment.
pub(super) async fn load(path: &Path) -> Result<Loaded, DaemonError> {
    let path = path.to_owned();
    let read = spawn_blocking(move || {
        for _ in 1..TRIES {
            let before = file::state(&path);
            let config = Config::load(&path)?;
            let domains = file::state(&config.domain_file);
            let loaded = with_names(config)?;
            if before == file::state(&path) && domains == file::state(&loaded.config.domain_file) {
                return Ok(loaded);
            }
            sleep(AGAIN);
        }
        with_names(Config::load(&path)?)
    });
    Ok(read.await.map_err(|e| DaemonError::System("reading the config", e.into()))??)
}

fn with_names(config: Config) -> Result<Loaded, yaml::Error> {
    let entries = file::load(&config.domain_file, config.domain_file_optional)?;
    let has_names = entries.is_some();
    let nodes = statics::nodes(&entries.unwrap_or_default(), &config.pass_names, config.ttl);
    Ok(Loaded { config, nodes, has_names })
}

/// Files whose changes count.
pub(super) fn watched(config: &Config) -> Vec<PathBuf> {
    vec![config.path.clone(), config.domain_file.clone()]
}
