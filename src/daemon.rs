//! Puts the parts together: what happens at start, what then makes it act, and how it ends.
//!
//! Everything but the reading of files runs in one thread: whoever holds it up also holds up the heartbeat, and with that the
//! kernel's programs stop answering. Long work gives way to it in between (see [`Daemon::apply`]).

mod core;

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::config::{Config, Direction, ServerSpec};
use crate::control::server::{Connection, Server};

use crate::datapath::attach::{AttachError, Attachments, Hook, program_for};
use crate::datapath::interfaces::{InterfaceError, Interfaces, Link};
use crate::datapath::{Datapath, Gate, LoadError, Options};
use crate::source::file::{self, FileWatcher};
use crate::yaml;
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};
use crate::zone::statics;

use self::core::{Core, Refused, answer_command};

/// Between heartbeats; programs bear up to 2.5 s without.
const BEAT: Duration = Duration::from_millis(500);
/// Names written before others get a turn: some milliseconds.
const APPLY_SLICE: usize = 4096;
/// An interface that could not be attached is tried again after this.
const ATTACH_RETRY: Duration = Duration::from_secs(5);

/// Why the daemon ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A mistake in config or records: exit status 2.
    #[error(transparent)]
    Config(#[from] yaml::Error),
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
    #[error("the socket for commands in {dir}: {0}", dir = crate::control::RUN_DIR)]
    Control(#[source] io::Error),
    /// The rest.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl DaemonError {
    /// Whether the user's input is to blame (exit status 2).
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_))
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Before it is ready: whatever keeps it from starting. Later only what makes going on pointless.
pub fn run(config: &Path) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| DaemonError::System("starting the event loop", e))?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut signals = EndSignals::new()?;
        let daemon = tokio::select! {
            daemon = Daemon::start(config) => daemon?,
            () = signals.wait() => return Ok(()),
        };
        daemon.serve(signals).await
    })
}

struct Daemon {
    path: PathBuf,
    config: Config,
    core: Rc<RefCell<Core>>,
    attachments: Attachments,
    interfaces: Interfaces,
    control: Rc<Server>,
    watcher: FileWatcher,
    hangup: Signal,
    heart: JoinHandle<DaemonError>,
    /// Interfaces, one of which at least could not be attached, and when they are tried again.
    retry: Option<(Instant, Vec<Link>)>,
}

/// What ends the daemon.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

fn on_signal(kind: SignalKind) -> Result<Signal, DaemonError> {
    signal(kind).map_err(|e| DaemonError::System("waiting for signals", e))
}

