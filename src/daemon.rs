//! Puts the parts together: what happens at start, what then makes it act, and how it ends.
//!
//! Everything but the reading of files, the work on the zone, the writing of the maps and the attaching runs in one thread:
//! whoever holds it up also holds up the heartbeat, and with that the kernel's programs stop answering.

mod attacher;
mod commands;
mod core;
mod gates;
mod heap;
mod http;
mod load;
mod pace;
mod shortage;
mod staleness;
mod status;
mod trace;
mod waiting;
mod world;
mod writer;

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::attacher::{Attached, Attacher};
use self::core::Core;
use self::gates::Gates;
use self::http::Http;
use self::load::Loaded;
use self::pace::Pace;
use self::status::Status;
use self::world::{Turn, World};
use self::writer::Writer;
use crate::config::{Config, ServerSpec};
use crate::control;
use crate::control::server::Server;
use crate::datapath::attach::{AttachError, Direction, Hook, Outcome, Plan, program_for};
use crate::datapath::ifpattern::IfPattern;
use crate::datapath::interfaces::{InterfaceError, Interfaces, Link, Uplink};
use crate::datapath::{Datapath, LoadError, Options};
use crate::privileges;
use crate::source::file::{Change as FileChange, FileWatcher};
use crate::source::kubernetes::{self, AccessError, Event, Kubernetes, Mend};
use crate::yaml;
use crate::zone::change::Change;
use crate::zone::cluster::Behind;
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Between heartbeats; programs bear up to 2.5 s without.
const BEAT: Duration = Duration::from_millis(500);
const BEAT_MAX: Duration = Duration::from_millis(2500);
/// A start that waits for the API server may go on for so long after each heartbeat.
const START_EXTENSION: Duration = Duration::from_secs(10);
/// Events of the cluster that are applied together.
const EVENTS_MAX: usize = 10_000;
/// Between lists by which objects come back that were not kept.
const LIST_AGAIN: Duration = Duration::from_secs(60);
/// An interface that could not be attached is tried again after this.
const ATTACH_RETRY: Duration = Duration::from_secs(5);

/// Why the daemon ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A mistake in config or records: exit status 2.
    #[error(transparent)]
    Config(#[from] yaml::Error),
    /// How the API server is to be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
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
    #[error(
        "the socket for commands in {dir}: {0}; run as root, or give {dir} to the user that runs the daemon",
        dir = crate::control::RUN_DIR
    )]
    Control(#[source] io::Error),
    /// The rest.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl DaemonError {
    /// Whether the user's input is to blame (exit status 2).
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Access(_))
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Before it is ready: whatever keeps it from starting. Later only what makes going on pointless.
pub fn run(config: &Path) -> Result<(), DaemonError> {
    heap::limit_arenas();
    privileges::drop_unneeded();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| DaemonError::System("starting the event loop", e))?;
    let result = tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut signals = EndSignals::new()?;
        let daemon = tokio::select! {
            daemon = Daemon::start(config) => daemon?,
            () = signals.wait() => return Ok(()),
        };
        daemon.serve(signals).await
    });
    // Work on the zone that goes on is nobody's any more.
    runtime.shutdown_background();
    result
}

