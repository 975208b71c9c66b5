//! Attaches and detaches the program and checks what is attached, in its own thread: the kernel may take seconds for that, and
//! the heartbeat, commands and updates must not wait.

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

/// Interval of checks while no netlink notification reports a change.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Delay of a check after a notification: a change of a filter chain causes several, which one check covers.
const CHECK_DELAY: Duration = Duration::from_millis(10);
/// After a check, notifications cause no other one for this many times its duration.
const PAUSE_FACTOR: u32 = 4;

/// The attached programs, and the plan that the thread carries out.
pub(super) struct Attacher {
    /// None while the thread works on it.
    attachments: Option<Attachments>,
    work: Option<oneshot::Receiver<(Attachments, AttachReport)>>,
    worker: Worker,
    /// The plan to carry out after that.
    next: Option<AttachPlan>,
    /// Interfaces of the last plan, by number.
    interfaces: BTreeSet<u32>,
    /// None for tcx, of which the kernel sends no notifications, and after an error.
    messages: Option<Messages>,
    /// Time of the next check.
    next_check: Instant,
    /// When the last work began.
    began: Instant,
    /// Earliest time of a check that a notification causes.
    check_min: Instant,
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread. Dropping this waits for it. The runtime does not wait for its blocking threads when it shuts down, so filters
/// would stay attached.
struct Worker {
    /// None once it is being dropped.
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

    fn run(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // Fails only if the thread has panicked; then the result never arrives, which the caller notices.
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

/// State of the interfaces after the last work.
pub(super) struct Attached {
    /// Interfaces with the program.
    pub places: Vec<Place>,
    /// Why the program is not attached to other interfaces, one text each.
    pub unattached: Vec<String>,
}

impl Attacher {
    /// Starts the thread. Nothing is attached yet.
    ///
    /// # Errors
    /// If the thread or the netlink socket can't be created.
    pub(super) fn new(hook: Hook, direction: Direction) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            attachments: Some(Attachments::new(hook, direction)),
            work: None,
            worker: Worker::start()?,
            next: None,
            interfaces: BTreeSet::new(),
            messages: if hook == Hook::Tcx { None } else { Some(Messages::open()?) },
            next_check: now + CHECK_INTERVAL,
            began: now,
            check_min: now,
        })
    }

    /// Begins to carry out this plan, or does so after the current work. It replaces a plan that has not begun yet.
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
        self.worker.run(Box::new(move || {
            let report = work(&mut attachments);
            // Without a receiver, dropping the attachments detaches them.
            let _ = sender.send((attachments, report));
        }));
        self.work = Some(result);
    }

    /// Waits until some work is done. Returns a report of it and the state afterwards. Cancel safe.
    ///
    /// # Errors
    /// If the thread has panicked.
    pub(super) async fn done(&mut self) -> Result<(AttachReport, Attached), DaemonError> {
        loop {
            if let Some(work) = &mut self.work {
                let result = work.await.map_err(|e| DaemonError::System("attaching", io::Error::other(e)));
                let (attachments, report) = result?;
                return Ok((report, self.finish(attachments)));
            }
            tokio::select! {
                changed = changed(&mut self.messages) => {
                    if self.concerns(&changed) {
                        self.next_check = self.next_check.min((Instant::now() + CHECK_DELAY).max(self.check_min));
                    }
                }
                () = sleep_until(self.next_check) => self.begin(Attachments::check),
            }
        }
    }

    /// Records what is attached now, schedules the next check, and begins the next plan.
    fn finish(&mut self, attachments: Attachments) -> Attached {
        let now = Instant::now();
        self.check_min = now + PAUSE_FACTOR * (now - self.began);
        let due = attachments.due().map(Instant::from_std);
        self.next_check = due.map_or(now + CHECK_INTERVAL, |due| due.clamp(now, now + CHECK_INTERVAL));
        let attached =
            Attached { places: attachments.places().collect(), unattached: attachments.unattached().collect() };
        (self.attachments, self.work) = (Some(attachments), None);
        if let Some(plan) = self.next.take() {
            self.follow(plan);
        }
        attached
    }

    /// Whether an interface of the plan has changed.
    fn concerns(&self, changed: &Changed) -> bool {
        match changed {
            Changed::Of(interfaces) => interfaces.iter().any(|i| self.interfaces.contains(i)),
            Changed::Any => true,
        }
    }
}

/// Waits for the next notification; forever if there are none.
async fn changed(messages: &mut Option<Messages>) -> Changed {
    let Some(listening) = messages else { return pending().await };
    match listening.next().await {
        Ok(changed) => changed,
        Err(e) => {
            log::error!(
                "netlink notifications of filters ended: {e}; checking the filters every {} s",
                CHECK_INTERVAL.as_secs()
            );
            *messages = None;
            Changed::Any
        }
    }
}
