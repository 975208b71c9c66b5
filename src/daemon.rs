//! Puts the parts together: what happens at start, what then makes it act, and how it ends.
//!
//! Everything runs in one thread: whoever holds it up also holds up the heartbeat, and with that the kernel's programs stop
//! answering. Long work gives way to it in between (see [`Daemon::apply`]).

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::{Config, Direction, ServerSpec};
use crate::control::server::{Connection, Server};
use crate::control::{LookupReply, OutcomeCount, RecordReply, Request, StatsReply};
use crate::datapath::attach::{AttachError, Attachments, Hook};
use crate::datapath::counters::{FAMILIES, OUTCOMES};
use crate::datapath::interfaces::{InterfaceError, Interfaces, Link};
use crate::datapath::{Datapath, Gate, LoadError, Options, Put, Table, TableError, TestRun, probe};
use crate::source::file::{self, FileWatcher};
use crate::yaml;
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};
use crate::zone::statics;

/// Between heartbeats; programs bear up to 2.5 s without.
const BEAT: Duration = Duration::from_millis(500);
/// Names written before others get a turn: some milliseconds.
const APPLY_SLICE: usize = 4096;
/// Index slots read for a command before others get a turn.
const RECORDS_SLICE: usize = 16384;
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
    tokio::task::LocalSet::new().block_on(&runtime, async { Daemon::start(config).await?.serve().await })
}

/// What commands read, too.
struct Core {
    datapath: Datapath,
    table: Table,
    probe: TestRun,
    servers: HashSet<IpAddr>,
    attached: Vec<String>,
    started: Instant,
}

struct Daemon {
    path: PathBuf,
    config: Config,
    core: Rc<RefCell<Core>>,
    attachments: Attachments,
    interfaces: Interfaces,
    control: Rc<Server>,
    watcher: FileWatcher,
    signals: Signals,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, DaemonError> {
        let new = |kind| signal(kind).map_err(|e| DaemonError::System("waiting for signals", e));
        Ok(Self {
            hangup: new(SignalKind::hangup())?,
            terminate: new(SignalKind::terminate())?,
            interrupt: new(SignalKind::interrupt())?,
        })
    }
}