impl EndSignals {
    fn new() -> Result<Self, DaemonError> {
        Ok(Self { terminate: on_signal(SignalKind::terminate())?, interrupt: on_signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Daemon {
    /// Config, records, program, names, interfaces: in an order in which a mistake of the user is said before anything is
    /// touched, and no packet is seen before there is an answer.
    async fn start(path: &Path) -> Result<Self, DaemonError> {
        let started = Instant::now();
        let hangup = on_signal(SignalKind::hangup())?;
        // Before the files are read: an edit in between would be lost.
        let mut watcher = FileWatcher::new(vec![path.to_owned()]).map_err(watch_error)?;
        let config = Config::load(path)?;
        watcher.set(watched(&config)).map_err(watch_error)?;
        let nodes = load_nodes(&config).await?;
        let (interfaces, links) = Interfaces::open(config.ifname.clone()).await?;
        warn_of_missing_parts(&config);
        warn_of_open_responder(&config, &links);

        let (datapath, table) = Datapath::load(&Options {
            ext_btf: config.ext_btf.clone(),
            egress: config.direction == Direction::Egress,
            max_records: config.max_records,
            programs: links.iter().map(|l| program_for(l, config.direction)).collect(),
        })?;
        let hook = Hook::detect(&datapath, config.tc_priority);
        let control = Server::bind(path).map_err(DaemonError::Control)?;
        let core = Core { datapath, table, servers: HashSet::new(), attached: Vec::new(), started };
        let core = Rc::new(RefCell::new(core));
        let mut daemon = Self {
            path: path.to_owned(),
            attachments: Attachments::new(hook, config.direction),
            config,
            heart: spawn_local(beat(Rc::clone(&core))),
            core,
            interfaces,
            control: Rc::new(control),
            watcher,
            hangup,
            retry: None,
        };
        daemon.apply_servers();
        daemon.apply(nodes).await;
        if let Some(e) = daemon.attach(links).into_iter().next() {
            return Err(e.into());
        }
        let core = daemon.core.borrow();
        log::info!(
            "{} names on {} in {} ms",
            core.table.len(),
            if core.attached.is_empty() { "no interface yet".into() } else { core.attached.join(", ") },
            started.elapsed().as_millis()
        );
        drop(core);
        Ok(daemon)
    }

    async fn serve(mut self, mut signals: EndSignals) -> Result<(), DaemonError> {
        log::info!("ready");
        notify(&[NotifyState::Ready]);
        loop {
            let retry_at = self.retry.as_ref().map(|(at, _)| *at);
            tokio::select! {
                () = signals.wait() => break,
                _ = self.hangup.recv() => self.reload("SIGHUP").await,
                () = self.watcher.changed() => self.reload("a changed file").await,
                links = self.interfaces.changed() => self.attach_or_retry(links?),
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    let links = self.retry.take().map(|(_, links)| links);
                    self.attach_or_retry(links.unwrap_or_default());
                }
                connection = self.control.accept() => self.command(connection),
                error = &mut self.heart => {
                    return Err(error.unwrap_or_else(|e| DaemonError::System("the heartbeat", e.into())));
                }
            }
        }
        notify(&[NotifyState::Stopping]);
        log::info!("stopping: queries pass to the DNS server");
        Ok(())
    }

    /// Reads both files anew. A mistake in one of them changes nothing.
    async fn reload(&mut self, why: &str) {
        match self.try_reload().await {
            Ok(changed) => {
                log::info!("reloaded after {why}: {} names, {changed} changed", self.core.borrow().table.len());
            }
            Err(e) => log::error!("reloading after {why}: {e}; what was there before goes on"),
        }
    }

    async fn try_reload(&mut self) -> Result<usize, DaemonError> {
        let config = Config::load(&self.path)?;
        let nodes = load_nodes(&config).await?;
        if config.ifname != self.config.ifname {
            let links = self.interfaces.follow(config.ifname.clone()).await?;
            self.attach_or_retry(links);
        }
        let restart = config.changes_needing_restart(&self.config);
        if !restart.is_empty() {
            log::warn!("changes to {} take effect with a restart", restart.join(", "));
        }
        warn_of_missing_parts(&config);
        self.config = config;
        if let Err(e) = self.watcher.set(watched(&self.config)) {
            log::error!("watching the config: {e}; SIGHUP reloads it");
        }
        self.apply_servers();
        Ok(self.apply(nodes).await)
    }

    /// Makes the maps hold `nodes`, as one difference: a name that stays is there at every moment, and below a wildcard no
    /// answer shows that never was true. For that, names are added before those above them, and removed after them.
    /// Returns how many names changed.
    async fn apply(&self, nodes: Vec<(Name, Node)>) -> usize {
        let mut changed = 0;
        let mut refused = self.put_all(nodes.iter().collect(), &mut changed).await;
        let keep: HashSet<&Name> = nodes.iter().map(|(name, _)| name).collect();
        changed += self.core.borrow_mut().table.retain(|name| keep.contains(name));
        if !refused.is_empty() {
            // There may be room now.
            refused = self.put_all(refused.into_iter().map(|(node, _)| node).collect(), &mut changed).await;
        }
        match refused.first() {
            None => self.core.borrow().datapath.settings().set_negative_gate(ZoneId::Static, Gate::Open),
            Some((_, e)) => log::error!("{} of {} names pass to the DNS server: {e}", refused.len(), nodes.len()),
        }
        changed
    }

    /// Returns what did not fit.
    async fn put_all<'a>(&self, nodes: Vec<&'a (Name, Node)>, changed: &mut usize) -> Vec<Refused<'a>> {
        let mut refused = Vec::new();
        for slice in nodes.chunks(APPLY_SLICE) {
            let (new, mut failed) = self.core.borrow_mut().put_all(slice);
            *changed += new;
            refused.append(&mut failed);
            tokio::task::yield_now().await;
        }
        refused
    }

    /// Whose queries are answered: without DnsServers, static names are for everybody's.
    fn apply_servers(&self) {
        const STATIC: u8 = 1 << ZoneId::Static as u8;
        let servers = &self.config.dns_servers;
        let any = servers.is_empty() || servers.contains(&ServerSpec::Any);
        let wanted: HashSet<_> =
            servers.iter().filter_map(|s| if let ServerSpec::Addr(addr) = s { Some(*addr) } else { None }).collect();
        let core = &mut *self.core.borrow_mut();
        for gone in core.servers.difference(&wanted) {
            if let Err(e) = core.datapath.set_server(*gone, 0) {
                log::error!("DnsServers: {gone}: {e}");
            }
        }
        for server in &wanted {
            if let Err(e) = core.datapath.set_server(*server, STATIC) {
                log::error!("DnsServers: {server}: {e}");
            }
        }
        core.servers = wanted;
        core.datapath.settings().set_any_server(if any { STATIC } else { 0 });
    }

    /// Attaches to `links` and to nothing else.
    fn attach(&mut self, links: Vec<Link>) -> Vec<AttachError> {
        let core = &mut *self.core.borrow_mut();
        let outcome = self.attachments.reconcile(&core.datapath, &links);
        for done in &outcome.done {
            log::info!("{done}");
        }
        core.attached = self.attachments.names();
        self.retry = (!outcome.errors.is_empty()).then(|| (Instant::now() + ATTACH_RETRY, links));
        outcome.errors
    }

    fn attach_or_retry(&mut self, links: Vec<Link>) {
        for e in self.attach(links) {
            log::error!("{e}; tried again in {} s", ATTACH_RETRY.as_secs());
        }
    }

    fn command(&self, connection: io::Result<Connection>) {
        match connection {
            Err(e) => log::warn!("the socket for commands: {e}"),
            Ok(connection) => {
                let core = Rc::clone(&self.core);
                spawn_local(async move {
                    if let Err(e) = answer_command(connection, &core).await {
                        log::debug!("a command broke off: {e}");
                    }
                });
            }
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, which is no error.
    if let Err(e) = sd_notify::notify(states) {
        log::debug!("sd_notify: {e}");
    }
}

/// Tells the programs that the daemon is there, and systemd's watchdog; returns what keeps it from that.
async fn beat(core: Rc<RefCell<Core>>) -> DaemonError {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
        if let Err(e) = core.borrow().datapath.beat() {
            return DaemonError::System("the heartbeat", e);
        }
    }
}

/// The nodes of the static names, the deepest first (see [`Daemon::apply`]).
async fn load_nodes(config: &Config) -> Result<Vec<(Name, Node)>, DaemonError> {
    let (domain_file, pass, ttl) = (config.domain_file.clone(), config.pass_names.clone(), config.ttl);
    let load = move || {
        let entries = domain_file.as_deref().map(file::load).transpose()?.unwrap_or_default();
        let mut nodes = statics::nodes(&entries, &pass, ttl);
        nodes.sort_by_cached_key(|(name, _)| std::cmp::Reverse(name.label_count()));
        Ok(nodes)
    };
    // A million names take seconds.
    spawn_blocking(load).await.map_err(|e| DaemonError::System("reading the records", e.into()))?
}

fn watch_error(e: io::Error) -> DaemonError {
    DaemonError::System("watching the config", e)
}

fn watched(config: &Config) -> Vec<PathBuf> {
    std::iter::once(config.path.clone()).chain(config.domain_file.clone()).collect()
}

fn warn_of_missing_parts(config: &Config) {
    let named = config.dns_servers.iter().any(|s| matches!(s, ServerSpec::Auto | ServerSpec::Service { .. }));
    for (warn, text) in [
        (config.enable_k8s, "EnableK8S: this version reads no Kubernetes API yet: static names only"),
        (
            config.metrics_addr.is_some(),
            "MetricsAddr: this version serves no metrics yet: `edns stats` has the counters",
        ),
        (
            named,
            "DnsServers: auto and namespace/name stand for no server, since this version reads no Kubernetes API yet",
        ),
    ] {
        if warn {
            log::warn!("{text}");
        }
    }
}

/// Whoever reaches a physical interface is answered, also those who lie about who they are.
fn warn_of_open_responder(config: &Config, links: &[Link]) {
    let open = config.dns_servers.is_empty() || config.dns_servers.contains(&ServerSpec::Any);
    if config.direction != Direction::Ingress || !open {
        return;
    }
    for link in links.iter().filter(|l| l.outside) {
        log::warn!(
            "{}: Ingress on a physical interface without DnsServers answers everybody who can reach it, and spoofed queries \
             too: name your DNS servers in DnsServers",
            link.name
        );
    }
}
