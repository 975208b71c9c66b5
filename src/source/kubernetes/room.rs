//! How much may be on its way to be applied, whoever makes how much change: then the API server waits. A list that is longer
//! comes in parts.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::convert::{ServiceObject, SliceObject};

/// Endpoints and ports that wait to be applied, at most: some hundred octets each.
const ROOM: usize = 1 << 18;
/// Of a list so many come at once.
pub(super) const PART: usize = ROOM / 4;
/// What an object takes at least.
pub(super) const OBJECT: usize = 4;

/// The room for all kinds.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// What something takes of it, for as long as it is kept.
#[derive(Debug)]
pub struct Share(#[allow(dead_code, reason = "it is given back when it is dropped")] Option<OwnedSemaphorePermit>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

impl Room {
    /// Waits until there is room for so much. What is larger than all of it takes all.
    pub(super) async fn take(&self, size: usize) -> Share {
        // It is never closed.
        Share(Arc::clone(&self.0).acquire_many_owned(size.min(ROOM) as u32).await.ok())
    }
}

pub(super) fn service(object: &ServiceObject) -> usize {
    OBJECT + object.spec.ports.len()
}

pub(super) fn slice(object: &SliceObject) -> usize {
    let addresses: usize = object.spec.endpoints.iter().map(|e| 1 + e.addresses.len()).sum();
    OBJECT + addresses + object.spec.ports.len()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_waits_until_there_is_some() {
        let room = Room::default();
        let first = room.take(ROOM / 2).await;
        let _second = room.take(ROOM / 2).await;
        assert!(room.take(1).now_or_never().is_none());
        drop(first);
        assert!(room.take(1).now_or_never().is_some());
        assert!(room.take(10 * ROOM).now_or_never().is_none(), "it takes all of it");
    }
}