impl Daemon {
    /// Config, records, program, names, interfaces: in an order in which a mistake of the user is said before anything is
    /// touched, and no packet is seen before there is an answer.
    async fn start(path: &Path) -> Result<Self, DaemonError> {
        let started = Instant::now();
        let config = Config::load(path)?;
        let nodes = load_nodes(&config)?;
        let signals = Signals::new()?;
        // Before the files are read again on a change, not after: an edit in between would be lost.
        let watcher = FileWatcher::new(watched(&config)).map_err(|e| DaemonError::System("watching the config", e))?;
        let (interfaces, links) = Interfaces::open(config.ifname.clone()).await?;
        warn_of_open_responder(&config, &links);

        let egress = config.direction == Direction::Egress;
        let (datapath, table) =
            Datapath::load(&Options { ext_btf: config.ext_btf.clone(), egress, max_records: config.max_records })?;
        let probe = datapath.probe().map_err(|e| DaemonError::System("opening the program", e))?;
        let attachments = Attachments::new(Hook::detect(&datapath.programs(), config.tc_priority), config.direction);
        let control = Server::bind(path).map_err(DaemonError::Control)?;
        let core = Core { datapath, table, probe, servers: HashSet::new(), attached: Vec::new(), started };
        let mut daemon = Self {
            path: path.to_owned(),
            config,
            core: Rc::new(RefCell::new(core)),
            attachments,
            interfaces,
            control: Rc::new(control),
            watcher,
            signals,
        };
        daemon.beat()?;
        daemon.apply_servers();
        daemon.apply(nodes).await?;
        daemon.attach(&links, true)?;
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

    async fn serve(mut self) -> Result<(), DaemonError> {
        log::info!("ready");
        notify(&[NotifyState::Ready]);
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry: Option<Vec<Link>> = None;
        loop {
            tokio::select! {
                _ = beat.tick() => self.beat()?,
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
                _ = self.signals.hangup.recv() => self.reload("SIGHUP").await?,
                () = self.watcher.changed() => self.reload("a changed file").await?,
                links = self.interfaces.changed() => {
                    let links = links?;
                    retry = self.attach(&links, false)?.then_some(links);
                }
                () = sleep(ATTACH_RETRY), if retry.is_some() => {
                    if let Some(links) = retry.take() {
                        retry = self.attach(&links, false)?.then_some(links);
                    }
                }
                connection = self.control.accept() => self.command(connection),
            }
        }
        notify(&[NotifyState::Stopping]);
        log::info!("stopping: queries pass to the DNS server");
        Ok(())
    }

    fn beat(&self) -> Result<(), DaemonError> {
        notify(&[NotifyState::Watchdog]);
        self.core.borrow().datapath.beat().map_err(|e| DaemonError::System("the heartbeat", e))
    }

    /// Reads both files anew. A mistake in one of them changes nothing.
    async fn reload(&mut self, why: &str) -> Result<(), DaemonError> {
        let read = Config::load(&self.path)
            .map_err(DaemonError::from)
            .and_then(|config| load_nodes(&config).map(|nodes| (config, nodes)));
        let (config, nodes) = match read {
            Ok(read) => read,
            Err(e) => {
                log::error!("reloading after {why}: {e}; what was there before goes on");
                return Ok(());
            }
        };
        let restart = config.changes_needing_restart(&self.config);
        if !restart.is_empty() {
            log::warn!("changes to {} take effect with a restart", restart.join(", "));
        }
        if config.ifname != self.config.ifname {
            match self.interfaces.follow(config.ifname.clone()).await {
                Ok(links) => drop(self.attach(&links, false)?),
                Err(e) => {
                    log::error!("reloading after {why}: {e}; what was there before goes on");
                    return Ok(());
                }
            }
        }
        self.config = config;
        if let Err(e) = self.watcher.set(watched(&self.config)) {
            log::error!("watching the config: {e}; SIGHUP reloads it");
        }
        self.apply_servers();
        let changed = self.apply(nodes).await?;
        log::info!("reloaded after {why}: {} names, {changed} changed", self.core.borrow().table.len());
        Ok(())
    }

    /// Makes the maps hold `nodes`, as one difference: a name that stays is there at every moment, and below a wildcard no
    /// answer shows that never was true. For that, names are added before those above them, and removed after them.
    async fn apply(&self, mut nodes: Vec<(Name, Node)>) -> Result<usize, DaemonError> {
        nodes.sort_by_cached_key(|(name, _)| std::cmp::Reverse(name.label_count()));
        let mut changed = 0;
        let mut refused: Option<(usize, TableError)> = None;
        let settings = self.core.borrow().datapath.settings();
        for slice in nodes.chunks(APPLY_SLICE) {
            self.beat()?;
            let mut core = self.core.borrow_mut();
            for (name, node) in slice {
                match core.table.put(name, node) {
                    Ok(Put::Same) => {}
                    Ok(Put::Added | Put::Changed) => changed += 1,
                    Err(e) => {
                        // What was there may be what shall be no more: it must not go on.
                        core.table.remove(name);
                        // A name that is not there may be one that a wildcard must not match.
                        settings.set_negative_gate(ZoneId::Static, Gate::Incomplete);
                        refused = Some((refused.map_or(1, |(n, _)| n + 1), e));
                    }
                }
            }
            drop(core);
            tokio::task::yield_now().await;
        }
        let keep: HashSet<&Name> = nodes.iter().map(|(name, _)| name).collect();
        let mut core = self.core.borrow_mut();
        changed += core.table.retain(|name| keep.contains(name));
        match refused {
            None => settings.set_negative_gate(ZoneId::Static, Gate::Open),
            Some((n, e)) => log::error!("{n} of {} names pass to the DNS server: {e}", nodes.len()),
        }
        Ok(changed)
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

    /// Attaches to `links` and to nothing else. True where one of them has to be tried again.
    fn attach(&mut self, links: &[Link], starting: bool) -> Result<bool, DaemonError> {
        let core = &mut *self.core.borrow_mut();
        let outcome = self.attachments.reconcile(&core.datapath.programs(), links);
        for done in &outcome.done {
            log::info!("{done}");
        }
        core.attached = self.attachments.names();
        let failed = !outcome.errors.is_empty();
        for e in outcome.errors {
            if starting {
                return Err(e.into());
            }
            log::error!("{e}; tried again in {} s", ATTACH_RETRY.as_secs());
        }
        Ok(failed)
    }

    fn command(&self, connection: io::Result<Connection>) {
        match connection {
            Err(e) => log::warn!("the socket for commands: {e}"),
            Ok(connection) => {
                let core = Rc::clone(&self.core);
                tokio::task::spawn_local(async move {
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

fn load_nodes(config: &Config) -> Result<Vec<(Name, Node)>, DaemonError> {
    let entries = config.domain_file.as_deref().map(file::load).transpose()?.unwrap_or_default();
    Ok(statics::nodes(&entries, &config.pass_names, config.ttl))
}

fn watched(config: &Config) -> Vec<PathBuf> {
    std::iter::once(config.path.clone()).chain(config.domain_file.clone()).collect()
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

async fn answer_command(mut connection: Connection, core: &RefCell<Core>) -> io::Result<()> {
    match connection.request().await? {
        Request::Lookup { name, qtype } => match core.borrow().lookup(&name, qtype) {
            Ok(reply) => connection.reply([reply]).await,
            Err(e) => connection.error(&e).await,
        },
        Request::Records => {
            let mut slot = 0;
            while let Some(records) = core.borrow().records(slot, RECORDS_SLICE) {
                connection.reply(records).await?;
                slot += RECORDS_SLICE;
            }
            Ok(())
        }
        Request::Stats => {
            let stats = core.borrow().stats()?;
            connection.reply([stats]).await
        }
    }
}

impl Core {
    fn lookup(&self, name: &str, qtype: u16) -> Result<LookupReply, String> {
        let query = probe::query(name, qtype).map_err(|e| format!("{name}: {e}"))?;
        let (outcome, message) = probe::run(&self.probe, &query).map_err(|e| format!("running the program: {e}"))?;
        Ok(LookupReply { outcome: outcome.into(), message })
    }

    /// The records of some of the index' slots; None behind the last one.
    fn records(&self, slot: usize, slots: usize) -> Option<Vec<RecordReply>> {
        Some(
            self.table
                .records(slot, slots)?
                .into_iter()
                .map(|r| {
                    let (counts, answer) = r.answer.map_or(([0; 3], None), |(c, a)| (c, Some(a)));
                    RecordReply { name: r.name.to_string(), qtype: r.qtype, answer, counts }
                })
                .collect(),
        )
    }

    fn stats(&self) -> io::Result<StatsReply> {
        let counts = self.datapath.queries()?;
        let queries = OUTCOMES.iter().zip(counts).flat_map(|(outcome, counts)| {
            FAMILIES.iter().zip(counts).map(|(family, count)| OutcomeCount {
                outcome: (*outcome).into(),
                family: (*family).into(),
                count,
            })
        });
        Ok(StatsReply {
            queries: queries.collect(),
            records: self.table.len() as u64,
            max_records: self.table.max_len() as u64,
            map_bytes: self.table.memory() as u64,
            attached_interfaces: self.attached.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
        })
    }
}
