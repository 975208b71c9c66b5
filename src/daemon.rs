//! The daemon: its start, its event loop and its end.
//!
//! One thread runs the event loop, the heartbeat, the commands and the metrics. Code that blocks it also delays the heartbeat,
//! and without heartbeats the programs stop answering. So parsing files, work on the zone, writing maps and attaching run in
//! other threads. Only loading a variant of the program, at its first use, blocks this thread.

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
use self::zones::Zones;
use crate::config::Config;
use crate::datapath::BEAT;
use crate::datapath::attach::{AttachError, AttachPlan, AttachReport, Hook};
use crate::interfaces::{InterfaceError, Interfaces, Link};
use crate::privileges;
use crate::source::file::{FileChange, FileWatcher};
use crate::source::kubernetes::{Kubernetes, Recovery, Update};
use crate::zone::change::Change;
use crate::zone::cluster::{Take, WaitingNamespace};
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Maximum of cluster updates that are applied together.
const UPDATES_MAX: usize = 10_000;
/// Minimum interval of relists that get objects which were not kept before.
const RELIST_INTERVAL: Duration = Duration::from_secs(60);
/// Delay of the next attempt after attaching to an interface failed.
const ATTACH_RETRY: Duration = Duration::from_secs(5);
/// Delay of the next accept(2) after one failed, such as for too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Runs the daemon until SIGTERM or SIGINT. `config` is the path of the config file.
///
/// # Errors
/// Before the daemon is ready: any error that keeps it from starting. Later: only if interfaces can't be watched any more, or a
/// thread has panicked.
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
    // Does not wait for work on the zone, which has no effect any more.
    runtime.shutdown_background();
    result
}

struct Daemon {
    path: PathBuf,
    config: Config,
    /// The config at start. Keys that need a restart keep its values.
    initial_config: Config,
    /// Whether the domain file existed at the last reload.
    has_names: bool,
    state: Rc<RefCell<DaemonState>>,
    writer: Rc<Writer>,
    /// None while another thread works on it.
    zones: Option<Zones>,
    kubernetes: Option<Kubernetes>,
    /// Namespaces with changes that wait for a commit.
    behind: Vec<WaitingNamespace>,
    pace: Pace,
    /// Arrival times of changes that waited for a commit and were committed. The histogram counts them when they are written.
    caught_up: Vec<std::time::Instant>,
    /// When a relist for objects that were not kept was last requested.
    last_relist: Option<Instant>,
    http: Option<Http>,
    hook: Hook,
    attacher: Attacher,
    /// Interfaces to attach to.
    links: Vec<Link>,
    interfaces: Interfaces,
    files: FileWatcher,
    hangup: Signal,
    /// When to try again to attach to interfaces for which it failed.
    retry: Option<Instant>,
}