struct Daemon {
    path: PathBuf,
    config: Config,
    /// With its settings that can't change while it runs.
    started: Config,
    /// Whether there was a domain file when it was read last.
    has_names: bool,
    core: Rc<RefCell<Core>>,
    writer: Rc<Writer>,
    /// None while it is worked on elsewhere.
    world: Option<World>,
    kubernetes: Option<Kubernetes>,
    /// Namespaces with changes that wait for their turn.
    behind: Vec<Behind>,
    pace: Pace,
    /// Since when changes of namespaces waited which were worked out, and are about to be written.
    caught_up: Vec<std::time::Instant>,
    /// When a list was asked for last, since objects were not kept.
    listed_again: Option<Instant>,
    http: Option<Http>,
    hook: Hook,
    attacher: Attacher,
    /// That shall have the program.
    links: Vec<Link>,
    interfaces: Interfaces,
    files: FileWatcher,
    hangup: Signal,
    /// When interfaces that could not be attached are tried again.
    retry: Option<Instant>,
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
        let (files, Loaded { config, nodes, has_names }) = load::start(path).await?;
        let (interfaces, links) = Interfaces::open(config.ifname.clone()).await?;
        let kubernetes = if config.enable_k8s { Some(kubernetes::spawn(config.access()).await?) } else { None };
        let world = World::new(&config);
        warn_of_missing_parts(&config);

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
        let writer = Writer::start(table, Arc::clone(&gates))
            .map_err(|e| DaemonError::System("starting the thread that writes the maps", e))?;
        let writer = Rc::new(writer);
        let core = Rc::new(RefCell::new(Core::new(datapath, Rc::clone(&writer), gates, status)));
        spawn_local(beat(Rc::clone(&core)));
        let mut daemon = Self {
            path: path.to_owned(),
            hook,
            attacher,
            links: Vec::new(),
            started: config.clone(),
            config,
            has_names,
            core,
            writer,
            world: Some(world),
            kubernetes,
            behind: Vec::new(),
            pace: Pace::new(),
            caught_up: Vec::new(),
            listed_again: None,
            http: None,
            interfaces,
            files,
            hangup,
            retry: None,
        };
        if daemon.kubernetes.is_some() {
            let changes = daemon.work(World::announce).await?;
            daemon.apply(changes).await?;
        }
        daemon.set_statics(nodes).await?;
        daemon.attach(links);
        let (outcome, attached) = daemon.attacher.done().await?;
        for e in daemon.attached(outcome, attached) {
            if daemon.core.borrow().status.named {
                return Err(e.into());
            }
            say_of_retry(&e);
        }
        daemon.remove_leftovers().await;
        // Only now: who can't start leaves the commands to the one that runs.
        let server = Server::bind(path).map_err(DaemonError::Control)?;
        match server.predecessor() {
            Some(0) => log::info!("taking over from a daemon that tells no pid: stopped, or in another PID namespace"),
            Some(pid) => log::info!("taking over from pid {pid}"),
            None => {}
        }
        spawn_local(commands::serve(server, Rc::clone(&daemon.core)));
        daemon.serve_http();
        let core = daemon.core.borrow();
        log::info!(
            "{} names on {} in {} ms",
            daemon.writer.reader().len(),
            if core.attached.is_empty() { "no interface yet".into() } else { core.attached_names().join(", ") },
            started.elapsed().as_millis()
        );
        drop(core);
        Ok(daemon)
    }

    async fn serve(mut self, mut signals: EndSignals) -> Result<(), DaemonError> {
        let mut is_ready = false;
        let mut gates = interval(BEAT);
        gates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.kubernetes.is_some() {
            log::info!("Kubernetes: waiting for the first list of everything; static names are answered meanwhile");
        }
        loop {
            if !is_ready && self.core.borrow().status.has_synced() {
                is_ready = true;
                log::info!("ready");
                notify(&[NotifyState::Ready]);
            }
            let why = tokio::select! {
                () = signals.wait() => break,
                _ = self.hangup.recv() => {
                    self.files.mean();
                    continue;
                }
                change = self.files.changed() => {
                    self.core.borrow_mut().status.held = self.files.held();
                    match change {
                        FileChange::Texts { meant: true } => "SIGHUP",
                        FileChange::Texts { meant: false } => "a changed file",
                        FileChange::Held => continue,
                    }
                }
                links = self.interfaces.changed() => {
                    match links {
                        Ok(links) => self.attach(links),
                        Err(e @ InterfaceError::Ended) => return Err(e.into()),
                        // Of one request; interfaces() asks again.
                        Err(e) => log::warn!("{e}; asked again"),
                    }
                    continue;
                }
                event = next_event(&mut self.kubernetes, !self.behind.is_empty()) => {
                    tokio::select! {
                        () = signals.wait() => break,
                        done = self.cluster_changed(event) => done?,
                    }
                    continue;
                }
                _ = gates.tick() => {
                    self.writer.check()?;
                    self.list_again();
                    if self.core.borrow_mut().set_gates() && !self.writer.is_opening() {
                        spawn_local(open(Rc::clone(&self.writer)));
                    }
                    continue;
                }
                done = self.attacher.done() => {
                    let (outcome, attached) = done?;
                    self.attached(outcome, attached).iter().for_each(say_of_retry);
                    continue;
                }
                () = sleep_until(self.retry.unwrap_or_else(Instant::now)), if self.retry.is_some() => {
                    self.attach(self.links.clone());
                    continue;
                }
            };
            tokio::select! {
                () = signals.wait() => break,
                () = self.reload(why) => {}
            }
        }
        notify(&[NotifyState::Stopping]);
        log::info!("stopping: queries pass to the DNS server");
        tokio::select! {
            // A second one is in a hurry.
            () = signals.wait() => {}
            () = self.remove_leftovers() => {}
        }
        Ok(())
    }

    /// Takes away what daemons of this config left that were killed.
    async fn remove_leftovers(&self) {
        match self.hook.remove_leftovers(&self.interfaces).await {
            Ok(0) => {}
            Ok(n) => log::info!("{n} filters of daemons that were killed are taken away"),
            Err(e) => log::warn!("filters of daemons that were killed: {e}"),
        }
    }

    /// Takes over what both files say. A mistake in one of them changes nothing.
    async fn reload(&mut self, why: &str) {
        let changed = match load::load(&self.path, &mut self.files).await {
            Ok(Ok(loaded)) => self.change_to(loaded).await,
            Ok(Err(domain_file)) => {
                log::info!("{}: read when it is certain that nobody writes it", domain_file.display());
                return;
            }
            Err(e) => Err(e),
        };
        if changed.is_ok() {
            self.files.in_force();
        }
        let core = &mut *self.core.borrow_mut();
        match &changed {
            Ok(changed) => {
                core.status.reloads += 1;
                log::info!("reloaded after {why}: {} names, {changed} changed", self.writer.reader().len());
            }
            Err(e) => {
                core.status.reload_errors += 1;
                log::error!("reloading after {why}: {e}; what was there before goes on");
            }
        }
        core.status.reload_error = changed.err().map(|e| e.to_string());
    }

    async fn change_to(&mut self, loaded: Loaded) -> Result<usize, DaemonError> {
        let Loaded { config, nodes, has_names } = loaded;
        if config.ifname == [IfPattern::DefaultRoute] && config.ifname != self.config.ifname {
            let reason = "Ifname: is empty; the default route's interface takes a restart, or name an interface";
            return Err(yaml::Error::of_file(&config.path, reason).into());
        }
        if self.has_names && !has_names {
            return Err(yaml::Error::of_file(&config.domain_file, "is gone; an empty one drops its names").into());
        }
        let links = if config.ifname == self.config.ifname {
            None
        } else {
            Some(self.interfaces.follow(config.ifname.clone()).await?)
        };
        let restart = config.changes_needing_restart(&self.started);
        if !restart.is_empty() {
            log::warn!("{}: what is set now takes effect with a restart", restart.join(", "));
        }
        warn_of_missing_parts(&config);
        self.core.borrow_mut().status.staleness.set_max(config.max_stale);
        let has_moved = config.metrics_addr != self.config.metrics_addr;
        self.config = config;
        self.has_names = has_names;
        if has_moved {
            self.serve_http();
        }
        let changed = self.set_statics(nodes).await?;
        // Last: a new interface gets the new answers only.
        match links {
            Some(links) => self.attach(links),
            None => warn_of_open_responder(&self.config, &self.links),
        }
        Ok(changed)
    }

    /// Makes `nodes` all static names; returns how many changed.
    async fn set_statics(&mut self, nodes: Vec<(Name, Node)>) -> Result<usize, DaemonError> {
        let config = self.config.clone();
        let changes = self.work(move |world| world.set_statics(nodes, &config)).await?;
        let changed = self.apply(changes).await?;
        self.yield_memory().await?;
        Ok(changed)
    }

    /// Where the kernel gives no more memory for the maps, those who have most of it give way.
    async fn yield_memory(&mut self) -> Result<(), DaemonError> {
        let Some(units) = self.core.borrow_mut().memory_left() else { return Ok(()) };
        let changes = self.work(move |world| world.limit(units)).await?;
        self.apply(changes).await?;
        Ok(())
    }

    /// Makes the maps follow what happened in the cluster: this event, and those that wait behind it. What takes long waits for its
    /// turn, which is now where anything does.
    async fn cluster_changed(&mut self, event: Option<Event>) -> Result<(), DaemonError> {
        self.note(event).await?;
        if self.behind.is_empty() {
            return Ok(());
        }
        // Events that come meanwhile wait for no more than this.
        self.turn(Turn::Oldest, |_| ()).await?;
        self.yield_memory().await
    }

    /// Works out some of the changes, after `first`, and writes them. Returns how many names changed, and what `first` did.
    async fn turn<T: Send + 'static>(
        &mut self,
        turn: Turn,
        first: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<(usize, T), DaemonError> {
        let most = self.pace.work();
        let work = move |world: &mut World| {
            let first = first(world);
            let began = Instant::now();
            let changes = world.commit(turn, most);
            (first, changes, world.spent(), began.elapsed())
        };
        let (first, changes, spent, worked) = self.work(work).await?;
        let began = Instant::now();
        let changed = self.apply(changes).await?;
        self.pace.took(spent, worked + began.elapsed());
        Ok((changed, first))
    }

    /// Notes events, and writes what they change in namespaces with little to change.
    async fn note(&mut self, event: Option<Event>) -> Result<(), DaemonError> {
        let mut events: Vec<Event> = event.into_iter().collect();
        if let Some(kubernetes) = &mut self.kubernetes {
            events.extend(std::iter::from_fn(|| kubernetes.waiting()).take(EVENTS_MAX));
        }
        // Before the first sync the gates are closed anyway.
        if let Some(since) = events.iter().map(|e| e.arrived).min().filter(|_| self.core.borrow().is_read) {
            self.writer.await_changes(since);
        }
        let mends: Vec<Mend> = events.iter().filter_map(|e| e.mend).collect();
        let (events, arrivals): (Vec<_>, Vec<_>) = (events.into_iter())
            .filter_map(|e| {
                let arrival = (e.arrived, e.change.as_ref()?.namespace().map(Box::<str>::from));
                Some(((e.change?, e.share, e.arrived), arrival))
            })
            .unzip();
        let is_mended = !mends.is_empty();
        let note = move |world: &mut World| {
            for (change, _share, arrived) in events {
                world.note(change, arrived);
            }
            if is_mended {
                // While the view was not current the gates were closed; of what waits longer it is not yet.
                world.set_late();
            }
            world.is_complete()
        };
        let (changed, is_complete) = self.turn(Turn::Least, note).await?;
        self.yield_memory().await?;
        if let Some(kubernetes) = &self.kubernetes {
            mends.iter().for_each(|mend| kubernetes.health().mended(mend));
        }
        if !is_complete {
            return Ok(());
        }
        {
            let core = &mut *self.core.borrow_mut();
            // What waits is observed when it is written.
            let behind: HashSet<&str> = self.behind.iter().map(|behind| &*behind.namespace).collect();
            let is_written = |namespace: &Option<Box<str>>| !namespace.as_ref().is_some_and(|n| behind.contains(&**n));
            for (arrived, _) in arrivals.iter().filter(|(_, namespace)| is_written(namespace)) {
                core.status.programming.observe(arrived.elapsed().as_secs_f64());
            }
            core.is_read = true;
        }
        self.open_gates().await?;
        let is_first = !std::mem::replace(&mut self.core.borrow_mut().status.synced, true);
        let [first, last] =
            [arrivals.first(), arrivals.last()].map(|a| a.map_or(Duration::ZERO, |(at, _)| at.elapsed()));
        if is_first {
            let names = self.writer.reader().len();
            log::info!("Kubernetes: all is read: {names} names, {last:?} after the last list came");
        }
        log::debug!("Kubernetes: {changed} names changed by {} events, the first {first:?} ago", arrivals.len());
        Ok(())
    }

    /// Has a kind listed once more that is wanted, now and then.
    fn list_again(&mut self) {
        let Some(kind) = self.world.as_ref().and_then(World::wants_again) else { return };
        let is_due = self.listed_again.is_none_or(|at| at.elapsed() >= LIST_AGAIN);
        let Some(kubernetes) = self.kubernetes.as_ref().filter(|_| is_due) else { return };
        self.listed_again = Some(Instant::now());
        log::info!("Kubernetes: {} are listed anew: there is room for more of those that were not kept", kind.plural());
        kubernetes.again().ask(kind);
    }

    /// Works on the world in another thread, and then makes servers follow.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, DaemonError> {
        let Some(world) = self.world.take() else { unreachable!("it is given back below") };
        let work = |world: &mut World| {
            let result = work(world);
            (result, world.shares(), world.behind())
        };
        let (world, (result, shares, behind)) = world.work(work).await?;
        self.writer.add_behind(&behind);
        let waits: HashSet<&str> = behind.iter().map(|behind| &*behind.namespace).collect();
        let caught_up = self.behind.iter().filter(|before| !waits.contains(&*before.namespace));
        self.caught_up.extend(caught_up.filter_map(|before| before.since));
        self.behind = behind;
        {
            let core = &mut *self.core.borrow_mut();
            core.apply_servers(&self.config.dns_servers, &world);
            core.set_shares(shares);
        }
        self.world = Some(world);
        Ok(result)
    }

    /// Has changes of the maps made, in their order; returns how many there were.
    async fn apply(&mut self, changes: Vec<Change>) -> Result<usize, DaemonError> {
        let changed = self.writer.apply(changes).await?;
        self.writer.set_behind(self.behind.clone());
        {
            let core = &mut *self.core.borrow_mut();
            for since in self.caught_up.drain(..) {
                core.status.programming.observe(since.elapsed().as_secs_f64());
            }
            core.tell_of_shortage();
        }
        self.open_gates().await?;
        Ok(changed)
    }

    /// Lets answers come back that were held back, where nothing speaks against them any more.
    async fn open_gates(&self) -> Result<(), DaemonError> {
        let opens = self.core.borrow_mut().set_gates();
        if opens { self.writer.open().await } else { Ok(()) }
    }

    /// Serves metrics where the config says so now, and nowhere else.
    fn serve_http(&mut self) {
        self.http = self.config.metrics_addr.as_ref().map(|addr| Http::serve(addr, &self.core));
    }

    /// Begins to attach to `links` and to nothing else.
    fn attach(&mut self, links: Vec<Link>) {
        let core = &mut *self.core.borrow_mut();
        // In front of the programs; what is not told of takes frames to its own address only.
        let ports = links.iter().map(|l| (l.ifindex, l.accepts())).collect();
        if let Err(e) = core.datapath.set_ports(&ports) {
            log::error!("which frames interfaces take: {e}");
        }
        self.attacher.follow(Plan::new(&core.datapath, &links, self.started.direction));
        core.status.named = self.config.ifname.iter().all(|p| p.is_named());
        warn_of_open_responder(&self.config, &links);
        self.links = links;
        self.retry = None;
    }

    /// Takes note of what was attached; returns why other interfaces are not.
    fn attached(&mut self, outcome: Outcome, attached: Attached) -> Vec<AttachError> {
        let core = &mut *self.core.borrow_mut();
        for done in &outcome.done {
            log::log!(if done.is_warning() { log::Level::Warn } else { log::Level::Info }, "{done}");
        }
        core.attached = attached.places;
        core.status.attach_errors += outcome.errors.len() as u64;
        core.status.unattached = attached.unattached;
        if !outcome.errors.is_empty() {
            self.retry = Some(Instant::now() + ATTACH_RETRY);
        }
        outcome.errors
    }
}

