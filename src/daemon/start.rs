//! Starts the daemon.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::signal::unix::SignalKind;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::attacher::Attacher;
use super::error::DaemonError;
use super::gates::Gates;
use super::heartbeat::beat;
use super::load::{self, Loaded};
use super::pace::Pace;
use super::state::DaemonState;
use super::status::Status;
use super::writer::Writer;
use super::zones::Zones;
use super::{Daemon, commands, log_retry, on_signal};
use crate::config::{Config, ServerSpec};
use crate::control;
use crate::control::server::Server;
use crate::datapath::attach::{Direction, Hook, program_for};
use crate::datapath::{Datapath, Options};
use crate::interfaces::{InterfaceError, Interfaces, Link, Uplink};
use crate::source::kubernetes;

impl Daemon {
    /// Reads the files, loads the program, fills the maps and attaches. The order: mistakes of the user are reported before
    /// anything on the host changes, and the maps are filled before the program sees a packet.
    ///
    /// # Errors
    /// Any error that keeps the daemon from starting.
    pub(super) async fn start(path: &Path) -> Result<Self, DaemonError> {
        let started = Instant::now();
        let hangup = on_signal(SignalKind::hangup())?;
        let (files, Loaded { config, nodes, has_names }) = load::start(path).await?;
        let (interfaces, links) = Interfaces::open(config.ifname.clone()).await?;
        let kubernetes = if config.enable_k8s { Some(kubernetes::spawn(config.access()).await?) } else { None };
        let zones = Zones::new(&config);
        warn_of_missing_cluster(&config);

        let (datapath, table) = Datapath::load(&Options {
            ext_btf: config.ext_btf.clone(),
            egress: config.direction == Direction::Egress,
            max_records: config.max_records,
            programs: links.iter().map(|l| program_for(l, config.direction)).collect(),
        })?;
        let handle = control::config_hash(path).map_err(DaemonError::Control)? as u32;
        let hook = Hook::detect(&datapath, config.tc_priority, handle);
        let attacher = Attacher::new(hook, config.direction).map_err(InterfaceError::from)?;
        let mut status = Status::new(started, kubernetes.as_ref().map(|k| Arc::clone(k.health())));
        status.staleness.set_max(config.max_stale);
        let gates = Arc::new(Gates::new(datapath.settings()));
        let updates = kubernetes.as_ref().map(|k| k.waiting().clone()).unwrap_or_default();
        let writer = Writer::start(table, Arc::clone(&gates), updates)
            .map_err(|e| DaemonError::System("starting the thread that writes the maps", e))?;
        let writer = Rc::new(writer);
        let state = Rc::new(RefCell::new(DaemonState::new(datapath, Rc::clone(&writer), gates, status)));
        spawn_local(beat(Rc::clone(&state)));
        let mut daemon = Self {
            path: path.to_owned(),
            hook,
            attacher,
            links: Vec::new(),
            initial_config: config.clone(),
            config,
            has_names,
            state,
            writer,
            zones: Some(zones),
            kubernetes,
            behind: Vec::new(),
            pace: Pace::new(),
            caught_up: Vec::new(),
            last_relist: None,
            http: None,
            interfaces,
            files,
            hangup,
            retry: None,
        };
        if daemon.kubernetes.is_some() {
            let changes = daemon.work(Zones::announce).await?;
            daemon.apply(changes).await?;
        }
        daemon.set_statics(nodes).await?;
        daemon.attach(links);
        let (report, attached) = daemon.attacher.done().await?;
        for e in daemon.attached(report, attached) {
            if daemon.state.borrow().status.all_required {
                return Err(e.into());
            }
            log_retry(&e);
        }
        daemon.remove_stale_filters().await;
        // Last, so that a daemon that can't start leaves the control socket to the one that runs.
        let server = Server::bind(path).map_err(DaemonError::Control)?;
        match server.predecessor() {
            Some(0) => log::info!("taking over from a daemon of unknown pid: stopped, or in another PID namespace"),
            Some(pid) => log::info!("taking over from pid {pid}"),
            None => {}
        }
        spawn_local(commands::serve(server, Rc::clone(&daemon.state)));
        daemon.serve_http();
        let state = daemon.state.borrow();
        log::info!(
            "{} names on {} in {} ms",
            daemon.writer.reader().len(),
            if state.attached.is_empty() { "no interface yet".into() } else { state.attached_names().join(", ") },
            started.elapsed().as_millis()
        );
        drop(state);
        Ok(daemon)
    }
}

/// Warns if `DnsServers` names servers of the cluster without `EnableK8S`.
pub(super) fn warn_of_missing_cluster(config: &Config) {
    let named = config.dns_servers.iter().any(|s| matches!(s, ServerSpec::Auto | ServerSpec::Service { .. }));
    if named && !config.enable_k8s {
        log::warn!("DnsServers: auto and namespace/name match no server without EnableK8S");
    }
}

/// Warns if any host that reaches a physical interface is answered, which spoofed queries could use for amplification.
pub(super) fn warn_of_open_responder(config: &Config, direction: Direction, links: &[Link]) {
    let open = config.dns_servers.is_empty() || config.dns_servers.contains(&ServerSpec::Any);
    if direction != Direction::Ingress || !open {
        return;
    }
    for link in links.iter().filter(|l| l.is_external || l.uplink == Uplink::Yes) {
        log::warn!(
            "{}: Ingress on a physical interface without DnsServers answers all clients that reach it, also spoofed queries; \
             name your DNS servers in DnsServers",
            link.name
        );
    }
}
