//! Asks for a list of everything where nothing has failed, as when the daemon did not keep all that it was told.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::Notify;

use super::health::Kind;

/// Asks watches to list their objects anew. What is asked for more than once before it is done is done once.
#[derive(Debug, Clone, Default)]
pub struct Again([Asked; Kind::ALL.len()]);

impl Again {
    /// All objects of this kind come once more, as a list. That is no failure: the watch goes on until the list begins, and lists
    /// keep to the pace that they have after failures.
    pub fn ask(&self, kind: Kind) {
        self.0[kind as usize].0.notify_one();
    }

    pub(super) fn asked(&self, kind: Kind) -> Asked {
        self.0[kind as usize].clone()
    }
}

/// Whether that was asked for of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<Notify>);

impl Asked {
    /// Returns when it was. May be dropped and called again.
    pub(super) async fn wait(&self) {
        self.0.notified().await;
    }

    /// What was asked for until now is done.
    pub(super) fn done(&self) {
        let _ = self.wait().now_or_never();
    }
}