fn say_of_retry(e: &AttachError) {
    log::error!("{e}; tried again in {} s", ATTACH_RETRY.as_secs());
}

/// The next event; never, where no cluster is watched. None where changes wait for their turn, which need none.
async fn next_event(kubernetes: &mut Option<Kubernetes>, is_behind: bool) -> Option<Event> {
    match kubernetes {
        _ if is_behind => None,
        Some(kubernetes) => Some(kubernetes.next().await),
        None => std::future::pending().await,
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, which is no error.
    if let Err(e) = sd_notify::notify(states) {
        log::debug!("sd_notify: {e}");
    }
}

/// Opens gates; where that fails, whoever writes next is told why.
async fn open(writer: Rc<Writer>) {
    if let Err(e) = writer.open().await {
        log::error!("{e}");
    }
}

/// Tells the programs that the daemon is there, and then systemd. Also closes gates, whatever else goes on.
async fn beat(core: Rc<RefCell<Core>>) {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let core = &mut *core.borrow_mut();
        match core.datapath.beat() {
            Ok(()) => {
                core.status.beat = Instant::now();
                notify(&[NotifyState::Watchdog]);
                if !core.status.has_synced() {
                    // The API server may be away for longer than a start may take.
                    notify(&[NotifyState::ExtendTimeoutUsec(START_EXTENSION.as_micros() as u32)]);
                }
            }
            // Programs pass everything then, and the watchdog ends us.
            Err(e) => log::error!("the heartbeat: {e}"),
        }
        core.set_gates();
        core.tell_of_shortage();
    }
}

fn warn_of_missing_parts(config: &Config) {
    let named = config.dns_servers.iter().any(|s| matches!(s, ServerSpec::Auto | ServerSpec::Service { .. }));
    if named && !config.enable_k8s {
        log::warn!("DnsServers: auto and namespace/name stand for no server without EnableK8S");
    }
}

/// Whoever reaches a physical interface is answered, also those who lie about who they are.
fn warn_of_open_responder(config: &Config, links: &[Link]) {
    let open = config.dns_servers.is_empty() || config.dns_servers.contains(&ServerSpec::Any);
    if config.direction != Direction::Ingress || !open {
        return;
    }
    for link in links.iter().filter(|l| l.outside || l.uplink == Uplink::Yes) {
        log::warn!(
            "{}: Ingress on a physical interface without DnsServers answers everybody who can reach it, and spoofed queries \
             too: name your DNS servers in DnsServers",
            link.name
        );
    }
}