/// The signals that end the daemon.
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
        let mut gate_ticks = interval(BEAT);
        gate_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.kubernetes.is_some() {
            log::info!("Kubernetes: waiting for the initial sync; static names are answered meanwhile");
        }
        loop {
            if !is_ready && self.state.borrow().status.is_sync_done() {
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
                        // One request failed; `interfaces` repeats it.
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
                _ = gate_ticks.tick() => {
                    self.writer.check()?;
                    self.relist_if_due();
                    if self.state.borrow_mut().set_gates() && !self.writer.is_opening() {
                        spawn_local(open(Rc::clone(&self.writer)));
                    }
                    continue;
                }
                done = self.attacher.done() => {
                    let (report, attached) = done?;
                    self.attached(report, attached).iter().for_each(log_retry);
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
            // A second signal skips the cleanup.
            () = signals.wait() => {}
            () = self.remove_stale_filters() => {}
        }
        Ok(())
    }

    /// Removes tc filters that killed daemons of this config left.
    async fn remove_stale_filters(&self) {
        match self.hook.remove_stale_filters(&self.interfaces).await {
            Ok(0) => {}
            Ok(n) => log::info!("removed {n} stale tc filters"),
            Err(e) => log::warn!("removing stale tc filters: {e}"),
        }
    }

    /// Replaces all static names by `nodes`. Returns the number of changed names.
    async fn set_statics(&mut self, nodes: Vec<(Name, Node)>) -> Result<usize, DaemonError> {
        let config = self.config.clone();
        let changes = self.work(move |zones| zones.set_statics(nodes, &config)).await?;
        let changed = self.apply(changes).await?;
        self.withhold_for_memory().await?;
        Ok(changed)
    }

    /// If the kernel refused memory for the maps, withholds names of the namespaces that use most.
    async fn withhold_for_memory(&mut self) -> Result<(), DaemonError> {
        let Some(units) = self.state.borrow_mut().take_memory_limit() else { return Ok(()) };
        let changes = self.work(move |zones| zones.limit_memory(units)).await?;
        self.apply(changes).await?;
        Ok(())
    }

    /// Applies this update and those that are queued. If namespaces still wait, then takes a turn for the one that has waited
    /// longest: its changes are expensive, so while others arrive it would wait forever.
    async fn cluster_changed(&mut self, update: Option<Update>) -> Result<(), DaemonError> {
        self.apply_updates(update).await?;
        if self.behind.is_empty() {
            return Ok(());
        }
        // One turn only, so that updates that arrive meanwhile wait no longer than that.
        self.turn(Take::Oldest, |_| ()).await?;
        self.withhold_for_memory().await
    }

    /// Runs `first`, commits some of the waiting changes and writes them. `take` chooses them, and gets the maximum of work. Returns
    /// the number of changed names, and the result of `first`.
    async fn turn<T: Send + 'static>(
        &mut self,
        take: fn(usize) -> Take,
        first: impl FnOnce(&mut Zones) -> T + Send + 'static,
    ) -> Result<(usize, T), DaemonError> {
        let work_max = self.pace.work();
        let work = move |zones: &mut Zones| {
            let first = first(zones);
            let began = Instant::now();
            let changes = zones.commit(take(work_max));
            (first, changes, zones.spent(), began.elapsed())
        };
        let (first, changes, spent, worked) = self.work(work).await?;
        let began = Instant::now();
        let changed = self.apply(changes).await?;
        self.pace.adapt(spent, worked + began.elapsed());
        Ok((changed, first))
    }

    /// Applies this update and those that are queued, and writes the changes of the namespaces with the least work.
    async fn apply_updates(&mut self, update: Option<Update>) -> Result<(), DaemonError> {
        let mut updates: Vec<Update> = update.into_iter().collect();
        if let Some(kubernetes) = &mut self.kubernetes {
            updates.extend(std::iter::from_fn(|| kubernetes.try_next()).take(UPDATES_MAX));
        }
        // Before the initial sync the gates are closed anyway.
        if let Some(since) = updates.iter().map(|u| u.arrived).min().filter(|_| self.state.borrow().is_cluster_written)
        {
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
        let apply = move |zones: &mut Zones| {
            for (delta, _permit, arrived) in deltas {
                zones.apply_delta(delta, arrived);
            }
            if is_recovered {
                // The gates that the stale view closed are about to open. Changes that still wait may be as old as the outage, so
                // they count as late and keep the gates of their namespaces closed.
                zones.set_late();
            }
            zones.is_complete()
        };
        let (changed, is_complete) = self.turn(Take::Least, apply).await?;
        self.withhold_for_memory().await?;
        if let Some(kubernetes) = &self.kubernetes {
            recoveries.iter().for_each(|recovery| kubernetes.health().recovered(recovery));
        }
        if !is_complete {
            return Ok(());
        }
        {
            let state = &mut *self.state.borrow_mut();
            // Changes that still wait are observed once they are written.
            let behind: HashSet<&str> = self.behind.iter().map(|behind| &*behind.namespace).collect();
            let is_written = |namespace: &Option<Box<str>>| !namespace.as_ref().is_some_and(|n| behind.contains(&**n));
            for (arrived, _) in arrivals.iter().filter(|(_, namespace)| is_written(namespace)) {
                state.status.programming.observe(arrived.elapsed().as_secs_f64());
            }
            state.is_cluster_written = true;
        }
        self.open_gates().await?;
        let is_first = !std::mem::replace(&mut self.state.borrow_mut().status.gates_opened, true);
        let [first, last] =
            [arrivals.first(), arrivals.last()].map(|a| a.map_or(Duration::ZERO, |(at, _)| at.elapsed()));
        if is_first {
            let names = self.writer.reader().len();
            log::info!("Kubernetes: initial sync done: {names} names, {last:?} after the last list");
        }
        log::debug!("Kubernetes: {changed} names changed by {} events, the first {first:?} ago", arrivals.len());
        Ok(())
    }

    /// Requests a relist of a kind of which some objects were not kept and fit now, once a minute at most.
    fn relist_if_due(&mut self) {
        let Some(kind) = self.zones.as_ref().and_then(Zones::wants_relist) else { return };
        let is_due = self.last_relist.is_none_or(|at| at.elapsed() >= RELIST_INTERVAL);
        let Some(kubernetes) = self.kubernetes.as_ref().filter(|_| is_due) else { return };
        self.last_relist = Some(Instant::now());
        log::info!("Kubernetes: relisting {}: objects that were not kept may fit now", kind.plural());
        kubernetes.relist().request(kind);
    }

    /// Runs `work` on the zones in another thread. Then updates the servers in the maps, which may have changed with the zones.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Zones) -> T + Send + 'static,
    ) -> Result<T, DaemonError> {
        let Some(zones) = self.zones.take() else { unreachable!("put back below") };
        let work = |zones: &mut Zones| {
            let result = work(zones);
            (result, zones.shares(), zones.behind())
        };
        let (zones, (result, shares, behind)) = zones.work(work).await?;
        self.writer.add_behind(&behind);
        let waiting: HashSet<&str> = behind.iter().map(|behind| &*behind.namespace).collect();
        let caught_up = self.behind.iter().filter(|before| !waiting.contains(&*before.namespace));
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

    /// Writes these changes to the maps, in order. Returns the number of changed names.
    async fn apply(&mut self, changes: Vec<Change>) -> Result<usize, DaemonError> {
        let changed = self.writer.apply(changes).await?;
        self.writer.set_behind(self.behind.clone());
        {
            let state = &mut *self.state.borrow_mut();
            for since in self.caught_up.drain(..) {
                state.status.programming.observe(since.elapsed().as_secs_f64());
            }
            state.log_shortage();
        }
        self.open_gates().await?;
        Ok(changed)
    }

    /// Opens the gates that no fact keeps closed.
    async fn open_gates(&self) -> Result<(), DaemonError> {
        let opens = self.state.borrow_mut().set_gates();
        if opens { self.writer.open().await } else { Ok(()) }
    }

    /// Serves metrics at the address of the current config only.
    fn serve_http(&mut self) {
        self.http = self.config.metrics_addr.as_ref().map(|addr| Http::serve(addr, &self.state));
    }

    /// Begins to attach to `links`, and to detach from all other interfaces.
    fn attach(&mut self, links: Vec<Link>) {
        let state = &mut *self.state.borrow_mut();
        // Before the program is attached. Interfaces without an entry accept frames to their own MAC address only.
        let ports = links.iter().map(|l| (l.ifindex, l.accepts())).collect();
        if let Err(e) = state.datapath.set_accepted_macs(&ports) {
            log::error!("setting the MAC addresses that interfaces accept: {e}");
        }
        self.attacher.follow(AttachPlan::new(&state.datapath, &links, self.initial_config.direction));
        state.status.all_required = self.config.ifname.iter().all(|p| p.must_exist());
        warn_of_open_responder(&self.config, self.initial_config.direction, &links);
        self.links = links;
        self.retry = None;
    }

    /// Records and logs what was attached. Returns the errors of other interfaces.
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

fn log_retry(e: &AttachError) {
    log::error!("{e}; retrying in {} s", ATTACH_RETRY.as_secs());
}

/// Waits for the next update; forever without `EnableK8S`. None at once if changes wait for a commit.
async fn next_event(kubernetes: &mut Option<Kubernetes>, is_behind: bool) -> Option<Update> {
    match kubernetes {
        _ if is_behind => None,
        Some(kubernetes) => Some(kubernetes.next().await),
        None => std::future::pending().await,
    }
}

/// Opens gates. An error is only logged: the next write fails with it, too.
async fn open(writer: Rc<Writer>) {
    if let Err(e) = writer.open().await {
        log::error!("{e}");
    }
}
