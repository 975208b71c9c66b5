//! Requests for a new list of a kind without a failure, such as when the daemon dropped objects that it could keep by now.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::Notify;

use super::health::Kind;

/// Asks watches to list their objects again. Several requests before the list count as one.
#[derive(Debug, Clone, Default)]
pub struct Relist([RelistRequests; Kind::ALL.len()]);

impl Relist {
    /// Requests a list of this kind. The watch continues until the list begins; it counts as no failure. Lists keep the pace
    /// that they have after failures.
    pub fn request(&self, kind: Kind) {
        self.0[kind as usize].0.notify_one();
    }

    pub(super) fn requests(&self, kind: Kind) -> RelistRequests {
        self.0[kind as usize].clone()
    }
}

/// The requests for one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct RelistRequests(Arc<Notify>);

impl RelistRequests {
    /// Returns when a list is requested. Cancel-safe.
    pub(super) async fn wait(&self) {
        self.0.notified().await;
    }

    /// Fulfills all requests made so far.
    pub(super) fn fulfill(&self) {
        let _ = self.wait().now_or_never();
    }
}
