//! Attaches and detaches in another thread: the kernel may take seconds for that, in which heart, commands and names go on.

use std::future::pending;

use tokio::task::{JoinHandle, spawn_blocking};

use super::DaemonError;
use crate::datapath::attach::{Attachments, Outcome, Plan};

/// What is attached, and what is to be.
pub(super) struct Attacher {
    /// None while it is worked on.
    attachments: Option<Attachments>,
    work: Option<JoinHandle<(Attachments, Outcome)>>,
    /// What comes after that.
    next: Option<Plan>,
}

impl Attacher {
    pub(super) const fn new(attachments: Attachments) -> Self {
        Self { attachments: Some(attachments), work: None, next: None }
    }

    /// Begins to make it as planned, in place of what was planned before and has not begun yet.
    pub(super) fn follow(&mut self, plan: Plan) {
        match self.attachments.take() {
            Some(mut attachments) => {
                self.work = Some(spawn_blocking(move || {
                    let outcome = attachments.reconcile(plan);
                    (attachments, outcome)
                }));
            }
            None => self.next = Some(plan),
        }
    }

    /// What was done, and the interfaces that have the program then, by number and name. Waits for ever where nothing is to be
    /// done. May be dropped and called again.
    pub(super) async fn done(&mut self) -> Result<(Outcome, Vec<(u32, String)>), DaemonError> {
        let Some(work) = &mut self.work else { return pending().await };
        let (attachments, outcome) = work.await.map_err(|e| DaemonError::System("attaching", e.into()))?;
        let attached = attachments.links().map(|l| (l.ifindex, l.name.clone())).collect();
        (self.attachments, self.work) = (Some(attachments), None);
        if let Some(plan) = self.next.take() {
            self.follow(plan);
        }
        Ok((outcome, attached))
    }
}
