//! Writes the maps, in a thread of its own: the kernel may let it wait for programs for as long as it likes, and neither the
//! heartbeat nor a command waits with it.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::gates::Gates;
use super::{BEAT, DaemonError};
use crate::datapath::{Put, Reader, Table};
use crate::zone::change::{self, Change};
use crate::zone::name::Name;
use crate::zone::node::Node;

/// What the thread is asked for, and where it says that it is done.
enum Job {
    Apply(Vec<Change>, oneshot::Sender<usize>),
    Open(oneshot::Sender<()>),
}

/// The thread's other end. Dropping it ends the thread after what it was asked for.
pub(super) struct Writer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
    reader: Reader,
    refused: Arc<AtomicUsize>,
    /// When the changes were handed over that are not written yet.
    since: Cell<Option<Instant>>,
    opens: Cell<bool>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(table: Table, gates: Arc<Gates>) -> io::Result<Self> {
        let (jobs, received) = channel();
        let (reader, refused) = (table.reader().clone(), Arc::new(AtomicUsize::new(0)));
        let maps = Maps { table, gates, refused: Refused::default(), count: Arc::clone(&refused) };
        let thread = thread::Builder::new().name("maps".into()).spawn(move || maps.serve(&received))?;
        Ok(Self { jobs, thread, reader, refused, since: Cell::new(None), opens: Cell::new(false) })
    }

    /// Makes changes of the maps, in their order; returns how many there were. A name that stays is there at every moment.
    ///
    /// # Errors
    /// Where the thread is no more.
    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<usize, DaemonError> {
        self.since.set(Some(Instant::now()));
        let changed = self.ask(|reply| Job::Apply(changes, reply)).await;
        self.since.set(None);
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

    /// For how long changes have waited to be written.
    pub(super) fn waiting(&self) -> Option<Duration> {
        self.since.get().map(|since| since.elapsed())
    }

    /// Whether it is about to open gates.
    pub(super) const fn is_opening(&self) -> bool {
        self.opens.get()
    }

    /// Reads the maps, while they are written.
    pub(super) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// How many names did not fit.
    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
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
    count: Arc<AtomicUsize>,
}

impl Maps {
    fn serve(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(BEAT) {
                Err(RecvTimeoutError::Disconnected) => return,
                // Names that found no slot for their hash are tried again when the index may take another key.
                Err(RecvTimeoutError::Timeout) => {
                    if self.table.takes_refused() {
                        self.apply(&[]);
                    }
                }
                Ok(Job::Apply(changes, reply)) => {
                    let changed = self.apply(&changes);
                    // Who asked may be gone.
                    let _ = reply.send(changed);
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

    /// Makes changes, in order; returns how many there were. What does not fit passes.
    fn apply(&mut self, changes: &[Change]) -> usize {
        let Self { table, gates, refused, count } = self;
        let (began, waits) = (Instant::now(), table.waits());
        let changed = table.batch(changes, |table, change| refused.change(table, gates, change));
        refused.complete(table, gates);
        count.store(refused.0.len(), Ordering::Relaxed);
        gates.set(|facts| facts.complete = refused.0.is_empty());
        let waits = table.waits() - waits;
        log::debug!("{changed} names changed in the maps in {:?}, with {waits} waits for programs", began.elapsed());
        changed
    }
}

/// Nodes that did not fit.
#[derive(Default)]
struct Refused(HashMap<Name, Node>);

impl Refused {
    fn change(&mut self, table: &mut Table, gates: &Gates, change: &Change) -> bool {
        match change {
            Change::Put(name, node) => self.put(table, gates, name, node),
            Change::Remove(name) => {
                self.0.remove(name);
                table.remove(name)
            }
        }
    }

    fn put(&mut self, table: &mut Table, gates: &Gates, name: &Name, node: &Node) -> bool {
        match table.put(name, node) {
            Ok(put) => {
                self.0.remove(name);
                put != Put::Same
            }
            Err(e) => {
                if self.0.is_empty() {
                    log::error!("names pass for lack of room: {e}");
                    // A name that is not there may be one that is said not to exist, or a wildcard's.
                    gates.set(|facts| facts.complete = false);
                    table.settle();
                }
                self.0.insert(name.clone(), node.clone());
                // What was there may be what shall be no more: it must not go on.
                table.remove(name)
            }
        }
    }

    /// Tries again what did not fit. Negative answers come back when all of it is there.
    fn complete(&mut self, table: &mut Table, gates: &Gates) {
        if self.0.is_empty() || table.len() == table.max_len() {
            return;
        }
        let mut changes: Vec<Change> = self.0.drain().map(|(name, node)| Change::Put(name, node)).collect();
        change::order(&mut changes);
        let mut left = changes.into_iter();
        for change in left.by_ref() {
            self.change(table, gates, &change);
            if !self.0.is_empty() {
                break;
            }
        }
        self.0.extend(left.filter_map(|c| if let Change::Put(n, node) = c { Some((n, node)) } else { None }));
    }
}
