//! Writes the table, in its own thread: the wait for a grace period has no upper limit, and the heartbeat and commands must not
//! wait with it.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::DaemonError;
use super::gates::{GateSet, Gates};
use super::heap;
use super::waiting::Waiting;
use crate::datapath::{BEAT, Reader, Reason, Refused, Table};
use crate::source::kubernetes::WaitingUpdates;
use crate::zone::change::Change;
use crate::zone::cluster::WaitingNamespace;

/// After at least this many changes, free memory is returned to the kernel.
const TRIM_MIN: usize = 1_000;

/// A request to the thread, with the channel for its reply.
enum Job {
    Apply(Vec<Change>, oneshot::Sender<usize>),
    Open(oneshot::Sender<()>),
}

/// Number of names without a place in the maps, by [`Reason`].
type Counts = [AtomicUsize; Reason::ALL.len()];

/// Handle of the thread. Dropping it ends the thread after the requests that were sent.
pub(super) struct Writer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
    reader: Reader,
    refused: Arc<Counts>,
    waiting: Waiting,
    is_opening: Cell<bool>,
}

impl Writer {
    /// Starts the thread that writes the maps.
    ///
    /// # Errors
    /// If the thread can't be created.
    pub(super) fn start(table: Table, gates: Arc<Gates>, updates: WaitingUpdates) -> io::Result<Self> {
        let (jobs, received) = channel();
        let (reader, refused) = (table.reader().clone(), Arc::new(Counts::default()));
        let maps = Maps { table, gates, refused: Refused::default(), counts: Arc::clone(&refused) };
        let thread = thread::Builder::new().name("maps".into()).spawn(move || maps.serve(&received))?;
        Ok(Self { jobs, thread, reader, refused, waiting: Waiting::new(updates), is_opening: Cell::new(false) })
    }

    /// Records that changes have waited since then. They will be passed to [`Self::apply`]; computing them counts as waiting.
    pub(super) fn await_changes(&self, since: Instant) {
        self.waiting.await_changes(since);
    }

    /// Adds namespaces with changes that wait for a commit: the next [`Self::apply`] does not write these.
    pub(super) fn add_behind(&self, behind: &[WaitingNamespace]) {
        self.waiting.add_behind(behind);
    }

    /// Replaces the namespaces whose changes wait for a commit. The changes of all other namespaces are written.
    pub(super) fn set_behind(&self, behind: Vec<WaitingNamespace>) {
        self.waiting.set_behind(behind);
    }

    /// Namespaces whose changes are late, and the gates to close for that.
    pub(super) fn late_namespaces(&self) -> (Vec<Box<str>>, GateSet) {
        self.waiting.late_namespaces()
    }

    /// Writes these changes to the maps, in order. Returns the number of changed names. Names that stay are answered at every
    /// moment.
    ///
    /// # Errors
    /// If the thread has exited.
    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<usize, DaemonError> {
        self.waiting.begin();
        let changed = self.ask(|reply| Job::Apply(changes, reply)).await;
        self.waiting.end();
        changed
    }

    /// Opens the gates that no fact keeps closed, after the requests that were sent before.
    ///
    /// # Errors
    /// If the thread has exited.
    pub(super) async fn open(&self) -> Result<(), DaemonError> {
        self.is_opening.set(true);
        let opened = self.ask(Job::Open).await;
        self.is_opening.set(false);
        opened
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, DaemonError> {
        let (reply, replied) = oneshot::channel();
        self.jobs.send(job(reply)).map_err(|_| exited())?;
        replied.await.map_err(|_| exited())
    }

    /// Checks that the thread runs.
    ///
    /// # Errors
    /// If the thread has exited, after which the daemon can only end.
    pub(super) fn check(&self) -> Result<(), DaemonError> {
        if self.thread.is_finished() { Err(exited()) } else { Ok(()) }
    }

    /// Whether changes are late: they have waited longer than [`super::waiting::LATE`].
    pub(super) fn is_late(&self) -> bool {
        self.waiting.is_late()
    }

    /// Whether updates that the daemon has not applied to the zone yet are late.
    pub(super) fn has_late_updates(&self) -> bool {
        self.waiting.has_late_updates()
    }

    /// Whether [`Self::open`] is waiting for the thread.
    pub(super) const fn is_opening(&self) -> bool {
        self.is_opening.get()
    }

    /// A reader of the maps, which does not wait for the thread.
    pub(super) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Number of names that the table has refused for this reason.
    pub(super) fn refused(&self, reason: Reason) -> usize {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }
}

/// The thread has exited. Only a panic ends it before its handle is dropped, and the log has its message.
fn exited() -> DaemonError {
    DaemonError::System("writing the maps", io::ErrorKind::BrokenPipe.into())
}

/// State of the thread.
struct Maps {
    table: Table,
    gates: Arc<Gates>,
    refused: Refused,
    counts: Arc<Counts>,
}

impl Maps {
    fn serve(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(BEAT) {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    // The index may change its hash key now; then names that found no slot for their hash may fit.
                    if self.table.take_retry() {
                        self.apply(&[]);
                    }
                    let in_order = self.table.is_in_order() || self.table.settle();
                    self.gates.set(|facts| facts.in_order = in_order);
                }
                Ok(Job::Apply(changes, reply)) => {
                    let changed = self.apply(&changes);
                    // Fails only if the event loop has ended.
                    let _ = reply.send(changed);
                    if changes.len() > TRIM_MIN {
                        drop(changes);
                        heap::trim();
                    }
                }
                Ok(Job::Open(reply)) => {
                    let ticket = self.gates.ticket();
                    // A program that searched for a name before it was written must not see an open gate afterwards.
                    if self.table.settle() {
                        self.gates.open(&ticket);
                    }
                    let _ = reply.send(());
                }
            }
        }
    }

    /// Writes these changes, in order. Returns the number of changed names. Names without a place in the maps are not answered.
    fn apply(&mut self, changes: &[Change]) -> usize {
        let Self { table, refused, .. } = self;
        let (began, waits) = (Instant::now(), table.waits());
        let changed = table.batch(changes, |table, change| refused.apply(table, change));
        refused.settle(table);
        self.gates.set(|facts| facts.in_order = table.is_in_order());
        for (reason, count) in Reason::ALL.into_iter().zip(&*self.counts) {
            count.store(refused.count(reason), Ordering::Relaxed);
        }
        let waits = table.waits() - waits;
        log::debug!("{changed} names changed in the maps in {:?}, with {waits} grace periods", began.elapsed());
        changed
    }
}
