//! Puts the parts together: what happens at start, what then makes it act, and how it ends.
//!
//! Everything but the reading of files, the work on the zone, the writing of the maps and the attaching runs in one thread:
//! whoever holds it up also holds up the heartbeat, and with that the kernel's programs stop answering.

mod attacher;
mod commands;
mod error;
mod gates;
mod heap;
mod heartbeat;
mod http;
mod load;
mod pace;
mod reload;
mod shortage;
mod staleness;
mod start;
mod state;
mod status;
mod trace;
mod waiting;
mod writer;
mod zones;

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::attacher::{Attached, Attacher};
pub use self::error::DaemonError;
use self::heartbeat::notify;
use self::http::Http;
use self::pace::Pace;
use self::start::warn_of_open_responder;
use self::state::DaemonState;
use self::writer::Writer;
use self::zones::{Turn, Zones};
use crate::config::Config;
use crate::datapath::BEAT;
use crate::datapath::attach::{AttachError, AttachPlan, AttachReport, Hook};
use crate::interfaces::{InterfaceError, Interfaces, Link};
use crate::privileges;
use crate::source::file::{FileChange, FileWatcher};
use crate::source::kubernetes::{Kubernetes, Recovery, Update};
use crate::zone::change::Change;
use crate::zone::cluster::Behind;
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Events of the cluster that are applied together.
const EVENTS_MAX: usize = 10_000;
/// Between lists by which objects come back that were not kept.
const LIST_AGAIN: Duration = Duration::from_secs(60);
/// An interface that could not be attached is tried again after this.
const ATTACH_RETRY: Duration = Duration::from_secs(5);

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
    state: Rc<RefCell<DaemonState>>,
    writer: Rc<Writer>,
    /// None while it is worked on elsewhere.
    zones: Option<Zones>,
    kubernetes: Option<Kubernetes>,
    /// Namespaces with changes that wait for their turn.
    behind: Vec<Behind>,
    pace: Pace,
    /// Arrivals of changes that waited for their turn and are about to be written.
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
    async fn serve(mut self, mut signals: EndSignals) -> Result<(), DaemonError> {
        let mut is_ready = false;
        let mut gates = interval(BEAT);
        gates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.kubernetes.is_some() {
            log::info!("Kubernetes: waiting for the initial sync; static names are answered meanwhile");
        }
        loop {
            if !is_ready && self.state.borrow().status.has_synced() {
                is_ready = true;
                log::info!("ready");
                notify(&[NotifyState::Ready]);
            }
            let why = tokio::select! {
                () = signals.wait() => break,
                _ = self.hangup.recv() => {
                    self.files.confirm();
                    continue;
                }
                change = self.files.changed() => {
                    self.state.borrow_mut().status.held = self.files.held();
                    match change {
                        FileChange::Texts { is_confirmed: true } => "SIGHUP",
                        FileChange::Texts { is_confirmed: false } => "a changed file",
                        FileChange::Held => continue,
                    }
                }
                links = self.interfaces.changed() => {
                    match links {
                        Ok(links) => self.attach(links),
                        Err(e @ InterfaceError::Ended) => return Err(e.into()),
                        // Of one request; interfaces() asks again.
                        Err(e) => log::warn!("{e}; retrying"),
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
                    if self.state.borrow_mut().set_gates() && !self.writer.is_opening() {
                        spawn_local(open(Rc::clone(&self.writer)));
                    }
                    continue;
                }
                done = self.attacher.done() => {
                    let (report, attached) = done?;
                    self.attached(report, attached).iter().for_each(say_of_retry);
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
            () = self.remove_stale_filters() => {}
        }
        Ok(())
    }

    /// Takes away what daemons of this config left that were killed.
    async fn remove_stale_filters(&self) {
        match self.hook.remove_stale_filters(&self.interfaces).await {
            Ok(0) => {}
            Ok(n) => log::info!("removed {n} stale tc filters"),
            Err(e) => log::warn!("removing stale tc filters: {e}"),
        }
    }

    /// Makes `nodes` all static names; returns how many changed.
    async fn set_statics(&mut self, nodes: Vec<(Name, Node)>) -> Result<usize, DaemonError> {
        let config = self.config.clone();
        let changes = self.work(move |zones| zones.set_statics(nodes, &config)).await?;
        let changed = self.apply(changes).await?;
        self.yield_memory().await?;
        Ok(changed)
    }

    /// Where the kernel gives no more memory for the maps, those who have most of it give way.
    async fn yield_memory(&mut self) -> Result<(), DaemonError> {
        let Some(units) = self.state.borrow_mut().memory_left() else { return Ok(()) };
        let changes = self.work(move |zones| zones.limit(units)).await?;
        self.apply(changes).await?;
        Ok(())
    }

    /// Applies this change of the cluster and those that wait behind it. Then writes some changes of a namespace whose changes are
    /// expensive, if there is one: it is its turn.
    async fn cluster_changed(&mut self, update: Option<Update>) -> Result<(), DaemonError> {
        self.apply_updates(update).await?;
        if self.behind.is_empty() {
            return Ok(());
        }
        // Updates that arrive meanwhile wait for this turn only.
        self.turn(Turn::Oldest, |_| ()).await?;
        self.yield_memory().await
    }

    /// Commits some of the changes, after `first`, and writes them. Returns the number of names that changed, and the result of
    /// `first`.
    async fn turn<T: Send + 'static>(
        &mut self,
        turn: Turn,
        first: impl FnOnce(&mut Zones) -> T + Send + 'static,
    ) -> Result<(usize, T), DaemonError> {
        let most = self.pace.work();
        let work = move |zones: &mut Zones| {
            let first = first(zones);
            let began = Instant::now();
            let changes = zones.commit(turn, most);
            (first, changes, zones.spent(), began.elapsed())
        };
        let (first, changes, spent, worked) = self.work(work).await?;
        let began = Instant::now();
        let changed = self.apply(changes).await?;
        self.pace.took(spent, worked + began.elapsed());
        Ok((changed, first))
    }

    /// Applies updates, and writes what they change in namespaces with little to change.
    async fn apply_updates(&mut self, update: Option<Update>) -> Result<(), DaemonError> {
        let mut updates: Vec<Update> = update.into_iter().collect();
        if let Some(kubernetes) = &mut self.kubernetes {
            updates.extend(std::iter::from_fn(|| kubernetes.try_next()).take(EVENTS_MAX));
        }
        // Before the first sync the gates are closed anyway.
        if let Some(since) = updates.iter().map(|u| u.arrived).min().filter(|_| self.state.borrow().is_read) {
            self.writer.await_changes(since);
        }
        let recoveries: Vec<Recovery> = updates.iter().filter_map(|u| u.recovery).collect();
        let (deltas, arrivals): (Vec<_>, Vec<_>) = (updates.into_iter())
            .filter_map(|u| {
                let arrival = (u.arrived, u.delta.as_ref()?.namespace().map(Box::<str>::from));
                Some(((u.delta?, u.permit, u.arrived), arrival))
            })
            .unzip();
        let is_recovered = !recoveries.is_empty();
        let note = move |zones: &mut Zones| {
            for (delta, _permit, arrived) in deltas {
                zones.apply_delta(delta, arrived);
            }
            if is_recovered {
                // The gates that a stale view closed are about to open, but changes that have waited longer are not written yet.
                zones.set_late();
            }
            zones.is_complete()
        };
        let (changed, is_complete) = self.turn(Turn::Least, note).await?;
        self.yield_memory().await?;
        if let Some(kubernetes) = &self.kubernetes {
            recoveries.iter().for_each(|recovery| kubernetes.health().recovered(recovery));
        }
        if !is_complete {
            return Ok(());
        }
        {
            let state = &mut *self.state.borrow_mut();
            // Changes that wait are observed when they are written.
            let behind: HashSet<&str> = self.behind.iter().map(|behind| &*behind.namespace).collect();
            let is_written = |namespace: &Option<Box<str>>| !namespace.as_ref().is_some_and(|n| behind.contains(&**n));
            for (arrived, _) in arrivals.iter().filter(|(_, namespace)| is_written(namespace)) {
                state.status.programming.observe(arrived.elapsed().as_secs_f64());
            }
            state.is_read = true;
        }
        self.open_gates().await?;
        let is_first = !std::mem::replace(&mut self.state.borrow_mut().status.synced, true);
        let [first, last] =
            [arrivals.first(), arrivals.last()].map(|a| a.map_or(Duration::ZERO, |(at, _)| at.elapsed()));
        if is_first {
            let names = self.writer.reader().len();
            log::info!("Kubernetes: initial sync done: {names} names, {last:?} after the last list");
        }
        log::debug!("Kubernetes: {changed} names changed by {} events, the first {first:?} ago", arrivals.len());
        Ok(())
    }

    /// Has a kind listed once more that is wanted, now and then.
    fn list_again(&mut self) {
        let Some(kind) = self.zones.as_ref().and_then(Zones::wants_again) else { return };
        let is_due = self.listed_again.is_none_or(|at| at.elapsed() >= LIST_AGAIN);
        let Some(kubernetes) = self.kubernetes.as_ref().filter(|_| is_due) else { return };
        self.listed_again = Some(Instant::now());
        log::info!("Kubernetes: relisting {}: there is room again for objects that were not kept", kind.plural());
        kubernetes.relist().request(kind);
    }

    /// Works on the world in another thread, and then makes servers follow.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Zones) -> T + Send + 'static,
    ) -> Result<T, DaemonError> {
        let Some(zones) = self.zones.take() else { unreachable!("it is given back below") };
        let work = |zones: &mut Zones| {
            let result = work(zones);
            (result, zones.shares(), zones.behind())
        };
        let (zones, (result, shares, behind)) = zones.work(work).await?;
        self.writer.add_behind(&behind);
        let waits: HashSet<&str> = behind.iter().map(|behind| &*behind.namespace).collect();
        let caught_up = self.behind.iter().filter(|before| !waits.contains(&*before.namespace));
        self.caught_up.extend(caught_up.filter_map(|before| before.since));
        self.behind = behind;
        {
            let state = &mut *self.state.borrow_mut();
            state.apply_servers(&self.config.dns_servers, &zones);
            state.set_shares(shares);
        }
        self.zones = Some(zones);
        Ok(result)
    }

    /// Has changes of the maps made, in their order; returns how many there were.
    async fn apply(&mut self, changes: Vec<Change>) -> Result<usize, DaemonError> {
        let changed = self.writer.apply(changes).await?;
        self.writer.set_behind(self.behind.clone());
        {
            let state = &mut *self.state.borrow_mut();
            for since in self.caught_up.drain(..) {
                state.status.programming.observe(since.elapsed().as_secs_f64());
            }
            state.tell_of_shortage();
        }
        self.open_gates().await?;
        Ok(changed)
    }

    /// Lets answers come back that were held back, where nothing speaks against them any more.
    async fn open_gates(&self) -> Result<(), DaemonError> {
        let opens = self.state.borrow_mut().set_gates();
        if opens { self.writer.open().await } else { Ok(()) }
    }

    /// Serves metrics where the config says so now, and nowhere else.
    fn serve_http(&mut self) {
        self.http = self.config.metrics_addr.as_ref().map(|addr| Http::serve(addr, &self.state));
    }

    /// Begins to attach to `links` and to nothing else.
    fn attach(&mut self, links: Vec<Link>) {
        let state = &mut *self.state.borrow_mut();
        // In front of the programs; what is not told of takes frames to its own address only.
        let ports = links.iter().map(|l| (l.ifindex, l.accepts())).collect();
        if let Err(e) = state.datapath.set_ports(&ports) {
            log::error!("setting the MAC addresses that interfaces accept: {e}");
        }
        self.attacher.follow(AttachPlan::new(&state.datapath, &links, self.started.direction));
        state.status.named = self.config.ifname.iter().all(|p| p.is_named());
        warn_of_open_responder(&self.config, &links);
        self.links = links;
        self.retry = None;
    }

    /// Takes note of what was attached; returns why other interfaces are not.
    fn attached(&mut self, report: AttachReport, attached: Attached) -> Vec<AttachError> {
        let state = &mut *self.state.borrow_mut();
        for done in &report.changes {
            log::log!(if done.is_warning() { log::Level::Warn } else { log::Level::Info }, "{done}");
        }
        state.attached = attached.places;
        state.status.attach_errors += report.errors.len() as u64;
        state.status.unattached = attached.unattached;
        if !report.errors.is_empty() {
            self.retry = Some(Instant::now() + ATTACH_RETRY);
        }
        report.errors
    }
}

fn say_of_retry(e: &AttachError) {
    log::error!("{e}; retrying in {} s", ATTACH_RETRY.as_secs());
}

/// The next update; never, if no cluster is watched. None if changes wait for their turn, which need no update.
async fn next_event(kubernetes: &mut Option<Kubernetes>, is_behind: bool) -> Option<Update> {
    match kubernetes {
        _ if is_behind => None,
        Some(kubernetes) => Some(kubernetes.next().await),
        None => std::future::pending().await,
    }
}

/// Opens gates; where that fails, whoever writes next is told why.
async fn open(writer: Rc<Writer>) {
    if let Err(e) = writer.open().await {
        log::error!("{e}");
    }
}
