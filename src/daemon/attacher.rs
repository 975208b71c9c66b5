//! Attaches, detaches and looks after what is attached in another thread: the kernel may take seconds for that, in which heart,
//! commands and names go on.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::error::DaemonError;
use crate::datapath::attach::{AttachPlan, AttachReport, Attachments, Changed, Direction, Hook, Messages, Place};

/// Between looks where no message says that anything has changed.
const LOOK: Duration = Duration::from_secs(10);
/// Changes of a chain come in several messages; they are looked at together.
const SETTLE: Duration = Duration::from_millis(10);
/// Where messages never end a look is followed by so many times its own time without one.
const REST: u32 = 4;

/// What is attached, and what is to be.
pub(super) struct Attacher {
    /// None while it is worked on.
    attachments: Option<Attachments>,
    work: Option<oneshot::Receiver<(Attachments, AttachReport)>>,
    worker: Worker,
    /// What comes after that.
    next: Option<AttachPlan>,
    /// Interfaces of the last plan.
    interfaces: BTreeSet<u32>,
    /// None where the kernel has no messages about it.
    messages: Option<Messages>,
    /// When it is looked after.
    look: Instant,
    /// When the last work began, and when there may be more.
    began: Instant,
    rest: Instant,
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread. One of the runtime's would be left behind when that ends, and filters with it: this one is waited for.
struct Worker {
    /// None at the end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start() -> io::Result<Self> {
        let (jobs, received) = channel::<Job>();
        let thread =
            thread::Builder::new().name("attacher".into()).spawn(move || received.iter().for_each(|job| job()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn give(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // It ends by a panic only, which shows in the result that does not come.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How it stands with the interfaces.
pub(super) struct Attached {
    /// That have the program.
    pub places: Vec<Place>,
    /// Why others have it not.
    pub unattached: Vec<String>,
}

impl Attacher {
    /// Nothing attached yet.
    pub(super) fn new(hook: Hook, direction: Direction) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            attachments: Some(Attachments::new(hook, direction)),
            work: None,
            worker: Worker::start()?,
            next: None,
            interfaces: BTreeSet::new(),
            messages: if hook == Hook::Tcx { None } else { Some(Messages::open()?) },
            look: now + LOOK,
            began: now,
            rest: now,
        })
    }

    /// Begins to make it as planned, in place of what was planned before and has not begun yet.
    pub(super) fn follow(&mut self, plan: AttachPlan) {
        self.interfaces = plan.interfaces().collect();
        if self.attachments.is_some() {
            self.begin(|attachments| attachments.reconcile(plan));
        } else {
            self.next = Some(plan);
        }
    }

    fn begin(&mut self, work: impl FnOnce(&mut Attachments) -> AttachReport + Send + 'static) {
        let Some(mut attachments) = self.attachments.take() else { return };
        self.began = Instant::now();
        let (sender, result) = oneshot::channel();
        self.worker.give(Box::new(move || {
            let report = work(&mut attachments);
            // Without a receiver they are detached here.
            let _ = sender.send((attachments, report));
        }));
        self.work = Some(result);
    }

    /// What was done, and how it stands then. Waits until something was. May be dropped and called again.
    pub(super) async fn done(&mut self) -> Result<(AttachReport, Attached), DaemonError> {
        loop {
            if let Some(work) = &mut self.work {
                let result = work.await.map_err(|e| DaemonError::System("attaching", io::Error::other(e)));
                let (attachments, report) = result?;
                return Ok((report, self.note(attachments)));
            }
            tokio::select! {
                changed = changed(&mut self.messages) => {
                    if self.concerns(&changed) {
                        self.look = self.look.min((Instant::now() + SETTLE).max(self.rest));
                    }
                }
                () = sleep_until(self.look) => self.begin(Attachments::check),
            }
        }
    }

    /// Takes note of what is attached now, and goes on with what is planned.
    fn note(&mut self, attachments: Attachments) -> Attached {
        let now = Instant::now();
        self.rest = now + REST * (now - self.began);
        let due = attachments.due().map(Instant::from_std);
        self.look = due.map_or(now + LOOK, |due| due.clamp(now, now + LOOK));
        let attached =
            Attached { places: attachments.places().collect(), unattached: attachments.unattached().collect() };
        (self.attachments, self.work) = (Some(attachments), None);
        if let Some(plan) = self.next.take() {
            self.follow(plan);
        }
        attached
    }

    fn concerns(&self, changed: &Changed) -> bool {
        match changed {
            Changed::Of(interfaces) => interfaces.iter().any(|i| self.interfaces.contains(i)),
            Changed::Any => true,
        }
    }
}

/// The next message; never, where there are none.
async fn changed(messages: &mut Option<Messages>) -> Changed {
    let Some(listening) = messages else { return pending().await };
    match listening.next().await {
        Ok(changed) => changed,
        Err(e) => {
            log::error!("netlink notifications of filters ended: {e}; checking the filters every {} s", LOOK.as_secs());
            *messages = None;
            Changed::Any
        }
    }
}
