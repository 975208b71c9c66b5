//! Writes the maps, in a thread of its own: the kernel may let it wait for programs for as long as it likes, and neither the
//! heartbeat nor a command waits with it.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::DaemonError;
use super::gates::{Gates, Numbers};
use super::heap;
use super::waiting::Waiting;
use crate::datapath::{BEAT, Reader, Reason, Refused, Table};
use crate::zone::change::Change;
use crate::zone::cluster::Behind;

/// So many changes are worth it to give back to the kernel what they took.
const MANY: usize = 1_000;

/// What the thread is asked for, and where it says that it is done.
enum Job {
    Apply(Vec<Change>, oneshot::Sender<usize>),
    Open(oneshot::Sender<()>),
}

/// How many names have no place in the maps, by [`Reason`].
type Counts = [AtomicUsize; Reason::ALL.len()];

/// The thread's other end. Dropping it ends the thread after what it was asked for.
pub(super) struct Writer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
    reader: Reader,
    refused: Arc<Counts>,
    waiting: Waiting,
    opens: Cell<bool>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(table: Table, gates: Arc<Gates>) -> io::Result<Self> {
        let (jobs, received) = channel();
        let (reader, refused) = (table.reader().clone(), Arc::new(Counts::default()));
        let maps = Maps { table, gates, refused: Refused::default(), counts: Arc::clone(&refused) };
        let thread = thread::Builder::new().name("maps".into()).spawn(move || maps.serve(&received))?;
        Ok(Self { jobs, thread, reader, refused, waiting: Waiting::default(), opens: Cell::new(false) })
    }

    /// Takes note that changes have waited since then, which [`Self::apply`] will be given: working them out may take long, too.
    pub(super) fn await_changes(&self, since: Instant) {
        self.waiting.await_changes(since);
    }

    /// Changes of these namespaces wait, too, and are not among those of the next [`Self::apply`].
    pub(super) fn add_behind(&self, behind: &[Behind]) {
        self.waiting.add_behind(behind);
    }

    /// All changes are written except those of these namespaces.
    pub(super) fn set_behind(&self, behind: Vec<Behind>) {
        self.waiting.set_behind(behind);
    }

    /// Namespaces whose changes have waited too long to be written, and the gates that this closes.
    pub(super) fn late_namespaces(&self) -> (Vec<Box<str>>, Numbers) {
        self.waiting.late_namespaces()
    }

    /// Makes changes of the maps, in their order; returns how many there were. A name that stays is there at every moment.
    ///
    /// # Errors
    /// Where the thread is no more.
    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<usize, DaemonError> {
        self.waiting.begin();
        let changed = self.ask(|reply| Job::Apply(changes, reply)).await;
        self.waiting.end();
        changed
    }

    /// Opens the gates that are to be opened, once all is written that was handed over before.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(super) async fn open(&self) -> Result<(), DaemonError> {
        self.opens.set(true);
        let opened = self.ask(Job::Open).await;
        self.opens.set(false);
        opened
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, DaemonError> {
        let (reply, replied) = oneshot::channel();
        self.jobs.send(job(reply)).map_err(|_| gone())?;
        replied.await.map_err(|_| gone())
    }

    /// Whether the thread is there, without which there is nothing left to do.
    ///
    /// # Errors
    /// Where it is not.
    pub(super) fn check(&self) -> Result<(), DaemonError> {
        if self.thread.is_finished() { Err(gone()) } else { Ok(()) }
    }

    /// Whether changes have waited for too long to be written.
    pub(super) fn is_late(&self) -> bool {
        self.waiting.is_late()
    }

    /// Whether it is about to open gates.
    pub(super) const fn is_opening(&self) -> bool {
        self.opens.get()
    }

    /// Reads the maps, while they are written.
    pub(super) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// How many names have no place in the maps for this reason.
    pub(super) fn refused(&self, reason: Reason) -> usize {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }
}

/// It ends by a panic only, which it has told of.
fn gone() -> DaemonError {
    DaemonError::System("writing the maps", io::ErrorKind::BrokenPipe.into())
}

/// The thread's own.
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
                    // Names that found no slot for their hash are tried again when the index may take another key.
                    if self.table.takes_refused() {
                        self.apply(&[]);
                    }
                    let in_order = self.table.is_in_order() || self.table.settle();
                    self.gates.set(|facts| facts.in_order = in_order);
                }
                Ok(Job::Apply(changes, reply)) => {
                    let changed = self.apply(&changes);
                    // Who asked may be gone.
                    let _ = reply.send(changed);
                    if changes.len() > MANY {
                        drop(changes);
                        heap::trim();
                    }
                }
                Ok(Job::Open(reply)) => {
                    let ticket = self.gates.ticket();
                    // A program that looked for a name before it was put must not find the gate open afterwards.
                    if self.table.settle() {
                        self.gates.open(&ticket);
                    }
                    let _ = reply.send(());
                }
            }
        }
    }

    /// Makes changes, in order; returns how many there were. What has no place passes.
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
        log::debug!("{changed} names changed in the maps in {:?}, with {waits} waits for programs", began.elapsed());
        changed
    }
}
