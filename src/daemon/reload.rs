//! Applies changes of the config and the domain file.

use super::Daemon;
use super::error::DaemonError;
use super::load::{self, Loaded};
use super::start::{warn_of_missing_cluster, warn_of_open_responder};
use crate::interfaces::IfPattern;
use crate::yaml;

impl Daemon {
    /// Applies both files. If one has a mistake, nothing changes and the log says why. `why` is the trigger, for the log.
    pub(super) async fn reload(&mut self, why: &str) {
        let changed = match load::load(&self.path, &mut self.files).await {
            Ok(Ok(loaded)) => self.change_to(loaded).await,
            Ok(Err(domain_file)) => {
                log::info!("reload postponed: {} may still be written", domain_file.display());
                return;
            }
            Err(e) => Err(e),
        };
        if changed.is_ok() {
            self.files.mark_applied();
        }
        let state = &mut *self.state.borrow_mut();
        match &changed {
            Ok(changed) => {
                state.status.reloads += 1;
                log::info!("reloaded after {why}: {} names, {changed} changed", self.writer.reader().len());
            }
            Err(e) => {
                state.status.reload_errors += 1;
                log::error!("reload failed; keeping the previous configuration: {e} (after {why})");
            }
        }
        state.status.reload_error = changed.err().map(|e| e.to_string());
    }

    async fn change_to(&mut self, loaded: Loaded) -> Result<usize, DaemonError> {
        let Loaded { config, nodes, has_names } = loaded;
        if config.ifname == [IfPattern::DefaultRoute] && config.ifname != self.config.ifname {
            let reason =
                "Ifname: is empty; restart the daemon to use the default route's interface, or name an interface";
            return Err(yaml::Error::of_file(&config.path, reason).into());
        }
        if self.has_names && !has_names {
            return Err(yaml::Error::of_file(
                &config.domain_file,
                "no longer exists; write an empty file to remove all names",
            )
            .into());
        }
        let links = if config.ifname == self.config.ifname {
            None
        } else {
            Some(self.interfaces.follow(config.ifname.clone()).await?)
        };
        let restart = config.changes_needing_restart(&self.initial_config);
        if !restart.is_empty() {
            log::warn!("restart needed for: {}", restart.join(", "));
        }
        warn_of_missing_cluster(&config);
        self.state.borrow_mut().status.staleness.set_max(config.max_stale);
        let is_addr_new = config.metrics_addr != self.config.metrics_addr;
        self.config = config;
        self.has_names = has_names;
        if is_addr_new {
            self.serve_http();
        }
        let changed = self.set_statics(nodes).await?;
        // Last, so that queries at a new interface get new answers only.
        match links {
            Some(links) => self.attach(links),
            None => warn_of_open_responder(&self.config, self.initial_config.direction, &self.links),
        }
        Ok(changed)
    }
}
